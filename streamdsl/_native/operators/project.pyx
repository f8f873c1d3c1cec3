"""Chooses, renames and computes columns."""
from libc.stdlib cimport calloc, free

from streamdsl._native.flow.batch cimport Batch, batch_share, column_share
from streamdsl._native.operators.base cimport blame


cdef class ProjectOperator(Operator):
    """`columns[i]` is an input column, or -1 for the next output of `program` (None if nothing is computed)."""

    def __init__(self, str name, columns, program):
        cdef int i
        self.name = name
        self.program = program
        self.width = len(columns)
        self.columns = <int*>calloc(self.width + 1, sizeof(int))
        self.computed = <Column*>calloc(self.width + 1, sizeof(Column))
        if self.columns == NULL or self.computed == NULL:
            raise MemoryError("no memory left for a projection")
        for i in range(self.width):
            self.columns[i] = columns[i]

    def __dealloc__(self):
        free(self.columns)
        free(self.computed)

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef int i, at = 0
        cdef bint done = False
        cdef Batch* out
        try:
            if self.program is not None:
                self.program.evaluate(batch, self.computed)
            done = True
        finally:
            if not done:
                blame(self, batch, self.program.at)
        out = batch_share(batch, self.width)
        for i in range(self.width):
            if self.columns[i] >= 0:
                column_share(&out.columns[i], &batch.columns[self.columns[i]])
            else:
                out.columns[i] = self.computed[at]      # moved: the output batch owns it now
                at += 1
        return self.emit(out)
