"""Sums and means of decimals, exact."""

from streamdsl._native.includes.decimal cimport dec_add, dec_fits, dec_load, dec_quotient, dec_store, int128
from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport Cell, cell_decimal, cell_of_decimal, results_append, results_null
from streamdsl._native.state.arena cimport Arena

cdef enum:
    MOST_DIGITS = 38


cdef class SumDecimalAccumulator(Accumulator):
    """A sum of more than 38 digits is an error of the record. An empty one is 0."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = self.saved_size = sizeof(DecimalTotal)
        self.refuses = True
        # The scale is part of what the number means.
        self.layout = f"decimals:{spec.input_type.scale}"

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef DecimalTotal* total = <DecimalTotal*>state
        cdef int128 result = 0
        if not dec_add(dec_load(total.sum), cell_decimal(argument), &result) or not dec_fits(result, MOST_DIGITS):
            self.fail("decimal overflow: the sum has more than 38 digits")
        dec_store(total.sum, result)
        total.n += 1
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef DecimalTotal* more = <DecimalTotal*>other
        cdef Cell cell = cell_of_decimal(dec_load(more.sum))
        if more.n > 0:
            self.add(into, &cell, NULL)
            (<DecimalTotal*>into).n += more.n - 1
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef Cell cell = cell_of_decimal(dec_load((<DecimalTotal*>state).sum))
        return results_append(&self.results, &cell)


cdef class MeanDecimalAccumulator(SumDecimalAccumulator):
    """sum / count, rounded once, half to even, to the scale of the result."""

    def __init__(self, str operator, spec, Arena arena):
        SumDecimalAccumulator.__init__(self, operator, spec, arena)
        self.shift = spec.output_type.scale - spec.input_type.scale

    cdef int emit(self, char* state) except -1 nogil:
        cdef DecimalTotal* total = <DecimalTotal*>state
        cdef int128 result = 0
        cdef Cell cell
        if total.n == 0:
            return results_null(&self.results)
        if not dec_quotient(dec_load(total.sum), self.shift, <int128>total.n, &result):
            self.fail("decimal overflow: the mean has more than 38 digits")
        cell = cell_of_decimal(result)
        return results_append(&self.results, &cell)
