"""See windower.pxd. Each kind of window has a file of its own beside this one."""
from libc.stdint cimport INT64_MIN
from libc.stdlib cimport free, realloc

from streamdsl.errors import InternalError


cdef class Windower:
    """Base. `window` is a `WindowSpec` of the physical plan."""

    def __init__(self, window):
        self.grace_ms = window.grace_ms
        self.inside = 1
        self.lowest = INT64_MIN

    def __dealloc__(self):
        free(self.wanted)

    cdef int assign(self, WindowField field, KeyWindows* windows, int64_t time) except -1 nogil:
        self.n = 0
        return 0

    cdef Wanted* want(self, int64_t id, int64_t start, int64_t last) except NULL nogil:
        cdef Wanted* more
        if self.n == self.capacity:
            more = <Wanted*>realloc(self.wanted, (2 * self.n + 8) * sizeof(Wanted))
            if more == NULL:
                with gil:
                    raise MemoryError("no memory left for windows")
            self.wanted = more
            self.capacity = 2 * self.n + 8
        more = self.wanted + self.n
        more.id, more.start, more.last = id, start, last
        more.copies = more.at_record = False
        more.takes = True
        more.source = 0
        self.n += 1
        return more


cdef Windower new_windower(window):
    # The kinds import this module, so they are named late.
    from streamdsl._native.windows.count import CountWindower
    from streamdsl._native.windows.days import DaysWindower
    from streamdsl._native.windows.fixed import FixedWindower
    from streamdsl._native.windows.session import SessionWindower
    from streamdsl._native.windows.sliding import SlidingWindower

    kinds = {"tumbling": FixedWindower, "hopping": FixedWindower, "days": DaysWindower, "session": SessionWindower,
             "sliding": SlidingWindower, "count": CountWindower}
    if window.kind not in kinds:
        raise InternalError(f"there is no window {window.kind!r}")
    return kinds[window.kind](window)
