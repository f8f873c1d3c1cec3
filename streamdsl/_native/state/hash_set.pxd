"""A set of 64-bit hashes: 8 bytes a place, of which at least a quarter are free."""
from libc.stdint cimport int64_t, uint64_t


cdef struct HashSet:
    uint64_t* at               # 0: free
    int64_t n
    int64_t capacity           # a power of two, 0: nothing has been put in yet

# Both take any number: 0 is kept as 1.
cdef int hashes_add(HashSet* hashes, uint64_t hash) except -1 nogil
cdef bint hashes_have(const HashSet* hashes, uint64_t hash) noexcept nogil
cdef void hashes_free(HashSet* hashes) noexcept nogil         # empties it as well: it may be used again
