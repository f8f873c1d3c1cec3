"""See deadline_heap.pxd."""
from libc.stdlib cimport realloc

from streamdsl._native.includes.checked cimport CHECK


cdef int list_append(SlotDeadlineList* items, const SlotDeadline* item) except -1 nogil:
    cdef SlotDeadline* more
    if items.n == items.capacity:
        more = <SlotDeadline*>realloc(items.at, (2 * items.n + 2) * sizeof(SlotDeadline))
        if more == NULL:
            with gil:
                raise MemoryError("no memory left for deadlines")
        items.at = more
        items.capacity = 2 * items.n + 2
    items.at[items.n] = item[0]
    items.n += 1
    return 0


cdef int heap_push(SlotDeadlineList* heap, const SlotDeadline* item) except -1 nogil:
    cdef int64_t at = heap.n
    list_append(heap, item)
    while at > 0 and heap.at[(at - 1) >> 1].time > item.time:
        heap.at[at] = heap.at[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap.at[at] = item[0]
    return 0


cdef void heap_pop(SlotDeadlineList* heap) noexcept nogil:
    cdef int64_t at = 0, child = 1
    cdef SlotDeadline last
    CHECK(heap.n > 0, "what is due was noted")
    CHECK(heap.n < 2 or heap.at[0].time <= heap.at[1].time, "the first deadline stands first in the heap")
    heap.n -= 1
    last = heap.at[heap.n]
    while child < heap.n:
        if child + 1 < heap.n and heap.at[child + 1].time < heap.at[child].time:
            child += 1
        if last.time <= heap.at[child].time:
            break
        heap.at[at] = heap.at[child]
        at = child
        child = 2 * at + 1
    heap.at[at] = last
