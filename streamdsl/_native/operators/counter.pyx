"""Counts the rows for which an expression is true, and passes all of them on."""
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.base cimport Operator, blame


cdef class CounterOperator(Operator):
    """The count appears under `metric` in the operator's metrics."""
    cdef Program predicate
    cdef str metric
    cdef int32_t* rows
    cdef int64_t capacity
    cdef int64_t counted

    def __init__(self, str name, str metric, Program predicate):
        self.name = name
        self.metric = metric
        self.predicate = predicate

    def __dealloc__(self):
        free(self.rows)

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef bint done = False
        if self.capacity < batch.n:
            free(self.rows)
            self.rows = <int32_t*>malloc(batch.n * sizeof(int32_t))
            self.capacity = batch.n
            if self.rows == NULL:
                with gil:
                    raise MemoryError("no memory left for a counter")
        try:
            self.counted += self.predicate.select(batch, self.rows)
            done = True
        finally:
            if not done:
                blame(self, batch, -1)
        return self.next.process(batch)

    def metrics(self):
        return {self.metric: self.counted}
