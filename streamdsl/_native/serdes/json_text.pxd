"""The small pieces of JSON, inline: blanks, digits, texts and literals.

Each takes where a piece begins and returns where it ends, NULL if it is not well-formed. Nothing at or behind `end` is read.
"""
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy

cdef extern from * nogil:
    """
    #ifndef SD_JSON_TEXT
    #define SD_JSON_TEXT
    #include <stdint.h>
    #include <string.h>
    /* What a letter behind a backslash stands for; 0 = there is no such escape (\\u is none of these). */
    static inline char sd_escaped(char letter) {
        switch (letter) {
            case '"': case '/': case 0x5c: return letter;
            case 'b': return 0x08;
            case 'f': return 0x0c;
            case 'n': return 0x0a;
            case 'r': return 0x0d;
            case 't': return 0x09;
        }
        return 0;
    }
    /* How many of the 8 bytes at p, which are copied to out, come before one that ends or escapes a text, or is not ASCII. */
    static inline int sd_plain_eight(const char *p, char *out) {
        uint64_t word;
        memcpy(&word, p, 8);
        memcpy(out, &word, 8);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        {
            const uint64_t ones = 0x0101010101010101ULL, high = 0x8080808080808080ULL;
            const uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * 0x5c);
            /* A borrow goes upwards only, and only the lowest mark counts. */
            const uint64_t found = (((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | word) & high;
            return found == 0 ? 8 : __builtin_ctzll(found) >> 3;
        }
    #else
        for (int i = 0; i < 8; i++) {
            const unsigned char c = (unsigned char)p[i];
            if (c < 0x20 || c == '"' || c == 0x5c || c >= 0x80) return i;
        }
        return 8;
    #endif
    }
    #endif
    """
    char escaped "sd_escaped"(char letter) noexcept
    int plain_eight "sd_plain_eight"(const char* p, char* out) noexcept

cdef inline const char* blanks(const char* p, const char* end) noexcept nogil:
    while p < end and (p[0] == c" " or p[0] == c"\t" or p[0] == c"\n" or p[0] == c"\r"):
        p += 1
    return p


cdef inline bint is_digit(const char* p, const char* end) noexcept nogil:
    return p < end and c"0" <= p[0] <= c"9"


cdef inline int hex_digit(char letter) noexcept nogil:
    if c"0" <= letter <= c"9":
        return letter - c"0"
    letter |= 32
    return letter - c"a" + 10 if c"a" <= letter <= c"f" else -1


cdef inline int hex_four(const char* p, const char* end) noexcept nogil:
    """The number of four hexadecimal digits, -1 if they are none."""
    cdef int i, digit, value = 0
    if end - p < 4:
        return -1
    for i in range(4):
        digit = hex_digit(p[i])
        if digit < 0:
            return -1
        value = value << 4 | digit
    return value


cdef inline int write_utf8(int code, char* out) noexcept nogil:
    if code < 0x80:
        out[0] = <char>code
        return 1
    if code < 0x800:
        out[0] = <char>(0xC0 | code >> 6)
        out[1] = <char>(0x80 | (code & 0x3F))
        return 2
    if code < 0x10000:
        out[0] = <char>(0xE0 | code >> 12)
        out[1] = <char>(0x80 | (code >> 6 & 0x3F))
        out[2] = <char>(0x80 | (code & 0x3F))
        return 3
    out[0] = <char>(0xF0 | code >> 18)
    out[1] = <char>(0x80 | (code >> 12 & 0x3F))
    out[2] = <char>(0x80 | (code >> 6 & 0x3F))
    out[3] = <char>(0x80 | (code & 0x3F))
    return 4


cdef inline const char* escape(const char* p, const char* end, char** out) noexcept nogil:
    """What a backslash (in front of `p`) begins: never longer than it is written."""
    cdef int code, low
    if p == end:
        return NULL
    if p[0] != c"u":
        out[0][0] = escaped(p[0])
        if out[0][0] == 0:
            return NULL
        out[0] += 1
        return p + 1
    code = hex_four(p + 1, end)
    p += 5
    if code < 0 or 0xDC00 <= code <= 0xDFFF:
        return NULL
    if 0xD800 <= code:
        if code <= 0xDBFF:
            if end - p < 6 or p[0] != c"\\" or p[1] != c"u":
                return NULL
            low = hex_four(p + 2, end)
            if not 0xDC00 <= low <= 0xDFFF:
                return NULL
            code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00))
            p += 6
    out[0] += write_utf8(code, out[0])
    return p


cdef inline int utf8_size(const char* p, const char* end) noexcept nogil:
    """The number of bytes of the character at `p`, which is not ASCII; 0 if it is none (RFC 3629)."""
    cdef uint8_t first = <uint8_t>p[0]
    cdef uint8_t second
    cdef int size = 2 if first < 0xE0 else (3 if first < 0xF0 else 4)
    cdef int i
    if first < 0xC2 or first > 0xF4 or end - p < size:
        return 0
    for i in range(1, size):
        if (<uint8_t>p[i]) & 0xC0 != 0x80:
            return 0
    second = <uint8_t>p[1]
    if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):
        return 0
    if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
        return 0
    return size


cdef inline const char* text(const char* p, const char* end, char** out) noexcept nogil:
    """A text behind its opening quote. There is room at `out` for what is left of the record, and SPARE bytes more."""
    cdef int size
    while True:
        if end - p >= 8:
            size = plain_eight(p, out[0])
            p += size
            out[0] += size
            if size == 8:
                continue
        elif p == end:
            return NULL
        if p[0] == c'"':
            return p + 1
        if p[0] == c"\\":
            p = escape(p + 1, end, out)
            if p == NULL:
                return NULL
            continue
        if <uint8_t>p[0] < 0x20:
            return NULL
        size = 1 if <uint8_t>p[0] < 0x80 else utf8_size(p, end)
        if size == 0:
            return NULL
        memcpy(out[0], p, size)
        p += size
        out[0] += size


cdef inline const char* literal(const char* p, const char* end, const char* word, int size) noexcept nogil:
    return p + size if end - p >= size and memcmp(p, word, size) == 0 else NULL
