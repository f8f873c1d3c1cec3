"""See state_view.pxd."""
from streamdsl._native.flow.arrow cimport column_to_arrow
from streamdsl._native.flow.batch cimport column_clear

import pyarrow as pa

from streamdsl._native.flow.convert import canonical_type, from_canonical, python_rows


cdef class StateView:
    """Names and types of what an operator keeps for a key."""

    cdef list rows_of(self, Column* columns, int64_t n):
        cdef int i, width = len(self.names)
        schema = pa.schema([pa.field(name, type_) for name, type_ in zip(self.names, self.types, strict=True)])
        try:
            arrays = [column_to_arrow(&columns[i], n, canonical_type(self.types[i])) for i in range(width)]
        finally:
            for i in range(width):
                column_clear(&columns[i])
        rows = pa.RecordBatch.from_arrays(arrays, names=list(self.names))
        return python_rows(from_canonical(rows, schema))


cdef StateView new_view(KeyLookup lookup, key_schema, names, types):
    cdef StateView view = StateView.__new__(StateView)
    view.reader = KeyReader(lookup, key_schema)
    view.names = tuple(names)
    view.types = tuple(types)
    return view


cdef bint all_zero(const char* memory, int64_t size) noexcept nogil:
    cdef int64_t i
    for i in range(size):
        if memory[i] != 0:
            return False
    return True
