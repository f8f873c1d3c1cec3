"""The clock of a runtime: the machine's, or one that a test moves."""
from streamdsl._native.includes.clock cimport monotonic_ns, wall_ms


cdef class Clock:
    """The machine's clock."""

    cdef int64_t now_ms(self) noexcept nogil:
        return wall_ms()

    cdef int64_t now_ns(self) noexcept nogil:
        return monotonic_ns()

    def runs(self):
        """Return whether it goes on by itself, so that work can be measured with it."""
        return True

    def time_ms(self):
        """Return the wall clock in ms."""
        return self.now_ms()

    def monotonic_ms(self):
        """Return a time in ms that never goes back; intervals and timeouts are measured with it."""
        return self.now_ns() // 1_000_000


cdef class ManualClock(Clock):
    """A clock that stands still until `ms` is set."""

    def __init__(self, int64_t ms=0):
        self.ms = ms

    def runs(self):
        """Return that it stands still."""
        return False

    cdef int64_t now_ms(self) noexcept nogil:
        return self.ms

    cdef int64_t now_ns(self) noexcept nogil:
        return self.ms * 1000000
