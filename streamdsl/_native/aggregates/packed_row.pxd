"""The form in which joins keep a row: a bit for each column that has a value, the values of fixed size, then the texts.

A text's place holds its length. Bits and places of all rows of a format are the same, so a row is written and read in one go.
"""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.flow.batch cimport Column
from streamdsl._native.state.write_stream cimport ByteWriter


cdef struct PackedRow:
    int width                                # columns
    int* kinds                               # KIND_*, by column
    int32_t* places                          # where its value stands, in bytes from the row's start
    int32_t fixed                            # bytes in front of the texts

cdef int packed_init(PackedRow* format, const int* kinds, int width) except -1 nogil      # takes a copy of the kinds
cdef void packed_free(PackedRow* format) noexcept nogil
# A row at the end of `out`; column i is columns[chosen[i]].
cdef int packed_write(const PackedRow* format, const Column* columns, const int* chosen, int64_t row, ByteWriter* out) except -1 nogil
# `width` cells; texts are borrowed from `data`.
cdef int packed_view(const PackedRow* format, const char* data, int64_t size, Cell* cells) except -1 nogil
# Whether the first n columns of two rows are alike to the bit.
cdef bint packed_same(const PackedRow* format, const char* a, int64_t a_size, const char* b, int64_t b_size, int n) except -1 nogil
