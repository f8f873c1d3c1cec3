"""How the keys of rows with a deadline begin: a byte for the lane, then the time, biased and big-endian.

Bytes order as lane, time and rest do.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    DEADLINE_BYTES = 9         # of the lane and the time


cdef inline uint64_t big_endian(const char* data) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(8):
        value = (value << 8) | <unsigned char>data[i]
    return value


cdef inline void put_sorted(char* data, int64_t value) noexcept nogil:
    # Eight bytes that order as signed numbers do.
    cdef uint64_t biased = <uint64_t>value ^ (<uint64_t>1 << 63)
    cdef int i
    for i in range(8):
        data[i] = <char>(biased >> (56 - 8 * i))


cdef inline int64_t sorted_in(const char* data) noexcept nogil:
    return <int64_t>(big_endian(data) ^ (<uint64_t>1 << 63))


cdef inline int64_t deadline_in(const char* key) noexcept nogil:
    return sorted_in(key + 1)


cdef inline void put_deadline(char* key, int lane, int64_t time) noexcept nogil:
    key[0] = <char>lane
    put_sorted(key + 1, time)


cdef inline uint64_t key_part(const char* key, int64_t size, int64_t offset) noexcept nogil:
    """Eight bytes of a key as a number that is in their order; zeros stand behind its end."""
    cdef char[8] padded
    cdef int64_t left = size - offset
    if left >= 8:
        return big_endian(key + offset)
    (<uint64_t*>padded)[0] = 0
    if left > 0:
        memcpy(padded, key + offset, left)
    return big_endian(padded)


cdef inline int key_order(const char* left, int64_t left_size, const char* right, int64_t right_size) noexcept nogil:
    # Negative, 0, positive: as memcmp, a beginning before what it begins.
    cdef int order
    cdef uint64_t a, b
    if left_size >= 8 and right_size >= 8:
        a, b = big_endian(left), big_endian(right)
        if a != b:
            return -1 if a < b else 1
    order = memcmp(left, right, left_size if left_size < right_size else right_size)
    return order if order != 0 else (left_size > right_size) - (left_size < right_size)
