"""Which keys may be cold (in the database alone): a blocked Bloom filter that grows by whole layers.

Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom Filters" (2007); layers as in Almeida et al.: "Scalable
Bloom Filters" (2007). It never denies a key that was added.
"""
from libc.stdint cimport int64_t, uint64_t


cdef struct FilterLayer:
    uint64_t* blocks           # of 8 words: one cache line
    uint64_t mask              # blocks - 1
    int64_t added
    int64_t room               # keys it is made for


cdef struct ColdFilter:
    FilterLayer[24] layers     # each twice as large as the one before
    int n_layers
    bint everything            # no memory was left for another layer: any key may be cold

cdef bint filter_has(const ColdFilter* filter, uint64_t hash) noexcept nogil
cdef void filter_add(ColdFilter* filter, uint64_t hash) noexcept nogil
cdef void filter_clear(ColdFilter* filter) noexcept nogil
cdef int64_t filter_bytes(const ColdFilter* filter) noexcept nogil
