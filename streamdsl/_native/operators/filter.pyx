"""Keeps the rows for which an expression is true."""
from libc.stdlib cimport free, malloc

from streamdsl._native.flow.batch cimport Batch, batch_take
from streamdsl._native.operators.base cimport blame


cdef class FilterOperator(Operator):
    """`predicate`: a program with one bool output; null counts as false."""

    def __init__(self, str name, Program predicate):
        self.name = name
        self.predicate = predicate

    def __dealloc__(self):
        free(self.rows)

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef int64_t n
        cdef bint done = False
        if self.capacity < batch.n:
            free(self.rows)
            self.rows = <int32_t*>malloc(batch.n * sizeof(int32_t))
            self.capacity = batch.n
            if self.rows == NULL:
                with gil:
                    raise MemoryError("no memory left for a filter")
        try:
            n = self.predicate.select(batch, self.rows)
            done = True
        finally:
            if not done:
                blame(self, batch, -1)
        self.filtered += batch.n - n
        if n == batch.n:
            return self.next.process(batch)
        if n > 0:
            return self.emit(batch_take(batch, self.rows, <int32_t>n))
        return 0

    def metrics(self):
        return {"filtered": self.filtered}
