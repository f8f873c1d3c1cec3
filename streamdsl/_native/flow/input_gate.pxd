"""The inputs of a task: which channel is read next, and which must wait."""
from streamdsl._native.flow.channel cimport Channel, StreamElement
from libc.stdint cimport int64_t, uint64_t


cdef class InputGate:
    cdef list channels
    cdef void** refs
    cdef readonly int size
    cdef bint* blocked                       # refused until the barrier has come on every input
    cdef int turn
    cdef int64_t round                       # rounds of event time that were read (task/ordered_gate.pxd); 0: there are none
    cdef bint busy                           # the round that was begun has more elements
    cdef bint moved                          # the last `next` has made room in a channel, whatever it returned
    cdef uint64_t random                     # 0: round robin; else the state of a seeded choice

    cdef int next(self, StreamElement* element) except -2 nogil  # index of the input read, -1: nothing to read
    cdef void block(self, int input) noexcept nogil
    cdef void unblock_all(self) noexcept nogil
