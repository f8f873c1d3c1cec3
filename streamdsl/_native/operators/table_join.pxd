"""Each row of a stream beside the row that a table has for its key at that moment."""
from libc.stdint cimport int32_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.join cimport JoinOperator
from streamdsl._native.operators.table cimport TableField


cdef class TableJoinOperator(JoinOperator):
    cdef TableField field
    cdef bint keeps                          # rows of the stream that match nothing come out
    cdef int removed                         # column of the table's rows that says whether one takes the key's row away, -1: none

    cdef bint removes(self, Batch* batch, int32_t row) noexcept nogil
