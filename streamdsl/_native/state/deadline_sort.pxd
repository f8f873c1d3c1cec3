"""Puts deadlines in their order: by time, number, and key."""
from libc.stdint cimport int64_t

from streamdsl._native.state.deadline_heap cimport SlotDeadline
from streamdsl._native.state.rank_sort cimport RankedItem
from streamdsl._native.state.row_table cimport RowTable

# What `scratch` has room for, an item: a RankedItem, and a SlotDeadline or another RankedItem.
cdef enum:
    SORT_BYTES = 48

# `keys` is the table of the slots. There are fewer than 2 ** 32 items.
cdef void sort_deadlines(SlotDeadline* items, RankedItem* scratch, int64_t n, RowTable keys) noexcept nogil
