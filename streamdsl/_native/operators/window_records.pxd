"""Records into the windows of their keys, and rows about these on their way out.

What of it goes by time stands in window.pxd.
"""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.event_time.clock cimport Clock
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.keyed cimport KeyedOperator
from streamdsl._native.operators.window_code cimport CodeContents
from streamdsl._native.state.deadlines cimport Deadlines
from streamdsl._native.state.key_list cimport KeyList
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.state.write_stream cimport ByteWriter
from streamdsl._native.windows.contents cimport Change, Contents, Shown
from streamdsl._native.windows.window_list cimport KeyWindows, WindowEntry, WindowField
from streamdsl._native.windows.windower cimport Wanted, Windower

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


# The window of a due row, as far as it still has one.
cdef struct DueWindow:
    int64_t slot               # of the key
    int64_t id
    int64_t row                # of the index; -1: nothing is to be done


cdef class WindowRecords(KeyedOperator):
    cdef Windower windower
    cdef Contents contents
    cdef CodeContents code                   # the same, None: the contents are aggregates
    cdef WindowField field                   # of the key's row
    cdef Deadlines deadlines
    cdef Clock clock
    cdef Emission emission
    cdef bint changes                        # rows say what they are: the last column is `op`
    cdef bint by_row                         # a record is added when it is assigned, not with the others of its batch
    cdef int n_keys
    cdef int n_results                       # columns of the contents
    cdef int64_t throttle_ms
    cdef int64_t throttled_until             # wall clock, ms; INT64_MAX: nothing has changed
    cdef int64_t watermark
    cdef int64_t passed                      # the last watermark that was passed on
    cdef int64_t late_refusals               # windows that refused a record
    cdef int64_t closed                      # windows
    # Of the batch at hand
    cdef Batch* batch
    cdef int32_t batch_number
    cdef int64_t arrived
    cdef bint evaluated
    cdef int64_t n_pairs                     # `states` and `rows`: records that are still to be added
    cdef int32_t* late_rows
    cdef int64_t late_capacity
    cdef int32_t n_late
    cdef Shown* shown                        # rows on their way out, of which the contents have the rest
    cdef int64_t n_shown
    cdef int64_t shown_capacity
    cdef int64_t most_shown                  # so many are sent together
    cdef DueWindow* touched                  # windows that are shown behind the batch (contents that are shown once a batch)
    cdef int64_t n_touched
    cdef int64_t touched_capacity
    cdef KeyList wanted                      # scratch: keys to be looked up together
    cdef char* tail                          # scratch: id and user's key
    cdef int64_t tail_capacity
    # Of the record at hand, so that it can be taken back
    cdef ByteWriter before                   # the key's windows; empty: they have not changed
    cdef int64_t shown_before
    cdef int64_t refusals_before
    cdef int64_t* filed                      # rows of the index that it has added
    cdef int64_t n_filed
    cdef int64_t filed_capacity

    cdef KeyWindows* windows_of(self, int64_t slot) noexcept nogil
    cdef int take_record(self, Batch* batch, int32_t row) except -1 nogil
    cdef int take_session(self, Batch* batch, int32_t row, int64_t slot, KeyWindows* windows, int64_t watermark) except -1 nogil
    cdef int take_wanted(
        self, Batch* batch, int32_t row, int64_t slot, KeyWindows* windows, Wanted* wanted, int64_t watermark
    ) except -1 nogil
    cdef int grow_session(
        self, int64_t slot, KeyWindows* windows, WindowEntry* into, int64_t start, int64_t last, int64_t watermark
    ) except -1 nogil
    cdef int refuse_late(self, int32_t row) except -1 nogil
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
    cdef int touch_window(self, int64_t slot, WindowEntry* entry) except -1 nogil
    cdef bint would_take(self, int64_t slot, int64_t time) noexcept nogil
    cdef int show(self, int64_t slot, WindowEntry* entry, int32_t row, Change change) except -1 nogil
    cdef int show_change(self, int64_t slot, WindowEntry* entry, int32_t row) except -1 nogil
    cdef int show_batch(self, Batch* batch) except -1 nogil
    cdef int send_shown(self) except -1 nogil
    cdef int flush_shown(self) except -1 nogil
    cdef Batch* shown_rows(self) except NULL nogil
    cdef int fill_changes(self, Batch* out) except -1 nogil
    cdef int prepare(self, Batch* batch) except -1 nogil
    cdef int reserve_shown(self, int64_t n) except -1 nogil
