from libc.stdint cimport int32_t, int64_t

from streamdsl._native.expr.program cimport Program
from streamdsl._native.operators.base cimport Operator


cdef class FilterOperator(Operator):
    cdef Program predicate
    cdef int32_t* rows                       # scratch: the rows that stay
    cdef int64_t capacity
    cdef readonly int64_t filtered
