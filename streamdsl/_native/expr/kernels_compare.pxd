"""Comparison, tests for null and NaN, least and greatest."""
from streamdsl._native.expr.vector cimport Kernel

cdef Kernel compare_kernel(int op) noexcept          # NULL: the operation is not of this family
