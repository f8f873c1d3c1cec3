"""The form in which rows are kept: how many bytes each column has, four bits each, then the values in the columns' order.

A whole number has as many bytes as it needs, of either sign; a text is its length, written so, and its bytes.
"""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.flow.batch cimport Column
from streamdsl._native.state.write_stream cimport ByteWriter


cdef struct PackedRow:
    int width                                # columns
    int* kinds                               # KIND_*, by column
    int32_t head                             # bytes in front of the values
    int32_t most                             # bytes of a row, without those of its texts, at most

cdef int packed_init(PackedRow* format, const int* kinds, int width) except -1 nogil      # takes a copy of the kinds
cdef void packed_free(PackedRow* format) noexcept nogil
# A row at the end of `out`; column i is columns[chosen[i]].
cdef int packed_write(const PackedRow* format, const Column* columns, const int* chosen, int64_t row, ByteWriter* out) except -1 nogil
# `width` cells; texts are borrowed from `data`.
cdef int packed_view(const PackedRow* format, const char* data, int64_t size, Cell* cells) except -1 nogil
# Whether the first n columns of two rows are alike to the bit.
cdef bint packed_same(const PackedRow* format, const char* a, int64_t a_size, const char* b, int64_t b_size, int n) except -1 nogil
