"""Timers of Processors: keyed state, fired in order of time, then key bytes, then name."""
from libc.stdint cimport int64_t

from streamdsl._native.state.key_table cimport KeyTable

cdef enum:
    CLOCK_EVENT = 0
    CLOCK_PROCESSING = 1


cdef class TimerService:
    cdef KeyTable table                      # one row a timer, no fields; its key holds clock, time, name, user key
    cdef list heaps                          # per clock: heap of (time, key, name); may hold cancelled ones
    cdef int64_t next_times[2]               # per clock: time at the head of its heap, INT64_MAX = none
    cdef readonly int64_t fired

    cdef int noted(self, int clock) except -1    # keeps next_times in step with the heap
    # The time of the next timer (one that was cancelled may still count), INT64_MAX = none.
    cdef int64_t next_time(self, int clock) noexcept nogil
