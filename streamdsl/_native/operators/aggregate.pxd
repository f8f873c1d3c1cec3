"""Running aggregates by key, without a window: a changed row for each record, or for each batch and key."""
from libc.stdint cimport int32_t, int64_t, uint64_t

from streamdsl._native.flow.batch cimport Batch, Column
from streamdsl._native.aggregates.accumulators cimport AccumulatorSet
from streamdsl._native.operators.keyed cimport AggregateField, KeyedOperator
from streamdsl._native.operators.last_rows cimport LastRows

# What stands in front of the accumulators: bits, and above them the time of the last record where rows are throttled.
cdef enum:
    KEY_SHOWN = 1              # a row of the key has left
    KEY_CHANGED = 2            # since its last row
    KEY_TIME_BITS = 2          # below the time


cdef class AggregateOperator(KeyedOperator):
    cdef AccumulatorSet accumulators
    cdef AggregateField row_field            # its prefix is an int64_t: KEY_*
    cdef LastRows last_rows                  # None: a row for each record
    cdef int n_keys

    cdef int begin_rows(self, Batch* batch) except -1 nogil          # the accumulators have begun, no row has been added
    # Adds the records. Afterwards `states` and `rows` have those that were taken; returns their number, a row stands there for each
    # if `emits`.
    cdef int32_t add_rows(self, Batch* batch, bint emits) except -1 nogil
    cdef Batch* compute(self, Batch* batch) except NULL nogil
    cdef Batch* changed_rows(self, Batch* kept) except NULL nogil           # results and keys of these rows, whose states are `states`
    cdef int append_changes(self, int64_t n, Column* target) except -1 nogil
