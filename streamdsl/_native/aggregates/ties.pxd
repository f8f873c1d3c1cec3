"""What tells records with equal ordering values apart: further ordering values, the first that differs."""
from libc.stdint cimport int64_t

from streamdsl._native.aggregates.cell cimport ByteReader, Cell
from streamdsl._native.flow.batch cimport Column
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum:
    MOST_TIES = 4


cdef class Ties:
    cdef readonly int n
    cdef readonly str layout                 # the kinds, for the layout of a state
    cdef int places[MOST_TIES]               # argument columns
    cdef int kinds[MOST_TIES]
    cdef Column* columns[MOST_TIES]          # of the batch at hand
    cdef Arena arena

    cdef void begin(self, Column* arguments) noexcept nogil
    cdef void load(self, Cell* cells, int64_t row) noexcept nogil            # borrowed from the batch
    # > 0: `one` stands before `other`. `sign`: 1 the greatest first, -1 the least; null comes last in either.
    cdef int compare(self, const Cell* one, const Cell* other, int sign) noexcept nogil
    cdef int assign(self, Cell* target, const Cell* source) except -1 nogil
    cdef int free(self, Cell* cells) except -1 nogil
    cdef int write(self, const Cell* cells, ByteWriter* out) except -1 nogil
    cdef int read(self, Cell* cells, ByteReader* source) except -1 nogil
