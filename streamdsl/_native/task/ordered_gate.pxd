"""Inputs whose rows come in rounds of event time (event_time/read_order.pxd)."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.event_time.read_order cimport ReadOrder
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.flow.channel cimport StreamElement
from streamdsl._native.flow.input_gate cimport InputGate


cdef class OrderedGate(InputGate):
    cdef ReadOrder order
    cdef int* producers                      # by input: the number of the task that writes it
    cdef int* ranks                          # by input: the place of its (first) source among those with equal times
    cdef bint* held                          # by input: its barrier is pending, nothing behind it is taken
    cdef Batch** staged                      # rows of the next round
    cdef int* staged_input                   # the inputs they came by, ascending
    cdef int* staged_part
    cdef int32_t* staged_rows                # scratch
    cdef int n_staged
    cdef int64_t staging                     # their round; 0: nothing is staged, pending neither
    cdef int capacity
    cdef StreamElement* pending              # what stood behind the rows of this round: watermarks, statuses, barriers, ends
    cdef int* pending_input
    cdef int at_pending
    cdef int n_pending
    cdef int pending_capacity

    cdef int64_t complete(self) noexcept nogil
    cdef int stage(self, int64_t round) except -1 nogil
    cdef int keep(self, int input, StreamElement* element) except -1 nogil
    cdef int next_pending(self, StreamElement* element) except -2 nogil
    cdef int emit_round(self, StreamElement* element) except -2 nogil
    cdef Batch* merged(self) except NULL nogil
    cdef Batch* together(self, int n) except NULL nogil
