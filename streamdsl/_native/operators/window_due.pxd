"""Windows whose moment has come: which they are, and what becomes of them."""
from libc.stdint cimport int64_t

from streamdsl._native.operators.window_records cimport WindowRecords
from streamdsl._native.operators.window_rows cimport DueWindow
from streamdsl._native.state.deadline_heap cimport SlotDeadline
from streamdsl._native.windows.window_list cimport KeyWindows, WindowEntry


cdef class WindowDue(WindowRecords):
    cdef DueWindow* due                      # scratch
    cdef int64_t* key_slots                  # scratch
    cdef int64_t due_capacity
    cdef bint one_window                     # windows of different ends or ids are not closed together

    cdef int64_t limit_of(self, int lane) noexcept nogil
    cdef int reserve_due(self, int64_t n) except -1 nogil
    cdef int look_up_due(self, int64_t n) except -1 nogil                              # keys of the due rows: key_slots
    cdef int find_due(self, int lane, int64_t n) except -1 nogil
    cdef int put_behind(self, int64_t n, int64_t later) except -1 nogil
    cdef int close_due(self, int lane, int64_t n) except -1 nogil
    cdef void fetch_due(self, int64_t i) noexcept nogil
    # The same of those that are no rows of the index.
    cdef int64_t find_slots(self, int lane, int64_t limit, int64_t most) except -1 nogil     # returns how many of `slots.ready` to close
    cdef bint awaited(self, int lane, SlotDeadline* item) except -1 nogil    # whether something is due then, as far as can be told
    cdef bint is_due(self, int lane, KeyWindows* windows, SlotDeadline* item) except -1 nogil
    cdef int close_slots(self, int lane, int64_t n) except -1 nogil
    cdef int close_straight(self, int64_t n) except -1 nogil         # the same of windows as `take_straight` makes them

    cdef int begin_closing(self, int64_t n) except -1 nogil                  # of so many windows at most
    cdef int end_closing(self, int64_t n) except -1 nogil
    cdef int forget_keys(self, int64_t n) except -1 nogil                    # of the rows that were due: key_slots
    cdef int act(self, int lane, int64_t slot, KeyWindows* windows, int64_t i) except -1 nogil
    cdef int show_last(self, int64_t slot, WindowEntry* entry) except -1 nogil
    cdef int refuse_window(self, int64_t slot, WindowEntry* entry) except -1
