"""Deadlines in a list, or in a heap by time: the first is the earliest."""
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef struct SlotDeadline:
    int64_t time
    int64_t id                 # what stands behind the time in the key of a row; 0 where the slot is that of the row
    uint64_t begins            # the first bytes of the slot's key, as `key_part`; 0 where the slot is that of the row
    uint32_t slot
    uint32_t stored            # the stream has a row of it: to be deleted when it is over


cdef struct SlotDeadlineList:
    SlotDeadline* at           # at[first .. n); of a heap `first` is 0
    int64_t first
    int64_t n
    int64_t capacity

cdef int list_append(SlotDeadlineList* items, const SlotDeadline* item) except -1 nogil
cdef int heap_push(SlotDeadlineList* heap, const SlotDeadline* item) except -1 nogil
cdef void heap_pop(SlotDeadlineList* heap) noexcept nogil
