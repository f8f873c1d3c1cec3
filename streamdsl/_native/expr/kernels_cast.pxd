"""Between kinds, and between text and numbers."""
from streamdsl._native.expr.vector cimport Kernel

cdef Kernel cast_kernel(int op) noexcept             # NULL: the operation is not of this family
