"""Pairs of rows of two streams whose times are near each other."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.join cimport JoinOperator
from streamdsl._native.rows.timed_rows cimport TimedRows, TimedRowsField
from streamdsl._native.state.deadlines cimport Deadlines
from streamdsl._native.state.key_list cimport KeyList


cdef class IntervalJoinOperator(JoinOperator):
    cdef bint bounded
    cdef int64_t before                      # a pair: -before <= right's time - left's time <= after
    cdef int64_t after
    cdef int64_t grace
    cdef int64_t[2] reach                    # by side: how long after its time a row may still match
    cdef bint[2] keeps                       # by side: rows that match nothing come out
    cdef int64_t step                        # rows that need not come out may leave memory so much too late
    cdef TimedRowsField field
    cdef Deadlines deadlines                 # when rows of which keys leave
    cdef KeyList wanted                      # scratch: keys to be looked up together

    cdef int64_t over(self, int side, int64_t time) noexcept nogil           # the watermark at which a row can match no more
    cdef bint match(self, int side, Batch* batch, int32_t row, int64_t time, TimedRows* other) except -1 nogil
    cdef int note_deadline(self, int side, int64_t over, int64_t slot) except -1 nogil
    cdef int emit_unmatched(self, int64_t n) except -1 nogil                 # of the deadlines that are due
    cdef int release(self, int64_t slot, int64_t deadline) except -1 nogil   # rows of a key that are over
