"""See slot_list.pxd."""
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, realloc


cdef int slots_grow(SlotList* slots) except -1 nogil:
    cdef int64_t capacity = slots.capacity + slots.capacity // 2 + 64
    cdef uint32_t* grown = <uint32_t*>realloc(slots.at, capacity * sizeof(uint32_t))
    if grown == NULL:
        with gil:
            raise MemoryError("no memory left for state")
    slots.at = grown
    slots.capacity = capacity
    return 0


cdef void slots_free(SlotList* slots) noexcept nogil:
    free(slots.at)
    slots.at = NULL
    slots.n = 0
    slots.capacity = 0
