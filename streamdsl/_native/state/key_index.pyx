"""See key_index.pxd."""
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from streamdsl._native.state.key_hash cimport huge_alloc

cdef enum:
    FIRST_ENTRIES = 64
    HUGE_PAGE = 2097152


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for the index of a state table")


cdef int index_init(KeyIndex* index) except -1 nogil:
    index.entries = <IndexEntry*>calloc(FIRST_ENTRIES, sizeof(IndexEntry))
    index.mask = FIRST_ENTRIES - 1
    index.used = 0
    return no_memory() if index.entries == NULL else 0


cdef int grow(KeyIndex* index) except -1 nogil:
    cdef uint64_t old_size = index.mask + 1
    cdef uint64_t mask = old_size * 2 - 1
    cdef uint64_t i, at
    cdef size_t size = old_size * 2 * sizeof(IndexEntry)
    cdef IndexEntry* old = index.entries
    cdef IndexEntry* grown = <IndexEntry*>(huge_alloc(size) if size >= HUGE_PAGE else malloc(size))
    if grown == NULL:
        no_memory()
    memset(grown, 0, size)
    for i in range(old_size):
        if old[i].slot != 0:
            at = old[i].hash & mask
            while grown[at].slot != 0:
                at = (at + 1) & mask
            grown[at] = old[i]
    free(old)
    index.entries = grown
    index.mask = mask
    return 0


cdef int index_put(KeyIndex* index, uint64_t hash, int64_t slot) except -1 nogil:
    cdef uint64_t at
    if (index.used + 1) * 8 > (index.mask + 1) * 5:
        grow(index)
    at = <uint32_t>hash & index.mask
    while index.entries[at].slot != 0:
        at = (at + 1) & index.mask
    index.entries[at].hash = <uint32_t>hash
    index.entries[at].slot = <uint32_t>(slot + 1)
    index.used += 1
    return 0


cdef void index_erase(KeyIndex* index, uint64_t hash, int64_t slot) noexcept nogil:
    # Closes the gap by moving later entries of the cluster back: no tombstones, lookups stay short.
    cdef IndexEntry* entries = index.entries
    cdef uint64_t mask = index.mask
    cdef uint64_t hole = <uint32_t>hash & mask
    cdef uint64_t at, home
    while entries[hole].slot != <uint32_t>(slot + 1):
        hole = (hole + 1) & mask
    at = (hole + 1) & mask
    while entries[at].slot != 0:
        home = entries[at].hash & mask
        if ((at - home) & mask) >= ((at - hole) & mask):
            entries[hole] = entries[at]
            hole = at
        at = (at + 1) & mask
    entries[hole].slot = 0
    index.used -= 1


cdef void index_clear(KeyIndex* index) noexcept nogil:
    memset(index.entries, 0, (index.mask + 1) * sizeof(IndexEntry))
    index.used = 0


cdef int64_t index_bytes(const KeyIndex* index) noexcept nogil:
    return <int64_t>((index.mask + 1) * sizeof(IndexEntry))


cdef void index_free(KeyIndex* index) noexcept nogil:
    free(index.entries)
    index.entries = NULL
