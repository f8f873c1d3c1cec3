"""How far tasks that share no channel are in event time.

Behind an exchange every task hears of the time of all sources, so that windows close whoever goes on. Where keys stay in the
task that reads them nobody hears of anybody: a task with nothing to read would keep its windows open for ever. It looks here.
Idleness is a matter of the wall clock, so it does not matter when exactly it looks.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free

from streamdsl._native.includes.atomic cimport atomic_load, atomic_store


cdef class PeerTime:
    """`size` tasks, from 0; all start active, at the lowest watermark."""

    def __cinit__(self, int size):
        cdef int i
        self.size = size
        self.watermarks = <int64_t*>calloc(size + 1, sizeof(int64_t))
        self.states = <int64_t*>calloc(size + 1, sizeof(int64_t))
        if self.watermarks == NULL or self.states == NULL:
            raise MemoryError("no memory left for the time of tasks")
        for i in range(size):
            self.watermarks[i] = INT64_MIN

    def __dealloc__(self):
        free(self.watermarks)
        free(self.states)

    cdef void tell(self, int task, int64_t watermark, int state) noexcept nogil:
        atomic_store(&self.watermarks[task], watermark)
        atomic_store(&self.states[task], state)

    cdef int64_t reached(self, int task) noexcept nogil:
        """The rule of the watermark valve: the lowest of those that go on; if none does, the highest of the idle ones."""
        cdef int i
        cdef int64_t state, watermark, low = INT64_MAX, idle_high = INT64_MIN
        cdef bint any_active = False
        for i in range(self.size):
            state = atomic_load(&self.states[i])
            watermark = atomic_load(&self.watermarks[i])
            if i == task or state == PEER_ENDED or watermark == INT64_MAX:
                continue
            if state == PEER_IDLE:
                idle_high = max(idle_high, watermark)
            else:
                any_active = True
                low = min(low, watermark)
        return low if any_active else idle_high

    # What tests use.
    def say(self, int task, int64_t watermark, int state):
        self.tell(task, watermark, state)

    def reached_by_others(self, int task):
        return self.reached(task)
