"""The index of a key table: open addressing over 32 bits of the hash and the slot, so growing and erasing never read a row."""
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef struct IndexEntry:
    uint32_t hash
    uint32_t slot              # + 1; 0 = empty


cdef struct KeyIndex:
    IndexEntry* entries        # linear probing
    uint64_t mask              # entries - 1
    uint64_t used

cdef int index_init(KeyIndex* index) except -1 nogil
cdef int index_put(KeyIndex* index, uint64_t hash, int64_t slot) except -1 nogil     # the key is absent; grows at 5/8
cdef void index_erase(KeyIndex* index, uint64_t hash, int64_t slot) noexcept nogil
cdef void index_clear(KeyIndex* index) noexcept nogil
cdef int64_t index_bytes(const KeyIndex* index) noexcept nogil
cdef void index_free(KeyIndex* index) noexcept nogil
