"""Exact arithmetic of decimals. The planner says the scales; a result of too many digits is an error of the record."""
from streamdsl._native.expr.vector cimport Kernel

cdef Kernel decimal_kernel(int op) noexcept          # NULL: the operation is not of this family
