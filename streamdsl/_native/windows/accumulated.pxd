"""Contents of a window: the states of its aggregates."""
from streamdsl._native.aggregates.accumulators cimport AccumulatorSet
from streamdsl._native.windows.contents cimport Contents


cdef class AccumulatedContents(Contents):
    cdef AccumulatorSet accumulators
