"""Functions of strings."""
from streamdsl._native.expr.vector cimport Kernel

cdef Kernel string_kernel(int op) noexcept           # NULL: the operation is not of this family
