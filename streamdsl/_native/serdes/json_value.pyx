"""See json_value.pxd."""
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from streamdsl._native.serdes.json_text cimport plain_eight
from streamdsl._native.serdes.number_text cimport double_text


cdef int64_t put_json_text(const char* data, int64_t size, char* out) noexcept nogil:
    cdef int64_t i = 0, at = 1
    cdef int plain
    cdef unsigned char c
    cdef const char* digits = "0123456789abcdef"
    out[0] = c'"'
    while i < size:
        if size - i >= 8:
            plain = plain_eight(data + i, out + at)
            i += plain
            at += plain
            if plain == 8:
                continue
        c = <unsigned char>data[i]
        i += 1
        if c >= 32:
            if c == c'"' or c == c"\\":
                out[at] = c"\\"
                at += 1
            out[at] = <char>c
            at += 1
        else:
            memcpy(out + at, b"\\u00", 4)
            out[at + 4] = digits[c >> 4]
            out[at + 5] = digits[c & 15]
            at += 6
    out[at] = c'"'
    return at + 1


cdef int64_t put_json_double(double value, char* out) noexcept nogil:
    if value != value:
        memcpy(out, b"NaN", 3)
        return 3
    if value - value != 0:
        memcpy(out, b"-Infinity", 9) if value < 0 else memcpy(out, b"Infinity", 8)
        return 9 if value < 0 else 8
    return double_text(value, out)


cdef int64_t put_json_bytes(const char* data, int64_t size, char* out) noexcept nogil:
    cdef const char* letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    cdef int64_t i, k, left, at = 1
    cdef uint32_t bits
    out[0] = c'"'
    for i in range(0, size, 3):
        left = min(size - i, 3)
        bits = 0
        for k in range(3):
            bits = (bits << 8) | (<unsigned char>data[i + k] if k < left else 0)
        for k in range(4):
            out[at] = letters[(bits >> (18 - 6 * k)) & 63] if k <= left else c"="
            at += 1
    out[at] = c'"'
    return at + 1
