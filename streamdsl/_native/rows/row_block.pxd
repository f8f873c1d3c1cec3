"""Rows of one key kept in the arena: packed one behind another, made a batch again when they are wanted."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.rows.row cimport RowShape
from streamdsl._native.state.row_table cimport RowField

cdef struct RowBlock:
    char* data
    int64_t used             # bytes
    int64_t capacity
    int64_t n                # rows


cdef class RowBlockField(RowField):
    cdef int width
    cdef int* kinds
    cdef RowShape shape                      # owner of `kinds`

    cdef int append(self, RowBlock* block, Batch* batch, int32_t row) except -1 nogil
    cdef int64_t packed_size(self, Batch* batch, int32_t row) noexcept nogil
    cdef Batch* rows(self, RowBlock* block) except NULL nogil        # the caller releases it
    cdef int scan(self, RowBlock* block) except -1 nogil             # counts the rows; fails if they do not fill the block
