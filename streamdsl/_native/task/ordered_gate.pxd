"""Inputs whose rows come in rounds of event time (event_time/read_order.pxd)."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.event_time.read_order cimport ReadOrder
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.flow.channel cimport StreamElement
from streamdsl._native.flow.input_gate cimport InputGate


cdef struct Run:             # the rows of one split, or of one task that has put its own in order; in however many batches they came
    int32_t at               # next row, among the rows of all
    int32_t end
    int64_t time             # ms: the greatest time up to that row
    int rank
    int port                 # number of its port, among those that have rows


cdef class OrderedGate(InputGate):
    cdef ReadOrder order
    cdef int* producers                      # by input: the number of the task that writes it
    cdef int* ranks                          # by input: the place of its (first) source among those with equal times
    cdef int* ports                          # by input, ascending: rows of one port have the same columns
    cdef bint interleaved                    # rows of several ports come in event-time order too, in whatever many pieces
    cdef bint* held                          # by input: its barrier is pending, nothing behind it is taken
    cdef int64_t* reached                    # by input: the round below which nothing comes any more, as of the last look
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
    cdef int put_first(self, int at, int input, Batch* batch) except -1 nogil
    cdef int merged(self) except -1 nogil
    cdef int runs_of(self, Run* runs, int n, int first, int end, int port, const Batch* batch) noexcept nogil
    cdef int put_rows(self, int32_t* rows, int32_t* row_ports, int32_t n, Batch** ports, const int* inputs, int n_ports) except -1 nogil
    cdef int reserve_pending(self) except -1 nogil
    cdef Batch* together(self, int first, int n) except NULL nogil
