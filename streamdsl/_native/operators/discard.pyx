"""The end of an output that nobody reads."""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.base cimport Operator


cdef class Discard(Operator):
    """Takes everything and does nothing."""

    cdef int process(self, Batch* batch) except -1 nogil:
        return 0

    cdef int end_batch(self) except -1 nogil:
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        return 0

    cdef int on_idle(self, bint idle) except -1 nogil:
        return 0
