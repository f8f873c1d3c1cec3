"""What time it is: asked through an object, so that tests can move it."""
from libc.stdint cimport int64_t


cdef class Clock:
    cdef int64_t now_ms(self) noexcept nogil         # wall clock, ms since the epoch
    cdef int64_t now_ns(self) noexcept nogil         # monotonic


cdef class ManualClock(Clock):
    cdef public int64_t ms
