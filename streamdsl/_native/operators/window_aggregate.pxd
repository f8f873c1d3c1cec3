"""Aggregates by key and window. State is a row for each key and open window, in a table of its own."""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.accumulators cimport AccumulatorSet
from streamdsl._native.operators.keyed cimport AggregateField, KeyedOperator
from streamdsl._native.state.key_table cimport KeyTable, RowHeader
from streamdsl._native.windows.heap cimport WindowHeap


cdef class WindowAggregateOperator(KeyedOperator):
    cdef KeyTable table                      # key: window start (biased, big-endian), then the user's key; its shard
    cdef AggregateField row_field
    cdef AccumulatorSet accumulators
    cdef WindowHeap open_windows
    cdef int n_keys
    cdef int64_t size_ms
    cdef int64_t every_ms
    cdef int64_t offset_ms
    cdef int64_t grace_ms
    cdef bint updates                        # emit="update"
    cdef int64_t watermark
    cdef int64_t passed                      # the last watermark that was passed on
    cdef int64_t late_refusals               # windows that refused a record
    cdef int64_t outside                     # records between two windows
    cdef char* key                           # scratch
    cdef int64_t key_capacity
    cdef int64_t* slots                      # scratch: slots of the lookup
    cdef int64_t* starts                     # scratch, beside `states` and `rows`
    cdef int64_t pairs_capacity
    cdef int64_t n_pairs                     # (record, window) of the batch at hand
    cdef int n_late

    cdef int assign(self, Batch* batch, int* late) except -1 nogil
    cdef int add_pair(self, int row, int64_t start, const char* key, int key_size, int shard) except -1 nogil
    cdef int reserve_pairs(self, int64_t n) except -1 nogil
    cdef int64_t window_slot(self, int64_t start, const RowHeader* header) except -1 nogil
    cdef int accumulate(self, Batch* batch) except -1 nogil
    cdef int emit_updates(self, Batch* batch) except -1 nogil
    cdef int emit_rows(self, Batch* out, int64_t n) except -1 nogil
    cdef int close(self, int64_t watermark) except -1 nogil
    cdef int emit_closed(self, int64_t first, int64_t n) except -1 nogil
