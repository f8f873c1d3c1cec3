"""The end of a chain whose rows go to other tasks."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.flow.channel cimport StreamElement
from streamdsl._native.operators.base cimport Operator


cdef class Output(Operator):
    cdef list channels
    cdef void** refs
    cdef readonly int targets
    cdef bint hashed                         # rows go to the owner of their key's shard; else to target 0, 1, 2, … in turn
    cdef int turn                            # -1: each row goes to every target
    cdef int shards
    cdef int64_t round                       # of event time, of what is sent now; 0: none
    cdef int part                            # of the round
    cdef readonly bint placed                # rows have places (event_time/read_order.pxd): who gets them merges them by these
    cdef StreamElement* waiting              # what did not fit, in order
    cdef int* waiting_target
    cdef int64_t n_waiting
    cdef int64_t waiting_capacity
    cdef int32_t* rows                       # scratch of the partitioning
    cdef int64_t rows_capacity
    cdef readonly int64_t sent               # rows

    cdef int send(self, int target, StreamElement* element) except -1 nogil
    cdef int broadcast(self, int kind, int64_t value) except -1 nogil
    cdef int flush(self) except -1 nogil     # 1: something moved; afterwards n_waiting tells whether all did
    cdef bint drained(self) noexcept nogil   # whether everything that was sent has been taken
    cdef int emit_batch(self, Batch* batch) except -1 nogil
    cdef int partition(self, Batch* batch) except -1 nogil
