"""Chooses, renames and computes columns."""
from libc.stdlib cimport calloc, free

from streamdsl._native.flow.batch cimport Batch, batch_share, column_clear, column_share
from streamdsl._native.operators.base cimport blame


cdef class ProjectOperator(RefusingOperator):
    """`spec` is a `PhysicalProject`: `columns[i]` is an input column, or -1 for the next output of `program` (None: there is none)."""

    def __init__(self, spec, program):
        cdef int i
        columns = spec.columns
        self.name = spec.name
        self.program = program
        self.names = [None if field.hidden else field.name for column, field in zip(columns, spec.schema.fields) if column < 0]
        self.prepare_refusals(spec)
        self.width = len(columns)
        self.columns = <int*>calloc(self.width + 1, sizeof(int))
        self.computed = <Column*>calloc(self.width + 1, sizeof(Column))
        if self.columns == NULL or self.computed == NULL:
            raise MemoryError("no memory left for a projection")
        for i in range(self.width):
            self.columns[i] = columns[i]

    def __dealloc__(self):
        self.forget()
        free(self.columns)
        free(self.computed)

    cdef void forget(self) noexcept nogil:
        cdef int i
        for i in range(self.n_computed):
            column_clear(&self.computed[i])
        self.n_computed = 0

    cdef int attempt(self, Batch* batch) except -1 nogil:
        cdef bint done = False
        self.forget()
        if self.program is None:
            return 0
        try:
            self.program.evaluate(batch, self.computed)
            self.n_computed = self.program.n_outputs
            done = True
        finally:
            if not done:
                blame(self, batch, self.program.at)
        return 0

    cdef object failing_column(self):
        return self.names[self.program.at]

    cdef int finish(self, Batch* batch) except -1 nogil:
        cdef int i, at = 0
        cdef Batch* out = batch_share(batch, self.width)
        self.n_computed = 0
        for i in range(self.width):
            if self.columns[i] >= 0:
                column_share(&out.columns[i], &batch.columns[self.columns[i]])
            else:
                out.columns[i] = self.computed[at]      # moved: the output batch owns it now
                at += 1
        return self.emit(out)
