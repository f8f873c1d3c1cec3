"""Count windows: so many records of a key, one window beginning every so many of them. Time has no part in it."""
cimport cython
from libc.stdint cimport int64_t

from streamdsl._native.windows.window_list cimport KeyWindows, WindowEntry, WindowField
from streamdsl._native.windows.windower cimport Windower


@cython.final
cdef class CountWindower(Windower):
    cdef int64_t every

    def __init__(self, window):
        Windower.__init__(self, window)
        self.full, self.every = window.size_ms, window.every_ms
        self.inside = 1 if self.every >= self.full else 0

    cdef int assign(self, WindowField field, KeyWindows* windows, int64_t time) except -1 nogil:
        cdef int64_t i
        cdef WindowEntry* entry
        self.n = 0
        for i in range(windows.n):
            entry = field.at(windows, i)
            self.want(entry.id, min(entry.start, time), max(entry.last, time))
        if field.seen(windows)[0] % self.every == 0:
            self.want(field.seen(windows)[0], time, time)
        return 0
