"""Counts the rows for which an expression is true, and passes all of them on."""
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.base cimport blame
from streamdsl._native.operators.refusals cimport RefusingOperator


cdef class CounterOperator(RefusingOperator):
    """`spec` is a `PhysicalCounter`. The count appears under its `metric` in the operator's metrics."""
    cdef Program predicate
    cdef str metric
    cdef int32_t* rows
    cdef int64_t capacity
    cdef int64_t counted
    cdef int64_t found                       # in the rows at hand

    def __init__(self, spec, Program predicate):
        self.name = spec.name
        self.metric = spec.metric
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
                    raise MemoryError("no memory left for a counter")
        try:
            self.found = self.predicate.select(batch, self.rows)
            done = True
        finally:
            if not done:
                blame(self, batch, -1)
        return 0

    cdef int finish(self, Batch* batch) except -1 nogil:
        self.counted += self.found
        return self.next.process(batch)

    def metrics(self):
        return {**RefusingOperator.metrics(self), self.metric: self.counted}
