"""Values as they stand in the text of a JSON list: what to_list and top_k give."""
from libc.stdint cimport int64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.aggregates.packed_row cimport PackedRow
from streamdsl._native.flow.batch cimport Column
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum Form:
    FORM_PLAIN = 0
    FORM_JSON = 1                            # lists and structs travel as JSON text; inside a list they stand as they are
    FORM_BYTES = 2


cdef int form_of(type_) except -1                                        # of a `pa.DataType`
cdef int64_t scale_of(str kind, type_) except -1                         # of decimals; else 0
cdef int write_element(const Cell* cell, int kind, Form form, int64_t scale, ByteWriter* out) except -1 nogil


cdef struct RowPart:
    const char* front                        # what stands in front of the value, the field's name among it
    int64_t size
    Form form
    int64_t scale


cdef class WholeRows:
    """Whole rows as values, `row()`: they are kept packed, and become the text of a JSON object where a list of them is seen."""
    cdef readonly str layout                 # what a packed row holds, in words
    cdef PackedRow format
    cdef int width
    cdef int* chosen                         # by field: its argument column
    cdef RowPart* parts
    cdef list fronts
    cdef Cell* cells                         # scratch

    cdef int pack(self, const Column* columns, int64_t row, ByteWriter* out) except -1 nogil
    cdef int write_json(self, const char* data, int64_t size, ByteWriter* out) except -1 nogil
