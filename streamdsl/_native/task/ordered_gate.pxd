"""Inputs whose rows come in rounds of event time (event_time/read_order.pxd)."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.event_time.read_order cimport Place, ReadOrder
from streamdsl._native.flow.batch cimport Batch, Column
from streamdsl._native.flow.channel cimport StreamElement
from streamdsl._native.flow.input_gate cimport InputGate


cdef struct Merge:           # the rows of a round on their way into one order; a run is those of one split, or of one task
    Batch** ports            # by port: its rows, staged batch after staged batch
    int* inputs              # by port: the first input that brought some
    int32_t* port_starts     # by port: number of its first row among all
    Place* places            # by row: the greatest of its run up to there
    int32_t* rows            # in their order; before it is found, as they were staged
    int32_t* scratch
    int32_t* run_starts      # where each run begins among `rows`; one more for the end
    int n_runs
    int32_t n


cdef class OrderedGate(InputGate):
    cdef ReadOrder order
    cdef int* producers                      # by input: the number of the task that writes it
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
    cdef int reserve_merge(self, Merge* merge, int n_batches) except -1 nogil
    cdef int add_runs(self, Merge* merge, int first, int end, const Batch* batch) except -1 nogil
    cdef int put_rows(self, Merge* merge, int n_ports) except -1 nogil
    cdef int reserve_pending(self) except -1 nogil
    cdef Batch* together(self, int first, int n) except NULL nogil
