"""The calendar, in UTC."""
from streamdsl._native.expr.vector cimport Kernel

cdef Kernel time_kernel(int op) noexcept             # NULL: the operation is not of this family
