"""Days of a time zone: from the first moment of a local date to that of the next, 23, 24 or 25 hours later."""
cimport cython
from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport free, malloc

from streamdsl._native.windows.assign cimport saturating_add, saturating_subtract, since_start
from streamdsl._native.windows.window_list cimport KeyWindows, WindowField
from streamdsl._native.windows.windower cimport Windower


cdef int64_t REPEATED_MS = 16_725_225_600_000   # 2500-01-01: what comes behind is as it was a cycle of the calendar before
cdef int64_t CYCLE_MS = 12_622_780_800_000      # 400 years


@cython.final
cdef class DaysWindower(Windower):
    """`window.transitions`: (moment in ms, offset from UTC in ms from there on), ascending; the first moment is of no meaning."""
    cdef int64_t size_ms
    cdef int64_t offset_ms
    cdef int64_t* moments                    # where another offset begins
    cdef int64_t* offsets
    cdef int64_t n_offsets

    def __init__(self, window):
        cdef int64_t i
        Windower.__init__(self, window)
        self.size_ms, self.offset_ms = window.size_ms, window.offset_ms
        self.half_open = True
        self.inside = 1
        self.n_offsets = len(window.transitions)
        self.moments = <int64_t*>malloc(max(self.n_offsets, 1) * sizeof(int64_t))
        self.offsets = <int64_t*>malloc(max(self.n_offsets, 1) * sizeof(int64_t))
        if self.moments == NULL or self.offsets == NULL:
            raise MemoryError("no memory left for a time zone")
        for i in range(self.n_offsets):
            self.moments[i], self.offsets[i] = window.transitions[i]

    def __dealloc__(self):
        free(self.moments)
        free(self.offsets)

    cdef int assign(self, WindowField field, KeyWindows* windows, int64_t time) except -1 nogil:
        cdef int64_t ahead = self.offsets[self.at(time)]
        cdef int64_t since = since_start(time, self.size_ms, self.offset_ms - ahead)
        cdef int64_t next = saturating_add(time, ahead - since + self.size_ms)
        cdef int64_t start = self.first_moment(saturating_add(time, ahead - since)), end = self.first_moment(next)
        self.n = 0
        # Where clocks go back over midnight, a local date comes twice: the moments of the second time are in the day that has begun.
        while time >= end and end < INT64_MAX:
            next = saturating_add(next, self.size_ms)
            start, end = end, self.first_moment(next)
        self.want(start, start, saturating_subtract(end, 1))
        return 0

    cdef int64_t at(self, int64_t time) noexcept nogil:
        """The place of the offset that holds at a moment."""
        cdef int64_t low = 1, high = self.n_offsets, middle
        time -= cycles_behind(time)
        while low < high:
            middle = (low + high) >> 1
            if self.moments[middle] <= time:
                low = middle + 1
            else:
                high = middle
        return low - 1

    cdef int64_t first_moment(self, int64_t local) noexcept nogil:
        """The first moment at which clocks show `local`, or later where they jump over it."""
        cdef int64_t behind = cycles_behind(local), i, moment
        local -= behind
        i = self.at(saturating_subtract(local, 2 * 86_400_000))
        while i + 1 < self.n_offsets and saturating_add(self.moments[i + 1], self.offsets[i]) <= local:
            i += 1
        moment = saturating_subtract(local, self.offsets[i])
        return saturating_add(max(moment, self.moments[i]) if i > 0 else moment, behind)


cdef int64_t cycles_behind(int64_t time) noexcept nogil:
    """How far to go back, in whole cycles of the calendar, to where the table of offsets tells of it."""
    return ((time - REPEATED_MS) // CYCLE_MS + 1) * CYCLE_MS if time >= REPEATED_MS else 0
