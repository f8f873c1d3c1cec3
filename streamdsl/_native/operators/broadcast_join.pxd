"""Each row of a stream beside the row that a small table has for its key; every task has the whole table."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.join cimport JoinOperator
from streamdsl._native.operators.table cimport TableField
from streamdsl._native.state.key_table cimport KeyTable


cdef class BroadcastJoinOperator(JoinOperator):
    cdef KeyTable table                      # of this task alone: no store has it
    cdef TableField field
    cdef bint keeps                          # rows of the stream that match nothing come out
    cdef int removed                         # column of the table's rows that says whether one takes the key's row away, -1: none
    cdef bint keeps_state                    # of all tasks, one keeps the table in the checkpoint
    cdef list kept                           # what it kept last; None: the table has changed since

    cdef int look(self, Batch* batch, int32_t row) except -1 nogil
    cdef int put(self, Batch* batch, int32_t row) except -1 nogil
