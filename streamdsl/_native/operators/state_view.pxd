"""What `state()` of the native keyed operators shows: their rows as plain Python values, for tests and for looking in."""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Column
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.process_context cimport KeyReader


cdef class StateView:
    cdef readonly KeyReader reader
    cdef tuple names
    cdef tuple types                         # logical ones

    # n rows of the columns as dicts; the columns are released.
    cdef list rows_of(self, Column* columns, int64_t n)


cdef StateView new_view(KeyLookup lookup, key_schema, names, types)
cdef bint all_zero(const char* memory, int64_t size) noexcept nogil
