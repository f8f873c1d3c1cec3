"""Rows about windows on their way out.

Contents gather what they have to say of each window that is shown; its key and its bounds stand beside it.
"""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.keyed cimport KeyedOperator
from streamdsl._native.windows.contents cimport Change, Contents, Shown
from streamdsl._native.windows.window_list cimport KeyWindows, WindowEntry, WindowField
from streamdsl._native.windows.windower cimport Windower


# The window of a due row, as far as it still has one.
cdef struct DueWindow:
    int64_t slot               # of the key
    int64_t id
    int64_t row                # of the index; -1: nothing is to be done


cdef class WindowRows(KeyedOperator):
    cdef Windower windower
    cdef Contents contents
    cdef WindowField field                   # of the key's row
    cdef bint changes                        # rows say what they are: the last column is `op`
    cdef int n_keys
    cdef int n_results                       # columns of the contents
    cdef int64_t passed                      # the last watermark that was passed on
    cdef Batch* batch                        # the one at hand; NULL: time moves
    cdef int64_t arrived                     # arrival number of its first record
    cdef Shown* shown                        # rows on their way out, of which the contents have the rest
    cdef int64_t n_shown
    cdef int64_t shown_capacity
    cdef int64_t most_shown                  # so many are sent together
    cdef DueWindow* touched                  # windows that are shown behind the batch (contents that are shown once a batch)
    cdef int64_t n_touched
    cdef int64_t touched_capacity
    cdef int64_t shown_before                # of `shown`: what was there before the record at hand

    cdef inline KeyWindows* windows_of(self, int64_t slot) noexcept nogil:
        return <KeyWindows*>(self.lookup.table.row(slot) + self.field.offset)

    cdef void fetch_key(self, int64_t slot) noexcept nogil                  # its row, into the cache
    cdef void fetch_windows(self, KeyWindows* windows) noexcept nogil        # what closing one of them touches, into the cache
    cdef void fetch_latest(self, KeyWindows* windows) noexcept nogil         # the same of what a record touches
    cdef int touch_window(self, int64_t slot, WindowEntry* entry) except -1 nogil
    cdef int show(self, int64_t slot, WindowEntry* entry, int32_t row, Change change) except -1 nogil
    cdef int show_change(self, int64_t slot, WindowEntry* entry, int32_t row) except -1 nogil
    cdef int show_batch(self, Batch* batch) except -1 nogil
    cdef int send_shown(self) except -1 nogil
    cdef int flush_shown(self) except -1 nogil
    cdef Batch* shown_rows(self) except NULL nogil
    cdef int fill_changes(self, Batch* out) except -1 nogil
    cdef void put_shown(self, int64_t i, int64_t slot, const WindowEntry* entry) noexcept nogil      # shown[i]: a row that time brings
    cdef int reserve_shown(self, int64_t n) except -1 nogil
