"""See slot_list.pxd."""
from libc.stdlib cimport free, realloc


cdef int slots_grow(SlotList* slots) except -1 nogil:
    cdef int64_t capacity = slots.capacity * 2 + 64
    cdef int64_t* grown = <int64_t*>realloc(slots.at, capacity * sizeof(int64_t))
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
