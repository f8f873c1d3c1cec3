"""Hopping windows out of panes: pieces of time that every window is made of, so that a record is added once.

A pane is as long as the greatest common divisor of size and step. Window k is the panes [k * step, k * step + panes).
"""
from libc.stdint cimport int64_t

from streamdsl._native.windows.window_list cimport KeyWindows, WindowField


cdef enum:
    PANE_SUMMED = 128          # flags of an entry: it holds what this pane and all summed ones behind it add up to
    PANE_IN_TOTAL = 256        # it has been added to the total


cdef class PaneField(WindowField):
    """A key's panes, and in the row itself the total of some of them; see `PaneWindowOperator`."""
    cdef int64_t total_at                    # of the field's bytes

    cdef inline char* total(self, KeyWindows* windows) noexcept nogil:
        return <char*>windows + self.total_at

    cdef bint has_total(self, KeyWindows* windows) noexcept nogil            # whether a pane is in it
    cdef int clear_total(self, KeyWindows* windows) except -1 nogil


cdef class Panes:
    cdef readonly int64_t grace_ms
    cdef int64_t size_ms
    cdef int64_t every_ms
    cdef int64_t offset_ms
    cdef int64_t pane_ms
    cdef int64_t step                        # panes from one window to the next
    cdef int64_t count                       # panes of a window

    cdef int64_t pane_at(self, int64_t time) noexcept nogil          # number of the pane that holds the moment
    cdef int64_t last_window(self, int64_t time) noexcept nogil      # number of the last window that holds it
    cdef int64_t windows_at(self, int64_t time) noexcept nogil       # how many do: they have the numbers up to `last_window`
    cdef int64_t start_of(self, int64_t window) noexcept nogil       # ms
    cdef int64_t last_of(self, int64_t window) noexcept nogil        # ms: its last moment
    cdef int64_t first_with(self, int64_t pane) noexcept nogil       # number of the first window that has the pane
    cdef bint has(self, int64_t window, int64_t pane) noexcept nogil
    # Place among the key's panes of pane `window * step + more`, or of the first one behind it.
    cdef int64_t place_in(self, WindowField field, KeyWindows* windows, int64_t window, int64_t more) noexcept nogil
