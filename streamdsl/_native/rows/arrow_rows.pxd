"""Whole batches to user code and back, as pyarrow record batches in the declared types."""
from libc.stdint cimport int32_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.rows.row cimport RowShape


cdef class ArrowRows:
    cdef str operator
    cdef RowShape input_shape
    cdef RowShape shape
    cdef list input_columns                  # the visible ones
    cdef list columns
    cdef object input_types                  # pa.Schema: declared and canonical types, visible columns
    cdef object input_canonical
    cdef object types
    cdef object canonical

    cdef object to_arrow(self, Batch* batch)
    # What the function returned, as a batch (NULL: nothing); the caller releases it.
    cdef int take_hidden(self, int column, Batch* source, const int32_t* rows, Batch* out) except -1
    cdef Batch* from_arrow(self, object result, Batch* source) except? NULL
