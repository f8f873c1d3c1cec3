"""Puts deadlines in their order: by time, number, and key."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from streamdsl._native.state.deadline_heap cimport SlotDeadline
from streamdsl._native.state.row_table cimport RowTable


cdef struct RankedItem:
    uint64_t rank              # among the others, as far as the first bytes in which they differ tell
    uint32_t item

# What `scratch` has room for, an item: a RankedItem, and a SlotDeadline or another RankedItem.
cdef enum:
    SORT_BYTES = 40

# Sorts by ranks, of which `most` is the greatest there may be. `other` has room for n, too; the result is in one of the two.
cdef RankedItem* by_rank(RankedItem* ranks, RankedItem* other, int64_t n, uint64_t most) noexcept nogil
# `keys` is the table of the slots. There are fewer than 2 ** 32 items.
cdef void sort_deadlines(SlotDeadline* items, RankedItem* scratch, int64_t n, RowTable keys) noexcept nogil
