"""Puts deadlines in their order: by time, number, and key."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from streamdsl._native.state.deadline_heap cimport SlotDeadline
from streamdsl._native.state.row_table cimport RowTable


cdef struct RankedItem:
    uint64_t rank              # among the others, as far as the first bytes in which they differ tell
    uint32_t item

# `keys` is the table of the slots; `scratch` has room for twice as many. There are fewer than 2 ** 32 items.
cdef void sort_deadlines(SlotDeadline* items, RankedItem* scratch, int64_t n, RowTable keys) noexcept nogil
