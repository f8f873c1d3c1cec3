"""Between kinds, and between text and numbers."""
from libc.stdint cimport int64_t

from streamdsl._native.expr.vector cimport Kernel, Vector

cdef Kernel cast_kernel(int op) noexcept             # NULL: the operation is not of this family

# Text of a number, time or bool, at most NUMBER_ROOM bytes. style: 0 = as it is, 1 = timestamp, 2 = date.
cdef int write_value(int kind, int64_t style, const Vector* source, int64_t row, char* out) noexcept nogil
# The values of source, without its nulls.
cdef int share_values(Vector* out, Vector* source) except -1 nogil
