"""Pairs of rows of two streams whose times are near each other."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.waiting_join cimport WaitingJoinOperator
from streamdsl._native.rows.timed_rows cimport TimedRows


cdef class IntervalJoinOperator(WaitingJoinOperator):
    cdef bint bounded
    cdef int64_t window_ms                   # 0: none; else a pair lies in one window of this size, [start, start + size)
    cdef int64_t offset_ms                   # of the windows to the epoch
    cdef int64_t before                      # a pair: -before <= right's time - left's time <= after
    cdef int64_t after
    cdef int64_t grace
    cdef int64_t[2] reach                    # by side: how long after its time a row may still match
    cdef bint[2] keeps                       # by side: rows that match nothing come out
    cdef int64_t step                        # rows that need not come out may leave memory so much too late

    cdef int64_t last_moment(self, int64_t time) noexcept nogil              # of the window that holds `time`
    cdef bint is_late(self, int64_t time, int64_t watermark) noexcept nogil
    cdef int64_t over(self, int side, int64_t time) noexcept nogil           # the watermark at which a row can match no more
    cdef bint match(self, int side, Batch* batch, int32_t row, int64_t time, TimedRows* other) except -1 nogil
    cdef int note_room(self, TimedRows* rows, int64_t over, int64_t slot) except -1 nogil    # `rows`: of both sides
