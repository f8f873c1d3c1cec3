"""Sliding windows as Kafka Streams has them: [a, a + size], closed at both ends, one ending at each record and one beginning just
after each, without empty or repeated ones.

A window that is new begins with what another one has in it. Of the windows that begin before `end - size` the last one, if there
is a record in [end - size, end) at all, holds just these: a record that it has and they do not would have a window that begins
behind it, a record that they have and it has not one that ends at it; both would begin later, and still before `end - size`. That
is why closed windows are kept a while.
"""
cimport cython
from libc.stdint cimport INT64_MIN, int64_t

from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.windows.assign cimport saturating_add, saturating_subtract
from streamdsl._native.windows.window_list cimport WINDOW_AT_RECORD, KeyWindows, WindowEntry, WindowField
from streamdsl._native.windows.windower cimport Wanted, Windower, saturated


@cython.final
cdef class SlidingWindower(Windower):
    cdef int64_t size_ms

    def __init__(self, window):
        Windower.__init__(self, window)
        self.size_ms = window.size_ms
        self.kept_ms = saturated(self.size_ms, 1)
        self.reach = self.size_ms            # the id of a window is its start
        self.lowest = saturating_add(INT64_MIN, self.size_ms)
        self.inside = 0

    cdef int assign(self, WindowField field, KeyWindows* windows, int64_t time) except -1 nogil:
        cdef int64_t left = saturating_subtract(time, self.size_ms), before, i, n = windows.n
        cdef int64_t first = field.place_of(windows, left), behind = first
        cdef bint ends_here = first < n and field.at(windows, first).id == left
        cdef bint new_left = not ends_here
        cdef bint has_before
        self.n = 0
        if new_left:
            self.want_from(field, windows, left, time)
        has_before = self.last_record(field, windows, time, &before)
        while behind < n and field.at(windows, behind).id <= time:
            behind += 1
        i = first
        # The one beginning just behind the last record before this one: it has been empty so far.
        if has_before and before + 1 > left and before + 1 <= time:
            while i < behind and field.at(windows, i).id < before + 1:
                self.want_entry(field.at(windows, i))
                i += 1
            if i == n or field.at(windows, i).id != before + 1:
                self.want(before + 1, before + 1, saturated(before + 1, self.size_ms))
        while i < behind:
            self.want_entry(field.at(windows, i))
            i += 1
        for i in range(self.n):
            self.wanted[i].at_record = self.wanted[i].id == left
        if behind == n or field.at(windows, behind).id != time + 1:
            self.want_behind(field, windows, time)
        return 0

    cdef int want_entry(self, WindowEntry* entry) except -1 nogil:
        self.want(entry.id, entry.start, entry.last)
        return 0

    cdef int want_from(self, WindowField field, KeyWindows* windows, int64_t start, int64_t end) except -1 nogil:
        """Want [start, end], with the records in it but those at `end`."""
        cdef Wanted* wanted = self.want(start, start, end)
        cdef int64_t record, i = field.place_of(windows, start)
        if i > 0 and self.last_record(field, windows, end, &record) and record >= start:
            wanted.copies = True
            wanted.source = field.at(windows, i - 1).id
        return 0

    cdef int want_behind(self, WindowField field, KeyWindows* windows, int64_t time) except -1 nogil:
        """Want the window that begins just behind `time`, if there is a record in it."""
        cdef int64_t start = saturated(time, 1), end = saturated(start, self.size_ms), record
        cdef Wanted* wanted
        if (start > time and not PLANTED("sliding-window-behind-missing") and self.last_record(field, windows, end, &record)
                and record >= start):
            self.want_from(field, windows, start, end)
            wanted = &self.wanted[self.n - 1]
            wanted.takes = False
            wanted.at_record = False
        return 0

    cdef bint last_record(self, WindowField field, KeyWindows* windows, int64_t end, int64_t* time) noexcept nogil:
        """Whether there is a record before `end`, and the time of the last: windows that end at one tell."""
        cdef int64_t i = field.place_of(windows, saturating_subtract(end, self.size_ms)) - 1
        while i >= 0:
            if field.at(windows, i).flags & WINDOW_AT_RECORD:
                time[0] = field.at(windows, i).last
                return True
            i -= 1
        return False
