"""Windows of a key: which of them a record is in, when they are over, and what leaves.

Which windows there are says a Windower, what is in them a Contents; lateness, grace, emissions, late records and withdrawals are
the same for all. The windows of a key stand in its row behind the lookup; a table of its own says when the next one is due.
"""
from libc.stdint cimport int64_t

from streamdsl._native.operators.window_records cimport WindowRecords
from streamdsl._native.operators.window_rows cimport DueWindow
from streamdsl._native.windows.window_list cimport KeyWindows, WindowEntry


cdef class WindowOperator(WindowRecords):
    cdef DueWindow* due                      # scratch
    cdef int64_t* key_slots                  # scratch
    cdef int64_t due_capacity

    cdef int64_t limit_of(self, int lane) noexcept nogil
    cdef bint any_due(self) noexcept nogil
    cdef int reserve_due(self, int64_t n) except -1 nogil
    cdef int look_up_due(self, int64_t n) except -1 nogil                              # keys of the due rows: key_slots
    cdef int find_due(self, int lane, int64_t n) except -1 nogil
    cdef int put_behind(self, int64_t n, int64_t later) except -1 nogil
    cdef int close_due(self, int lane, int64_t n) except -1 nogil
    cdef void fetch_due(self, int64_t i) noexcept nogil
    cdef int forget_keys(self, int64_t n) except -1 nogil      # of the rows that were due
    cdef int act(self, int lane, int64_t slot, KeyWindows* windows, int64_t i) except -1 nogil
    cdef int show_last(self, int64_t slot, WindowEntry* entry) except -1 nogil
    cdef int show_throttled(self, int64_t n) except -1 nogil
    cdef int refuse_window(self, int64_t slot, WindowEntry* entry) except -1
    cdef int pass_on(self) except -1 nogil
