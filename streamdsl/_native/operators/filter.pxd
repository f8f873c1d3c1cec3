from libc.stdint cimport int32_t, int64_t

from streamdsl._native.expr.program cimport Program
from streamdsl._native.operators.refusals cimport RefusingOperator


cdef class FilterOperator(RefusingOperator):
    cdef Program predicate
    cdef int32_t* rows                       # scratch: the rows that stay
    cdef int64_t capacity
    cdef int64_t kept                        # of the rows at hand
    cdef readonly int64_t filtered
