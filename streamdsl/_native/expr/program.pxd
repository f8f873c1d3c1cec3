"""Expressions over the columns of a batch, evaluated without the GIL."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch, Column


cdef class Program:
    cdef readonly int n_outputs

    # Fills out[0 .. n_outputs) with columns of batch.n rows; the caller clears them (column_clear).
    cdef int evaluate(self, Batch* batch, Column* out) except -1 nogil
    # For a program with one bool output: writes the rows where it is true, ascending; returns their number.
    cdef int64_t select(self, Batch* batch, int32_t* rows) except -1 nogil
