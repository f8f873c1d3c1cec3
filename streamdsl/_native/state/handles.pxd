"""State of Processors as user code sees it: handles bound to the key at hand."""
from libc.stdint cimport int64_t

from streamdsl._native.state.state_field cimport Cell, Scope, StateField, StateSpec


cdef class Handle:
    cdef Scope scope
    cdef StateSpec spec

    cdef Cell* cell(self, bint write) except? NULL     # write: touched first
    cdef int empty(self) except -1


cdef class StateDeclarations:
    """`ctx.state`."""
    cdef Scope scope
    cdef dict handles
    cdef bint laid_out

    cdef object declare(self, int kind, str name, object key_type, object type, object ttl, str clock)
    cdef StateField lay_out(self, str operator)        # once: the states declared so far get a cell in the row

cdef int64_t duration_ms(object value, str what, bint saturate) except? -1
