"""Inputs of a live join: of those that have something waiting, the one with the earliest row comes first."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.channel cimport StreamElement
from streamdsl._native.flow.input_gate cimport InputGate


cdef class TimedGate(InputGate):
    cdef int* ports                          # by input; of equal times the greatest comes first: a table in front of a stream
    cdef StreamElement* heads                # by input: what has been taken out of the channel and not been read; kind 0: nothing
    cdef int32_t* at                         # by input: the next row of that
    cdef bint* first                         # by input: that comes before all others, whatever its time
    cdef bint bootstraps                     # a table is read to its end before the stream begins,
    cdef bint begun                          # which it has

    cdef void begin(self) noexcept nogil     # the first rows of the stream are there
    cdef int64_t time_of(self, int input) noexcept nogil
    cdef bint before(self, int input, int other) noexcept nogil
    cdef int emit(self, int input, int second, StreamElement* element) except -1 nogil
