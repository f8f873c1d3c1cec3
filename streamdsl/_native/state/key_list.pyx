"""See key_list.pxd."""
from libc.stdint cimport INT32_MAX
from libc.stdlib cimport free, realloc

from streamdsl._native.state.write_stream cimport bytes_append, bytes_free, bytes_reserve

from streamdsl.errors import StateError


cdef int reserve(KeyList* keys, int64_t n) except -1 nogil:
    cdef int32_t* grown
    if n + 1 <= keys.capacity:
        return 0
    grown = <int32_t*>realloc(keys.offsets, 2 * (n + 1) * sizeof(int32_t))
    if grown == NULL:
        with gil:
            raise MemoryError("no memory left for keys")
    keys.offsets = grown
    keys.capacity = 2 * (n + 1)
    return 0


cdef int too_large() except -1 nogil:
    with gil:
        raise StateError("the keys of one batch have more than 2 GiB together", remedy="lower batch_rows")


cdef int keys_clear(KeyList* keys) except -1 nogil:
    reserve(keys, 63)
    keys.values.used = 0
    bytes_reserve(&keys.values, 1)         # an empty key has an address too
    keys.offsets[0] = 0
    keys.n = 0
    return 0


cdef int keys_push(KeyList* keys, const char* head, int64_t head_size, const char* tail, int64_t tail_size) except -1 nogil:
    if keys.values.used + head_size + tail_size > INT32_MAX:
        too_large()
    reserve(keys, keys.n + 1)
    bytes_append(&keys.values, head, head_size)
    bytes_append(&keys.values, tail, tail_size)
    keys.n += 1
    keys.offsets[keys.n] = <int32_t>keys.values.used
    return 0


cdef void keys_free(KeyList* keys) noexcept nogil:
    bytes_free(&keys.values)
    free(keys.offsets)
    keys.offsets = NULL
