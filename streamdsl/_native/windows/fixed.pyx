"""Tumbling and hopping windows: [start, start + size), one beginning every so often, whatever the records are."""
cimport cython
from libc.stdint cimport int64_t

from streamdsl._native.windows.assign cimport window_end, window_start, windows_of
from streamdsl._native.windows.window_list cimport KeyWindows, WindowField
from streamdsl._native.windows.windower cimport Windower

cdef enum:
    MOST_INSIDE = 2            # tumbling: the one that fills, and the one that waits for the watermark


@cython.final
cdef class FixedWindower(Windower):
    cdef int64_t size_ms
    cdef int64_t every_ms
    cdef int64_t offset_ms

    def __init__(self, window):
        Windower.__init__(self, window)
        self.size_ms, self.every_ms, self.offset_ms = window.size_ms, window.every_ms, window.offset_ms
        self.half_open = True
        self.inside = MOST_INSIDE if self.every_ms >= self.size_ms else 0

    cdef int assign(self, WindowField field, KeyWindows* windows, int64_t time) except -1 nogil:
        cdef int64_t k, start
        self.n = 0
        for k in range(windows_of(time, self.size_ms, self.every_ms, self.offset_ms) - 1, -1, -1):
            start = window_start(time, self.every_ms, self.offset_ms, k)
            self.want(start, start, window_end(start, self.size_ms) - 1)
        return 0
