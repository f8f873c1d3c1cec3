"""The rows of two tables that have the same key, as a table."""
from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.operators.changes_join cimport Change, ChangesJoinOperator
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.row_table cimport RowField
from libc.stdint cimport int64_t


cdef class TwoRowsField(RowField):
    """Two Cells of KIND_STR: the row of either table, serialised."""
    cdef Arena arena


cdef class TablesJoinOperator(ChangesJoinOperator):
    cdef TwoRowsField field

    cdef bint there(self, const Cell* left, const Cell* right) noexcept nogil
    cdef int note_cells(self, Change change, const Cell* left, const Cell* right, int64_t time) except -1 nogil
