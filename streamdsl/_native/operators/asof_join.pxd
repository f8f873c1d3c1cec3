"""Each row of the left stream beside the latest row of the right one at its time."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.operators.waiting_join cimport WaitingJoinOperator
from streamdsl._native.rows.timed_rows cimport TimedRow, TimedRows


cdef class AsOfJoinOperator(WaitingJoinOperator):
    cdef bint bounded                        # a tolerance is given
    cdef int64_t tolerance                   # ms: how much earlier the right row may be
    cdef bint exact                          # it may be of the same time
    cdef bint keeps                          # left rows that match nothing come out

    cdef TimedRow* latest(self, TimedRows* right, int64_t time) noexcept nogil   # NULL: there is none
    cdef int32_t of_no_use(self, TimedRows* right) noexcept nogil            # so many, the first ones, will never be the latest
