"""Each row of a stream beside the row that a table had for its key at the row's time."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.join cimport JoinOperator
from streamdsl._native.rows.timed_rows cimport TimedRows, TimedRowsField


cdef class VersionedJoinOperator(JoinOperator):
    cdef TimedRowsField field                # of a key: the table's rows by time; a marked one takes the row away
    cdef bint keeps                          # rows of the stream that match nothing come out
    cdef int removed                         # column of the table's rows that says whether one takes the key's row away, -1: none
    cdef int64_t keep_ms                     # how long behind the watermark a row that was replaced is kept
    cdef readonly int64_t expired            # rows of the stream whose time is before all that is kept of their key

    cdef int put(self, Batch* batch, int32_t row, TimedRows* rows) except -1 nogil
    cdef int look(self, Batch* batch, int32_t row, TimedRows* rows) except -1 nogil
    cdef int purge(self, TimedRows* rows, int64_t watermark) except -1 nogil
