"""Keys one behind the other, as the batch lookups of a key table take them."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.state.write_stream cimport ByteWriter


cdef struct KeyList:
    ByteWriter values
    int32_t* offsets           # n + 1
    int64_t n
    int64_t capacity

cdef int keys_clear(KeyList* keys) except -1 nogil             # before the first use too; memory is zeroed until then
# One more key: `head` and then `tail`, each of so many bytes, 0 included.
cdef int keys_push(KeyList* keys, const char* head, int64_t head_size, const char* tail, int64_t tail_size) except -1 nogil
cdef void keys_free(KeyList* keys) noexcept nogil
