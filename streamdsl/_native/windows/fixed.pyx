"""Tumbling and hopping windows: [start, start + size), one beginning every so often, whatever the records are."""
cimport cython
from libc.stdint cimport INT64_MIN, int64_t

from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.windows.assign cimport saturating_add, saturating_subtract, since_start, window_number, windows_of
from streamdsl._native.windows.window_list cimport KeyWindows, WindowField
from streamdsl._native.windows.windower cimport Windower, saturated

cdef enum:
    FAR = 0x3FFFFFFFFFFFFFFF   # ms from the epoch: the bounds of windows that are nearer are times


@cython.final
cdef class FixedWindower(Windower):
    cdef int64_t size_ms
    cdef int64_t every_ms
    cdef int64_t offset_ms

    def __init__(self, window):
        Windower.__init__(self, window)
        self.size_ms, self.every_ms, self.offset_ms = window.size_ms, window.every_ms, window.offset_ms
        self.half_open = True
        if self.every_ms == 1:               # the number of a window is its start
            self.reach = self.size_ms - 1
            self.lowest = saturating_add(INT64_MIN, self.reach)
        self.inside = 1 if self.every_ms >= self.size_ms else 0

    cdef int assign(self, WindowField field, KeyWindows* windows, int64_t time) except -1 nogil:
        cdef int64_t since, before, k, number
        # Most records are in the window of the one before them.
        if (self.inside > 0 and self.n == 1 and self.wanted[0].start <= time <= self.wanted[0].last
                and -<int64_t>FAR < self.wanted[0].start and self.wanted[0].last < <int64_t>FAR):
            return 0
        since = since_start(time, self.every_ms, self.offset_ms)
        number = window_number(time, self.every_ms, self.offset_ms)
        self.n = 0
        for k in range(windows_of(time, self.size_ms, self.every_ms, self.offset_ms) - 1, -1, -1):
            before = since + k * self.every_ms
            # Several windows may begin before time does, and have one start: their numbers and last moments tell them apart.
            self.want(saturating_subtract(number, k), saturating_subtract(time, before),
                      saturated(time, self.size_ms - 1 + PLANTED("window-ends-late") - before))
        return 0
