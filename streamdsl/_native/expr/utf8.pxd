"""Code points in UTF-8, inline."""
from libc.stdint cimport int64_t, uint8_t, uint32_t


cdef inline bint is_head(char byte) noexcept nogil:
    """Whether a code point begins here."""
    return (<uint8_t>byte & 0xC0) != 0x80


cdef inline int64_t code_points(const char* source, int64_t size) noexcept nogil:
    cdef int64_t k, n = 0
    for k in range(size):
        n += is_head(source[k])
    return n


cdef inline int64_t offset_of(const char* source, int64_t size, int64_t index) noexcept nogil:
    """Where code point `index` begins; size if there are fewer."""
    cdef int64_t k
    for k in range(size):
        if is_head(source[k]):
            if index == 0:
                return k
            index -= 1
    return size


cdef inline int64_t last_head(const char* source, int64_t size) noexcept nogil:
    """Where the last code point begins; there is one."""
    cdef int64_t n = size - 1
    while n > 0 and not is_head(source[n]):
        n -= 1
    return n


cdef inline uint32_t code_point(const char* source, int64_t size) noexcept nogil:
    """The code point of 1 to 3 bytes at source; 0 for longer ones, none of which is white."""
    cdef const uint8_t* bytes = <const uint8_t*>source
    if bytes[0] < 0x80:
        return bytes[0]
    if bytes[0] < 0xE0 and size >= 2:
        return (bytes[0] & 0x1F) << 6 | bytes[1] & 0x3F
    if bytes[0] < 0xF0 and size >= 3:
        return (bytes[0] & 0x0F) << 12 | (bytes[1] & 0x3F) << 6 | bytes[2] & 0x3F
    return 0


cdef inline bint is_white(uint32_t c) noexcept nogil:
    """Unicode's White_Space."""
    if c < 128:
        return c == 32 or 9 <= c <= 13
    return (c == 0x85 or c == 0xA0 or c == 0x1680 or 0x2000 <= c <= 0x200A or c == 0x2028 or c == 0x2029 or c == 0x202F
            or c == 0x205F or c == 0x3000)
