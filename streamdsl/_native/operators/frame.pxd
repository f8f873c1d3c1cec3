"""Frames: one row in, one row out, with a column for each aggregate over the earlier rows of its key."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.aggregates.accumulators cimport AccumulatorSet
from streamdsl._native.operators.keyed cimport AggregateField, KeyedOperator
from streamdsl._native.aggregates.rolling cimport RollingFrame


cdef class FrameOperator(KeyedOperator):
    cdef list accumulators                   # in the order of the new columns
    cdef void** refs                         # borrowed from the list
    cdef int* modes                          # RunMode, or negative: see the .pyx
    cdef int n_aggregates
    cdef RollingFrame rolling                # None = no aggregate is rolling: nothing is late
    cdef AggregateField row_field
    cdef AccumulatorSet expanding            # those with a state of their own

    cdef int32_t split_late(self, Batch* batch) except -1 nogil
    cdef Batch* compute(self, Batch* batch) except NULL nogil
    cdef int process_kept(self, Batch* batch, int32_t n) except -1 nogil
