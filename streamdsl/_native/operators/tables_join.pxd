"""The rows of two tables that have the same key, as a table."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.join cimport JoinOperator, JoinPort
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.row_table cimport RowField
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum Change:
    ADD = 0
    REPLACE = 1
    WITHDRAW = 2


cdef class TwoRowsField(RowField):
    """Two Cells of KIND_STR: the row of either table, serialised."""
    cdef Arena arena


cdef class TablesJoinOperator(JoinOperator):
    cdef TwoRowsField field
    cdef bint[2] keeps                       # by side: its rows are there although the other table has none
    cdef int[2] ops                          # by side: column of the change, -1: there is none
    cdef bint* others[2]                     # by side and kept column: it is not among the key's
    cdef Change* changes                     # of the output rows that wait
    cdef ByteWriter bytes                    # the kept rows that they are made of
    cdef int64_t* places                     # of these, two a row; -1: none

    cdef bint withdraws(self, int side, Batch* batch, int32_t row) noexcept nogil
    cdef bint there(self, const Cell* left, const Cell* right) noexcept nogil
    cdef int note(self, JoinPort port, Batch* batch, Change change, const Cell* left, const Cell* right, int64_t time) except -1 nogil
    cdef int64_t keep(self, const Cell* cell) except? -2 nogil
    cdef int send(self) except -1 nogil
