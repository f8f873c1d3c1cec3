"""Aggregates by key and window. State is a row for each key and open window, in a table of its own."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.aggregates.accumulators cimport AccumulatorSet
from streamdsl._native.operators.keyed cimport AggregateField, KeyedOperator
from streamdsl._native.operators.open_windows cimport OpenWindows
from streamdsl._native.state.key_list cimport KeyList


cdef class WindowAggregateOperator(KeyedOperator):
    cdef OpenWindows windows
    cdef AggregateField row_field
    cdef AccumulatorSet accumulators
    cdef int n_keys
    cdef bint updates                        # emit="update"
    cdef int64_t watermark
    cdef int64_t passed                      # the last watermark that was passed on
    cdef int64_t late_refusals               # windows that refused a record
    cdef int64_t* starts                     # scratch: the window of each pair; `rows` and `states` hold its record and state
    cdef int64_t* opened                     # scratch: the slot of each pair whose record has opened the window, -1: it was open
    cdef int64_t starts_capacity
    cdef int64_t first_pair                  # of the record at hand
    cdef int64_t n_pairs                     # (record, window) of the batch at hand
    cdef int32_t* late_rows                  # scratch
    cdef int64_t late_capacity
    cdef int32_t n_late
    cdef KeyList wanted                      # scratch: keys to be looked up together

    cdef bint any_open(self, int64_t slot, int64_t time) noexcept nogil      # whether a window takes a record of that time
    cdef int assign(self, Batch* batch) except -1 nogil                      # fills the pairs and the late rows
    cdef int assign_carefully(self, Batch* batch) except -1 nogil            # the same, without the records that are refused
    cdef int prepare(self, Batch* batch) except -1 nogil
    cdef int64_t most_pairs(self, Batch* batch) noexcept nogil
    cdef int assign_row(self, int32_t row, int64_t slot, int64_t time) except -1 nogil
    cdef int reserve_pairs(self, int64_t n) except -1 nogil
    cdef int accumulate(self, Batch* batch) except -1 nogil
    cdef Batch* updated_rows(self, Batch* batch) except NULL nogil
    cdef Batch* closed_rows(self, const int64_t* slots, int32_t n) except NULL nogil
    cdef int32_t emit_carefully(self, const int64_t* slots, int32_t n) except -1 nogil     # fills `rows`: those that have a result
    cdef int refuse_window(self, int64_t slot) except -1
    cdef int fill_bounds(self, Batch* out) except -1 nogil                   # window_start, window_end, time: from `starts`
    cdef int pass_on(self) except -1 nogil                                   # the watermark, as far as the grace lets it
