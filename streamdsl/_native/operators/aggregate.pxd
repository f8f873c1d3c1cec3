"""Running aggregates by key, without a window: a changed row for each record."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch, Column
from streamdsl._native.aggregates.accumulators cimport AccumulatorSet
from streamdsl._native.operators.keyed cimport AggregateField, KeyedOperator


cdef class AggregateOperator(KeyedOperator):
    cdef AccumulatorSet accumulators
    cdef AggregateField row_field            # its prefix is an int64_t: whether the key has been seen
    cdef int n_keys

    cdef Batch* compute(self, Batch* batch) except NULL nogil
    cdef int append_changes(self, int64_t n, Column* target) except -1 nogil
