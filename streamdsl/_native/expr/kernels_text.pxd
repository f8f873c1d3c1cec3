"""Text made of other values; regular expressions."""
from streamdsl._native.expr.vector cimport Kernel

cdef Kernel text_kernel(int op) noexcept             # NULL: the operation is not of this family
