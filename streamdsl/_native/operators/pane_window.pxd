"""Hopping windows that are put together from panes: see panes.pxd."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.accumulators cimport Accumulator, AccumulatorSet
from streamdsl._native.operators.window cimport WindowOperator
from streamdsl._native.windows.panes cimport PaneField, Panes
from streamdsl._native.windows.window_list cimport KeyWindows, WindowEntry


# Where a moment is. Most records are in the pane of the one before them.
cdef struct PanePlace:
    int64_t start              # ms: the same is true of all moments [start, end)
    int64_t end
    int64_t pane               # number
    int64_t first              # numbers of the windows that hold it
    int64_t last
    int64_t first_ends         # ms: the last moment of the first


cdef class PaneWindowOperator(WindowOperator):
    cdef Panes panes
    cdef PaneField pane_field                # the same as `field`
    cdef PanePlace place                     # of the record at hand
    cdef AccumulatorSet sums                 # the accumulators; None: none of them can grow too large
    cdef bint watching                       # some pane has been so large that a window's sum may not fit
    cdef char* made                          # scratch: the entry of a window that is shown
    cdef char* copied                        # scratch: contents on their way into others

    cdef int find_place(self, int64_t time) noexcept nogil                     # fills `place`
    cdef int look_for_overflow(self, int64_t n) except -1 nogil                # the first n pairs have just been added
    cdef int check_windows(self, int32_t row) except -1 nogil                  # fails if this record makes a window's sum too large
    cdef int check_window(self, Accumulator sum, KeyWindows* windows, int64_t window) except -1 nogil
    cdef int take_panes(self, int64_t slot, KeyWindows* windows, int64_t window) except -1 nogil   # it is the next one that is due
    cdef WindowEntry* pane_of(self, KeyWindows* windows, int64_t pane) except NULL nogil
    cdef int add_copy(self, char* into, char* source) except -1 nogil          # of contents; the source stays
    cdef int gather(self, KeyWindows* windows, int64_t n) except -1 nogil      # its first n panes are summed, or in the total
    cdef int sum_up(self, KeyWindows* windows, int64_t n) except -1 nogil
    cdef int64_t following(self, KeyWindows* windows, int64_t window) noexcept nogil   # the next window with a pane; its own number: none
    cdef WindowEntry* window_made(self, int64_t window) noexcept nogil         # an entry without contents
