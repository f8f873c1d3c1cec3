"""See hash_set.pxd."""
from libc.stdlib cimport calloc, free


cdef int64_t place_of(const HashSet* hashes, uint64_t hash) noexcept nogil:
    cdef int64_t at = <int64_t>(hash & <uint64_t>(hashes.capacity - 1))
    while hashes.at[at] != 0 and hashes.at[at] != hash:
        at = (at + 1) & (hashes.capacity - 1)
    return at


cdef int grow(HashSet* hashes) except -1 nogil:
    cdef HashSet grown
    cdef int64_t i
    grown.capacity = max(2 * hashes.capacity, <int64_t>64)
    grown.n = hashes.n
    grown.at = <uint64_t*>calloc(grown.capacity, sizeof(uint64_t))
    if grown.at == NULL:
        with gil:
            raise MemoryError("no memory left for hashes")
    for i in range(hashes.capacity):
        if hashes.at[i] != 0:
            grown.at[place_of(&grown, hashes.at[i])] = hashes.at[i]
    free(hashes.at)
    hashes[0] = grown
    return 0


cdef int hashes_add(HashSet* hashes, uint64_t hash) except -1 nogil:
    cdef int64_t at
    hash = max(hash, <uint64_t>1)
    if 4 * hashes.n >= 3 * hashes.capacity:
        grow(hashes)
    at = place_of(hashes, hash)
    hashes.n += hashes.at[at] == 0
    hashes.at[at] = hash
    return 0


cdef bint hashes_have(const HashSet* hashes, uint64_t hash) noexcept nogil:
    hash = max(hash, <uint64_t>1)
    return hashes.n > 0 and hashes.at[place_of(hashes, hash)] == hash


cdef void hashes_free(HashSet* hashes) noexcept nogil:
    free(hashes.at)
    hashes.at = NULL
    hashes.n = hashes.capacity = 0
