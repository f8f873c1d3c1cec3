"""The last row of each key, by arrival, and its changes."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch, StringBuilder
from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.operators.keyed cimport KeyedOperator
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.row_table cimport RowField
from streamdsl._native.state.write_stream cimport ByteWriter


cdef class TableField(RowField):
    """A Cell of KIND_STR: the row's columns, serialised."""
    cdef Arena arena


cdef class TableOperator(KeyedOperator):
    cdef TableField row_field
    cdef bint* is_key                        # of the input's columns
    cdef int width
    cdef bint retracts                       # a row that replaces another is two: the old one withdrawn, the new one added
    cdef int64_t unmatched                   # tombstones of keys that have no row
    cdef ByteWriter scratch                  # the row being stored
    cdef ByteWriter old_rows                 # rows that this batch withdraws
    cdef int64_t* old_at                     # by output row: where in old_rows, -1 = it is the input row
    cdef int64_t old_capacity

    cdef bint is_tombstone(self, Batch* batch, int32_t row) noexcept nogil
    cdef int store(self, Batch* batch, int32_t row, Cell* held) except -1 nogil
    cdef int32_t apply(self, Batch* batch, StringBuilder* changes) except -1 nogil   # fills rows, old_at; rows to emit
    cdef Batch* output(self, Batch* batch, int32_t n, StringBuilder* changes) except NULL nogil
    cdef int fill_column(self, Batch* batch, Batch* out, int column) except -1 nogil
