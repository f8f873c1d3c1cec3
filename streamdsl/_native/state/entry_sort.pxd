"""Puts entries of a write stream in the order of their keys."""
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef struct SortItem:
    uint64_t high                            # the first 16 bytes of the key, big-endian: most comparisons end here
    uint64_t low
    const char* entry                        # in a segment
    uint32_t key_size
    uint32_t hash                            # of the key

cdef int compare_items(const void* left, const void* right) noexcept nogil       # SortItems, as qsort wants it
# There are fewer than 2 ** 32 items.
cdef void sort_entries(SortItem* items, int64_t n) noexcept nogil
