"""Hopping windows that are put together from panes: see panes.pxd."""
from libc.stdint cimport int64_t

from streamdsl._native.operators.window cimport WindowOperator
from streamdsl._native.windows.panes cimport PaneContents, Panes
from streamdsl._native.windows.window_list cimport KeyWindows, WindowEntry

cdef enum:
    PANE_SUMMED = 128          # flags of an entry: it holds what this pane and all summed ones behind it add up to
    PANE_IN_TOTAL = 256        # it has been added to the total, which stands behind the last such pane's own contents


cdef class PaneWindowOperator(WindowOperator):
    cdef Panes panes
    cdef PaneContents pane_contents          # the same as `contents`
    cdef char* made                          # scratch: the entry of a window that is shown
    cdef char* copied                        # scratch: contents on their way into others

    cdef int take_panes(self, int64_t slot, KeyWindows* windows, int64_t window) except -1 nogil   # it is the next one that is due
    cdef WindowEntry* pane_of(self, KeyWindows* windows, int64_t pane) except NULL nogil
    cdef int add_copy(self, char* into, char* source) except -1 nogil          # of contents; the source stays
    cdef char* total_of(self, KeyWindows* windows) noexcept nogil              # NULL: no pane is in it
    cdef int gather(self, KeyWindows* windows, int64_t n) except -1 nogil      # its first n panes are summed, or in the total
    cdef int sum_up(self, KeyWindows* windows, int64_t n) except -1 nogil
    cdef int64_t following(self, KeyWindows* windows, int64_t window) noexcept nogil   # the next window with a pane; its own number: none
    cdef WindowEntry* window_made(self, int64_t window) noexcept nogil         # an entry without contents
