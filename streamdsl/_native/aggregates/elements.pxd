"""Values as they stand in the text of a JSON list: what to_list and top_k give."""
from libc.stdint cimport int64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum Form:
    FORM_PLAIN = 0
    FORM_JSON = 1                            # lists and structs travel as JSON text; inside a list they stand as they are
    FORM_BYTES = 2


# `spec` is an AggregateSpec.
cdef int form_of(spec) except -1
cdef int64_t scale_of(spec) except -1                                    # of decimals; else 0
cdef int write_element(const Cell* cell, int kind, Form form, int64_t scale, ByteWriter* out) except -1 nogil
