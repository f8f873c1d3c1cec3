"""Keeps the rows for which an expression is true."""
from libc.stdlib cimport free, malloc

from streamdsl._native.flow.batch cimport Batch, batch_take
from streamdsl._native.operators.base cimport blame


cdef class FilterOperator(RefusingOperator):
    """`spec` is a `PhysicalFilter`, `predicate` a program with one bool output; null counts as false."""

    def __init__(self, spec, Program predicate):
        self.name = spec.name
        self.predicate = predicate
        self.prepare_refusals(spec)

    def __dealloc__(self):
        free(self.rows)

    cdef int attempt(self, Batch* batch) except -1 nogil:
        cdef bint done = False
        if self.capacity < batch.n:
            free(self.rows)
            self.rows = <int32_t*>malloc(batch.n * sizeof(int32_t))
            self.capacity = batch.n
            if self.rows == NULL:
                with gil:
                    raise MemoryError("no memory left for a filter")
        try:
            self.kept = self.predicate.select(batch, self.rows)
            done = True
        finally:
            if not done:
                blame(self, batch, -1)
        return 0

    cdef int finish(self, Batch* batch) except -1 nogil:
        cdef int64_t n = self.kept
        self.filtered += batch.n - n
        if n == batch.n:
            return self.next.process(batch)
        if n > 0:
            return self.emit(batch_take(batch, self.rows, <int32_t>n))
        return 0

    def metrics(self):
        return {"filtered": self.filtered, **RefusingOperator.metrics(self)}
