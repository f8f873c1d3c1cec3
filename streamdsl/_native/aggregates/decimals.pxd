"""Sums and means of decimals."""
from libc.stdint cimport int64_t

from streamdsl._native.aggregates.accumulators cimport Accumulator

# What the accumulators of decimals keep.
cdef struct DecimalTotal:
    int64_t n                                # values
    char[16] sum                             # 128 bits, in the scale of the column


cdef class SumDecimalAccumulator(Accumulator):
    pass


cdef class MeanDecimalAccumulator(SumDecimalAccumulator):
    cdef int64_t shift                       # digits that the result has more than the argument
