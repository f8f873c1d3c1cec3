"""Arithmetic and functions of numbers."""
from streamdsl._native.expr.vector cimport Kernel

cdef Kernel numeric_kernel(int op) noexcept          # NULL: the operation is not of this family
