from libc.stdint cimport int64_t

from streamdsl._native.operators.base cimport Operator


cdef class Fork(Operator):
    cdef list targets
    cdef void** refs
    cdef int size
    cdef bint numbered                       # a merge behind it needs the rows' ordinals
    cdef int64_t ordinal
