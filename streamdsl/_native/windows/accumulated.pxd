"""Contents of a window: the states of its aggregates."""
from streamdsl._native.aggregates.accumulators cimport AccumulatorSet
from streamdsl._native.windows.contents cimport Contents


cdef class AccumulatedContents(Contents):
    cdef AccumulatorSet accumulators

    # As `merge`, and `source` stays as it is; `room` has the size of the contents.
    cdef int add_copy(self, char* into, char* source, char* room) except -1 nogil
