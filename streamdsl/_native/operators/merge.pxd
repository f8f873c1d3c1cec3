from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.base cimport Operator


cdef class MergePort(Operator):
    cdef Batch** batches                     # what has come since the merge last settled
    cdef int n_batches
    cdef int capacity
    cdef int64_t watermark
    cdef bint idle


cdef class MergeOperator(Operator):
    cdef list ports
    cdef void** refs
    cdef int size
    cdef int64_t watermark
    cdef bint idle

    cdef Batch* united(self) except? NULL nogil
