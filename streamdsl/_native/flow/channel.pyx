"""A bounded queue of stream elements between two tasks.

Only records count against the bound: watermarks, statuses, barriers and END always find room, so control never waits
for data. Room for control is bounded all the same, because a watermark or status replaces one that is still last.
"""
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock, PyThread_type_lock, WAIT_LOCK,
)
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free, malloc

from streamdsl._native.flow.batch cimport batch_release, batch_sound
from streamdsl._native.includes.atomic cimport atomic_load, atomic_store
from streamdsl._native.includes.checked cimport CHECK


cdef bint coalesces(const StreamElement* last, const StreamElement* element) noexcept nogil:
    return last.kind == element.kind and last.round == element.round and (element.kind == WATERMARK or element.kind == STATUS)


cdef class Channel:
    """Single producer, single consumer; `max_records` batches."""

    def __cinit__(self, str name, int max_records):
        self.name = name
        self.max_records = max_records
        self.capacity = 2 * max_records + 8
        self.ring = <StreamElement*>malloc(self.capacity * sizeof(StreamElement))
        self.lock = <void*>PyThread_allocate_lock()
        if self.ring == NULL or self.lock == NULL:
            raise MemoryError("no memory left for a channel")

    def __dealloc__(self):
        cdef int64_t i
        for i in range(self.count):
            batch_release(self.ring[(self.head + i) % self.capacity].batch)
        free(self.ring)
        if self.lock != NULL:
            PyThread_free_lock(<PyThread_type_lock>self.lock)

    cdef int offer(self, StreamElement* element) except -1 nogil:
        cdef StreamElement* last
        cdef int taken = 1
        cdef bint full = False
        CHECK(batch_sound(element.batch if element.kind == RECORDS else NULL), "columns have n rows, offsets ascend within their buffer")
        PyThread_acquire_lock(<PyThread_type_lock>self.lock, WAIT_LOCK)
        CHECK(0 <= self.count <= self.capacity and 0 <= self.records <= self.max_records, "a channel's ring keeps its bounds")
        last = &self.ring[(self.head + self.count - 1) % self.capacity]
        if element.kind == RECORDS and self.records >= self.max_records:
            taken = 0
        elif self.count > 0 and coalesces(last, element):
            last.value = element.value
        elif self.count == self.capacity and not self._grow():
            full = True
        else:
            self.ring[(self.head + self.count) % self.capacity] = element[0]
            atomic_store(&self.count, self.count + 1)
            if element.kind == RECORDS:
                self.records += 1
        PyThread_release_lock(<PyThread_type_lock>self.lock)
        if full:
            with gil:
                raise MemoryError("no memory left for a channel")
        return taken

    cdef bint _grow(self) noexcept nogil:
        cdef int64_t i
        cdef StreamElement* ring = <StreamElement*>malloc(2 * self.capacity * sizeof(StreamElement))
        if ring == NULL:
            return False
        for i in range(self.count):
            ring[i] = self.ring[(self.head + i) % self.capacity]
        free(self.ring)
        self.ring = ring
        self.head = 0
        self.capacity *= 2
        return True

    cdef int poll(self, StreamElement* element) except -1 nogil:
        if atomic_load(&self.count) == 0:
            return 0
        PyThread_acquire_lock(<PyThread_type_lock>self.lock, WAIT_LOCK)
        CHECK(0 < self.count <= self.capacity and 0 <= self.head < self.capacity, "a channel's ring keeps its bounds")
        element[0] = self.ring[self.head]
        self.head = (self.head + 1) % self.capacity
        if element.kind == RECORDS:
            self.records -= 1
        atomic_store(&self.count, self.count - 1)
        PyThread_release_lock(<PyThread_type_lock>self.lock)
        return 1

    cdef int64_t head_round(self) noexcept nogil:
        cdef int64_t round
        if atomic_load(&self.count) == 0:
            return INT64_MAX
        PyThread_acquire_lock(<PyThread_type_lock>self.lock, WAIT_LOCK)
        round = self.ring[self.head].round
        PyThread_release_lock(<PyThread_type_lock>self.lock)
        return round

    def __len__(self):
        return self.count
