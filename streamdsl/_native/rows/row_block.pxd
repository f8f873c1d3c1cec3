"""Rows of one key kept in the arena: packed one behind another, made a batch again when they are wanted."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.rows.row cimport RowShape
from streamdsl._native.state.arena cimport Arena

cdef struct RowBlock:
    char* data
    int64_t used             # bytes
    int64_t capacity
    int64_t n                # rows, in the order of arrival


cdef class RowPacker:
    cdef readonly str layout                 # what a row is, in words
    cdef Arena arena
    cdef int width
    cdef int* kinds
    cdef RowShape shape                      # owner of `kinds`

    cdef int append(self, RowBlock* block, Batch* batch, int32_t row, int64_t arrival) except -1 nogil
    cdef Batch* rows(self, RowBlock* block) except NULL nogil        # the caller releases it
    cdef int merge(self, RowBlock* into, RowBlock* other) except -1 nogil        # by arrival; `other` is empty afterwards
    cdef void free(self, RowBlock* block) noexcept nogil
    cdef int read(self, RowBlock* block, const char* data, int64_t size) except -1 nogil   # what a block holds: data[0 .. used)
    cdef int scan(self, RowBlock* block) except -1 nogil             # counts the rows; fails if they do not fill the block
    cdef int64_t packed_size(self, Batch* batch, int32_t row) noexcept nogil
    cdef int64_t row_size(self, const char* row, int64_t most) except -1 nogil
