from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport Column
from streamdsl._native.operators.base cimport Operator


cdef class ProjectOperator(Operator):
    cdef Program program
    cdef int* columns                        # input column to pass through, -1: next output of the program
    cdef int width
    cdef Column* computed                    # scratch: the program's outputs
