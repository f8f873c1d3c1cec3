"""Puts deadlines in their order: by time, number, and key."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from streamdsl._native.state.row_table cimport RowHeader


cdef struct SortedItem:
    uint64_t[4] parts          # the last ones first: 16 bytes of the key, the id, the time; as numbers without a sign
    uint32_t slot
    uint32_t stored
    const RowHeader* header    # of the key


# Eight bytes of the key as a number that is in their order; zeros stand behind its end.
cdef uint64_t part_at(const RowHeader* header, int64_t offset) noexcept nogil
# Sorts `rows`, behind which there is room for as many again, and returns where the result is.
cdef SortedItem* sorted_items(SortedItem* rows, int64_t n) noexcept nogil
