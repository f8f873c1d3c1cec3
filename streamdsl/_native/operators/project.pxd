from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport Column
from streamdsl._native.operators.refusals cimport RefusingOperator


cdef class ProjectOperator(RefusingOperator):
    cdef Program program
    cdef int* columns                        # input column to pass through, -1: next output of the program
    cdef int width
    cdef Column* computed                    # scratch: the program's outputs
    cdef int n_computed                      # of them: filled
    cdef list names                          # of the computed columns; None: hidden

    cdef void forget(self) noexcept nogil
