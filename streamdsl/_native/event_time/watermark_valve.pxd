"""The watermark of several inputs: their minimum, with idleness."""
from libc.stdint cimport int64_t


cdef class WatermarkValve:
    cdef readonly int size
    cdef int64_t* watermarks                 # last of each input, ms
    cdef bint* idle
    cdef bint* ended
    cdef bint* aligned                       # counts towards the minimum
    cdef readonly int64_t watermark          # what goes on downstream, ms
    cdef readonly bint all_idle
    cdef readonly bint all_ended

    cdef void on_watermark(self, int input, int64_t watermark) noexcept nogil
    cdef void on_status(self, int input, bint idle) noexcept nogil
    cdef void on_end(self, int input) noexcept nogil
    # All has been at `watermark` before: what is behind it stays out until it has caught up, but for inputs that are `new`.
    cdef void start_at(self, int64_t watermark, const bint* new) noexcept nogil
    cdef void follow(self, int64_t watermark) noexcept nogil     # go on to it while all inputs are idle
    cdef bint late(self, int input) noexcept                     # it would not count now
    cdef void settle(self) noexcept nogil
