"""The watermark of several inputs: their minimum, with idleness.

The valve only remembers; the task reads `watermark`, `all_idle` and `all_ended` afterwards and passes on what changed.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free

from streamdsl._native.includes.checked cimport PLANTED


cdef class WatermarkValve:
    """Inputs are numbered from 0; all start active, at the lowest watermark."""

    def __cinit__(self, int size):
        cdef int i
        self.size = size
        self.watermark = INT64_MIN
        self.watermarks = <int64_t*>calloc(size + 1, sizeof(int64_t))
        self.idle = <bint*>calloc(3 * size + 1, sizeof(bint))
        if self.watermarks == NULL or self.idle == NULL:
            raise MemoryError("no memory left for a watermark valve")
        self.ended = self.idle + size
        self.aligned = self.ended + size
        for i in range(size):
            self.watermarks[i] = INT64_MIN
            self.aligned[i] = True

    def __dealloc__(self):
        free(self.watermarks)
        free(self.idle)

    cdef void on_watermark(self, int input, int64_t watermark) noexcept nogil:
        if self.idle[input] or self.ended[input] or watermark <= self.watermarks[input]:
            return
        self.watermarks[input] = watermark
        if watermark >= self.watermark:
            self.aligned[input] = True
        self.settle()

    cdef void on_status(self, int input, bint idle) noexcept nogil:
        if self.ended[input] or self.idle[input] == idle:
            return
        self.idle[input] = idle
        # One that wakes behind the output stays out of the minimum until it has caught up: time never goes back.
        self.aligned[input] = not idle and (self.watermarks[input] >= self.watermark or PLANTED("woken-input-holds-watermark"))
        self.settle()

    cdef void on_end(self, int input) noexcept nogil:
        self.ended[input] = True
        self.idle[input] = False
        self.aligned[input] = False
        self.settle()

    cdef void start_at(self, int64_t watermark, const bint* new) noexcept nogil:
        cdef int i
        self.watermark = max(self.watermark, watermark)
        for i in range(self.size):
            self.aligned[i] = not self.ended[i] and (new[i] or self.watermarks[i] >= watermark)
        self.settle()

    cdef void follow(self, int64_t watermark) noexcept nogil:
        if self.all_idle and watermark > self.watermark:
            self.watermark = watermark

    cdef void settle(self) noexcept nogil:
        cdef int i
        cdef int64_t low = INT64_MAX, idle_high = INT64_MIN
        cdef bint any_aligned = False, any_active = False, any_idle = False, any_ending = False
        for i in range(self.size):
            if self.ended[i]:
                continue
            if self.watermarks[i] == INT64_MAX and not PLANTED("ending-input-counts"):
                any_ending = True                # its end follows: it says nothing of those that are only idle
                continue
            if self.idle[i] and not PLANTED("idle-input-holds-watermark"):
                any_idle = True
                if self.watermarks[i] > idle_high:
                    idle_high = self.watermarks[i]
                continue
            any_active = True
            if self.aligned[i]:
                any_aligned = True
                if self.watermarks[i] < low:
                    low = self.watermarks[i]
        self.all_ended = not any_active and not any_idle and not any_ending
        self.all_idle = any_idle and not any_active
        if not any_active and not any_idle:
            self.watermark = INT64_MAX
        elif any_aligned and low > self.watermark:
            self.watermark = low
        elif self.all_idle and idle_high > self.watermark:
            self.watermark = idle_high

    cdef bint late(self, int input) noexcept:
        return self.watermarks[input] < self.watermark if self.idle[input] else not self.aligned[input]

    def behind(self):
        """Return the inputs that woke behind the watermark and have not caught up, and those that are idle and would wake behind it."""
        return [i for i in range(self.size) if not self.ended[i] and self.late(i)]

    def timely(self):
        """Return the other inputs that have not ended."""
        return [i for i in range(self.size) if not self.ended[i] and not self.late(i)]

    # What tests use to drive the valve.
    def advance(self, int input, int64_t watermark):
        self.on_watermark(input, watermark)
        return self.watermark

    def set_idle(self, int input, bint idle):
        self.on_status(input, idle)
        return self.watermark

    def end(self, int input):
        self.on_end(input)
        return self.watermark
