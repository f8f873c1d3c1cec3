"""Each row of a stream beside the row that a table has for its key at that moment."""
from libc.stdint cimport int32_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.join cimport JoinOperator
from streamdsl._native.operators.table cimport TableField


cdef class TableJoinOperator(JoinOperator):
    cdef TableField field
    cdef bint keeps                          # rows of the stream that match nothing come out
    cdef int op                              # column of the change in the table's rows, -1: there is none

    cdef bint withdraws(self, Batch* batch, int32_t row) noexcept nogil
