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
    cdef bint numbered                       # the output has the arrival number of each row: a withdrawn one has that of its arrival
    cdef int removed                         # column that says whether a row takes the key's row away, -1: there is none
    cdef int version                         # column of the row's version: lower ones than the key's are left out; -1: there is none
    cdef bint by_time                        # the version is the event time, and is kept of removed rows too
    cdef int head                            # bytes in front of a stored row: its number or version
    cdef int64_t outdated                    # rows whose key has a row of a later version
    cdef int64_t first_arrival               # number of the first row of the batch at hand
    cdef int64_t unmatched                   # tombstones of keys that have no row
    cdef ByteWriter scratch                  # the row being stored
    cdef ByteWriter old_rows                 # rows that this batch withdraws
    cdef int64_t* old_at                     # by output row: where in old_rows, -1 = it is the input row
    cdef int64_t old_capacity

    cdef bint is_tombstone(self, Batch* batch, int32_t row) noexcept nogil
    cdef bint has_row(self, const Cell* held) noexcept nogil
    cdef int64_t version_of(self, Batch* batch, int32_t row) noexcept nogil
    # Whether the next row of the key, if it comes at once, takes the place of the one that this row removes.
    cdef bint is_replaced(self, Batch* batch, int32_t row) noexcept nogil
    cdef int store(self, Batch* batch, int32_t row, Cell* held) except -1 nogil
    cdef int remove(self, Cell* held, int64_t version) except -1 nogil
    cdef int withdraw(self, const Cell* held, int32_t n, int32_t row, StringBuilder* changes) except -1 nogil
    cdef int32_t apply(self, Batch* batch, StringBuilder* changes) except -1 nogil   # fills rows, old_at; rows to emit
    cdef Batch* output(self, Batch* batch, int32_t n, StringBuilder* changes) except NULL nogil
    cdef int fill_column(self, Batch* batch, Batch* out, int column) except -1 nogil
    cdef int fill_numbers(self, Batch* out) except -1 nogil


# What a source says of a row in `column` (-1: there is none): 1: it takes the key's row away, 0: it does not, -1: it does not say.
cdef int says_removed(const Batch* batch, int column, int32_t row) noexcept nogil
