"""Slots in a row that grows."""
from libc.stdint cimport int64_t


cdef struct SlotList:
    int64_t* at
    int64_t n
    int64_t capacity

cdef int slots_grow(SlotList* slots) except -1 nogil
cdef void slots_free(SlotList* slots) noexcept nogil

cdef inline int slots_push(SlotList* slots, int64_t slot) except -1 nogil:
    if slots.n == slots.capacity:
        slots_grow(slots)
    slots.at[slots.n] = slot
    slots.n += 1
    return 0
