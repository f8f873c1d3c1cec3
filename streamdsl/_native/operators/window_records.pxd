"""Records into the windows of their keys.

Rows about windows stand in window_rows.pxd, what goes by time in window.pxd.
"""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.event_time.clock cimport Clock
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.window_code cimport CodeContents
from streamdsl._native.operators.window_rows cimport WindowRows
from streamdsl._native.state.deadlines cimport Deadlines
from streamdsl._native.state.key_list cimport KeyList
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.state.slot_deadlines cimport SlotDeadlines
from streamdsl._native.state.write_stream cimport ByteWriter
from streamdsl._native.windows.window_list cimport KeyWindows, WindowEntry
from streamdsl._native.windows.windower cimport Wanted

cdef enum Emission:
    EMIT_CLOSE = 0             # a row when the window closes
    EMIT_UPDATE = 1            # a row whenever it has changed
    EMIT_ON_TIME = 2           # a row when W passes its last moment, then one for each record within grace
    EMIT_THROTTLE = 3          # changed windows now and then, by the wall clock

cdef enum WindowLane:
    LANE_DUE = 0               # rows of the index: something is to be shown, or the window is over
    LANE_DROP = 1              # the window has been shown for the last time; it is only to be dropped
    LANE_CHANGED = 2           # it has changed since its last row (EMIT_THROTTLE); the time is 0
    LANES = 3


cdef class WindowRecords(WindowRows):
    cdef CodeContents code                   # the same, None: the contents are aggregates
    cdef Deadlines deadlines
    cdef SlotDeadlines slots                 # those of them that are no rows
    cdef bint letters                        # records of the batch at hand have been refused
    cdef bint as_rows                        # what is filed now becomes a row
    cdef Clock clock
    cdef Emission emission
    cdef bint straight                       # a record is in one window at most, whose bounds and end are a matter of time alone
    cdef bint by_row                         # a record is added when it is assigned, not with the others of its batch
    cdef int64_t throttle_ms
    cdef int64_t throttled_until             # wall clock, ms; INT64_MAX: nothing has changed
    cdef int64_t watermark
    cdef int64_t late_refusals               # windows that refused a record
    cdef int64_t closed                      # windows
    # Of the batch at hand
    cdef int32_t batch_number
    cdef bint evaluated
    cdef int64_t n_pairs                     # `states` and `rows`: records that are still to be added
    cdef int32_t* late_rows
    cdef int64_t late_capacity
    cdef int32_t n_late
    cdef KeyList wanted                      # scratch: keys to be looked up together
    cdef char* tail                          # scratch: id and user's key
    cdef int64_t tail_capacity
    # Of the record at hand, so that it can be taken back
    cdef ByteWriter before                   # the key's windows; empty: they have not changed
    cdef int64_t refusals_before
    cdef int64_t* filed                      # rows of the index that it has added
    cdef int64_t n_filed
    cdef int64_t filed_capacity

    cdef int take_straight(self, Batch* batch) except -1 nogil       # `take_record` of all rows
    # The key's window, if there is no other; opened if there is none. NULL: there is another.
    cdef int only_window(self, int64_t slot, KeyWindows* windows, const Wanted* wanted, WindowEntry** only) except -1 nogil
    cdef int take_record(self, Batch* batch, int32_t row) except -1 nogil
    cdef int take_session(self, Batch* batch, int32_t row, int64_t slot, KeyWindows* windows, int64_t watermark) except -1 nogil
    cdef int take_wanted(
        self, Batch* batch, int32_t row, int64_t slot, KeyWindows* windows, Wanted* wanted, int64_t watermark
    ) except -1 nogil
    cdef int grow_session(
        self, int64_t slot, KeyWindows* windows, WindowEntry* into, int64_t start, int64_t last, int64_t watermark
    ) except -1 nogil
    cdef int refuse_late(self, int32_t row) except -1 nogil
    # One whose windows would begin before time does.
    cdef int refuse_early(self, Batch* batch, int32_t row, int64_t watermark) except -1 nogil
    cdef int change_key(self, int64_t slot, KeyWindows* windows) except -1 nogil      # before its windows are changed
    cdef WindowEntry* open_window(self, int64_t slot, KeyWindows* windows, int64_t i, Wanted* wanted, int64_t watermark) except NULL nogil
    cdef int add_record(self, WindowEntry* entry, KeyWindows* windows, Batch* batch, int32_t row) except -1 nogil
    cdef int add_to(self, Batch* batch, int32_t row, char* state) except -1 nogil
    cdef int after_change(self, int64_t slot, KeyWindows* windows, WindowEntry* entry, int32_t row, int64_t watermark) except -1 nogil
    cdef int add_pending(self) except -1 nogil
    cdef int need_columns(self, Batch* batch) except -1 nogil
    cdef int64_t file(self, int64_t slot, WindowEntry* entry, int lane) except -1 nogil
    cdef int unfile(self, int64_t slot, WindowEntry* entry) except -1 nogil
    cdef int64_t tail_of(self, int64_t slot, int64_t id) except -1 nogil               # fills `tail`, returns its size
    cdef int64_t file_as(self, int64_t slot, int lane, int64_t time, int64_t id) except -1 nogil
    cdef int close_window(self, KeyWindows* windows, int64_t i) except -1 nogil
    cdef bint near(self, KeyWindows* windows, int64_t time, int64_t last, int64_t watermark, int64_t* first, int64_t* behind) noexcept nogil
    cdef bint would_take(self, int64_t slot, int64_t time) noexcept nogil
    cdef int prepare(self, Batch* batch) except -1 nogil
