"""Slots in a row that grows. A table has fewer than 2 ** 32."""
from libc.stdint cimport int64_t, uint32_t


cdef struct SlotList:
    uint32_t* at
    int64_t n
    int64_t capacity

cdef int slots_grow(SlotList* slots) except -1 nogil
cdef void slots_free(SlotList* slots) noexcept nogil

cdef inline int slots_push(SlotList* slots, int64_t slot) except -1 nogil:
    if slots.n == slots.capacity:
        slots_grow(slots)
    slots.at[slots.n] = <uint32_t>slot
    slots.n += 1
    return 0
