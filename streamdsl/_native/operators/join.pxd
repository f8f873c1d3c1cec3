"""What all joins share: two sides that come by ports, rows kept as bytes, output rows made of both."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.aggregates.packed_row cimport PackedRow
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum:
    LEFT = 0
    RIGHT = 1
    PIECE_ROWS = 2048                        # of output, before they are passed on


cdef struct JoinSide:
    int width                                # columns that are kept of a row
    int* columns                             # their places in the input
    int* kinds
    PackedRow format                         # of the kept rows
    Cell* cells                              # scratch: of rows that are read back, width each


# A row of the output. By side: the row that was kept, NULL: nulls, or the row of the batch at hand.
cdef struct Pair:
    int32_t row                              # of the batch
    int32_t[2] sizes
    char* kept[2]
    int64_t time


cdef class JoinPort(Operator):
    """Where the rows of one side come in."""
    cdef JoinOperator join
    cdef int side
    cdef bint unkeyed                        # rows whose key is null
    cdef readonly object spec                # for warnings: name, input_schema


cdef class JoinOperator(Operator):
    cdef object spec                         # of the physical plan
    cdef KeyLookup lookup                    # of both sides: it has the table
    cdef JoinSide[2] sides
    cdef int width                           # of the output
    cdef int* left                           # by output column: its place among the kept columns of the left side, -1
    cdef int* right
    cdef int* kinds
    cdef Pair* pairs                         # output rows that wait to be built, all of one side
    cdef int n_pairs
    cdef int32_t* rows                       # scratch
    cdef ByteWriter scratch
    cdef int64_t watermark
    cdef int64_t passed
    cdef bint idle
    cdef readonly int64_t late
    cdef readonly int64_t emitted

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil         # rows of one side
    cdef int take_unkeyed(self, JoinPort port, Batch* batch) except -1 nogil
    cdef int note_late(self, JoinPort port, Batch* batch, int32_t row, int64_t watermark) except -1 nogil
    # The kept columns of a row, to `scratch`.
    cdef int serialise(self, int side, Batch* batch, int32_t row) except -1 nogil
    # One more output row: a row of `batch`, which is of `side`, beside a kept one of the other (NULL: nulls). Passes them on when
    # there are many.
    cdef int add_pair(self, int side, Batch* batch, int32_t row, const char* data, int32_t size, int64_t time) except -1 nogil
    # The same of two kept rows; their bytes must stay until flush_pairs(LEFT, NULL).
    cdef int add_kept(self, const char* left, int32_t left_size, const char* right, int32_t right_size, int64_t time) except -1 nogil
    cdef int flush_pairs(self, int side, Batch* batch) except -1 nogil
    cdef Batch* build(self, int side, Batch* batch) except NULL nogil
    cdef const Cell* cell_of(self, int pair, int left, int right) noexcept nogil
    cdef int fill(self, Batch* out, int column, int left, int right) except -1 nogil
    cdef int parse(self, int side) except -1 nogil
    cdef int64_t passing(self) noexcept nogil                                # the watermark that may be passed on
    cdef int pass_on(self) except -1 nogil
