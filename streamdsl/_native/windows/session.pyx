"""Sessions: records at most `gap` apart belong together. Each record is a session of its own until it is united with others."""
cimport cython
from libc.stdint cimport int64_t

from streamdsl._native.windows.window_list cimport KeyWindows, WindowField
from streamdsl._native.windows.windower cimport Windower, saturated


@cython.final
cdef class SessionWindower(Windower):
    cdef int64_t gap_ms

    def __init__(self, window):
        Windower.__init__(self, window)
        self.gap_ms = window.size_ms
        self.merges = True

    cdef int assign(self, WindowField field, KeyWindows* windows, int64_t time) except -1 nogil:
        self.n = 0
        self.want(time, time, saturated(time, self.gap_ms))
        return 0
