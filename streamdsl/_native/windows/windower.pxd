"""Which windows a record opens or joins. Pure: a windower sees the key's open windows and a time, and changes nothing."""
from libc.stdint cimport int64_t

from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.windows.window_list cimport KeyWindows, WindowField


# A window that should be there once the record has been taken.
cdef struct Wanted:
    int64_t id
    int64_t start
    int64_t last
    int64_t source             # id of the window whose contents it begins with, if `copies`
    bint copies
    bint takes                 # the record is in it
    bint at_record             # it ends at the record's time (sliding)


cdef class Windower:
    cdef readonly int64_t grace_ms
    cdef readonly int64_t kept_ms            # a closed window is kept so long, since others may begin with what is in it
    cdef readonly int64_t full               # records after which a window closes; 0: time closes it
    cdef readonly bint merges                # windows that touch one another become one
    cdef readonly bint half_open             # the end is the moment behind the last one
    cdef readonly int64_t lowest             # ms: of a record before it some windows begin so early that they have no id
    cdef readonly int64_t reach              # ms from such a record to the last moment of its last window
    cdef readonly int inside                 # windows of a key that are kept in its row
    cdef Wanted* wanted                      # by id; wanted[0 .. n) is what `assign` has found
    cdef int64_t n
    cdef int64_t capacity

    cdef int assign(self, WindowField field, KeyWindows* windows, int64_t time) except -1 nogil
    cdef Wanted* want(self, int64_t id, int64_t start, int64_t last) except NULL nogil

    # Whether a window takes records, and has not been closed.
    cdef inline bint is_open(self, int64_t last, int64_t watermark) noexcept nogil:
        return self.full > 0 or watermark < saturated(last, self.grace_ms) + PLANTED("window-takes-at-its-end")

    cdef inline int64_t end_of(self, int64_t last) noexcept nogil:
        return saturated(last, 1) if self.half_open else last


cdef inline int64_t saturated(int64_t time, int64_t more) noexcept nogil:
    # `more` is not negative.
    cdef int64_t most = 0x7FFFFFFFFFFFFFFF
    return most if time > most - more else time + more


cdef Windower new_windower(window)           # of a `WindowSpec` of the physical plan
