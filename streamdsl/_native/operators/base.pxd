"""The operator contract. The methods here run without the GIL; those that Python sees stand in base.pyx."""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Batch


cdef class Operator:
    cdef readonly str name                   # identity of its state and metrics
    cdef Operator next                       # main output; never None once deployed
    cdef object tagged                       # dict tag -> Operator: the other outputs
    cdef bint closing                        # windows are to close, or timers to fire: the watermark is passed on behind the last
    cdef object failed                       # (PyBatch, output of the program or -1): what `blame` kept; None = nothing

    cdef int process(self, Batch* batch) except -1 nogil                 # borrows the batch; batch.n > 0
    cdef int end_batch(self) except -1 nogil                             # all rows of one input batch have passed
    cdef int on_watermark(self, int64_t watermark) except -1 nogil       # ms; rises strictly from call to call
    # While `closing`: closes so many windows, or fires so many timers, at most and returns how many; with none left, passes the
    # watermark on.
    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil
    cdef int on_idle(self, bint idle) except -1 nogil                    # the input became idle, or active again
    cdef int on_processing_time(self, int64_t now_ms) except -1 nogil    # wall clock; never goes back
    # Wall-clock ms of the next timer; INT64_MAX = none, INT64_MIN = those that were due have not all fired yet.
    cdef int64_t next_wakeup(self) noexcept nogil
    cdef int has_room(self) except -1 nogil                              # 0: the task is not to read, asked where `room` is declared
    # Where `settles` is declared: the chain in front has returned, after an input batch (`ended_batch`) or something else.
    cdef int settle(self, bint ended_batch) except -1 nogil
    cdef int emit(self, Batch* batch) except -1 nogil                    # next.process, then release: takes the batch

# Keeps the batch of a row that failed, for the error that the user will see; called while the exception passes. The first
# call counts: it is the one nearest to the fault.
cdef int blame(Operator operator, Batch* batch, int output) except -1 nogil
