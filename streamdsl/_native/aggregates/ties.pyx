"""See ties.pxd."""
from libc.string cimport memset

from streamdsl._native.aggregates.cell cimport cell_assign, cell_compare, cell_free, cell_load, cell_read, cell_write, kind_number

from streamdsl.errors import InternalError


cdef class Ties:
    """`spec` is an `AggregateSpec`."""

    def __init__(self, spec, Arena arena):
        cdef int i
        self.n = len(spec.then_by)
        if self.n > MOST_TIES:
            raise InternalError(f"{self.n} ordering values beside the first, and {MOST_TIES} at most")
        for i in range(self.n):
            self.places[i] = spec.then_by[i]
            self.kinds[i] = kind_number(spec.then_kinds[i])
            self.columns[i] = NULL
        self.layout = "".join(f":{kind}" for kind in spec.then_kinds)
        self.arena = arena

    cdef void begin(self, Column* arguments) noexcept nogil:
        cdef int i
        for i in range(self.n):
            self.columns[i] = &arguments[self.places[i]] if arguments != NULL else NULL

    cdef void load(self, Cell* cells, int64_t row) noexcept nogil:
        cdef int i
        for i in range(self.n):
            cells[i] = cell_load(self.columns[i], row)

    cdef int compare(self, const Cell* one, const Cell* other, int sign) noexcept nogil:
        cdef int i, order
        for i in range(self.n):
            if one[i].tag == 0 or other[i].tag == 0:
                order = (one[i].tag != 0) - (other[i].tag != 0)
            else:
                order = sign * cell_compare(self.kinds[i], &one[i], &other[i])
            if order != 0:
                return order
        return 0

    cdef int assign(self, Cell* target, const Cell* source) except -1 nogil:
        cdef int i
        for i in range(self.n):
            cell_assign(&target[i], self.kinds[i], &source[i], self.arena)
        return 0

    cdef int free(self, Cell* cells) except -1 nogil:
        cdef int i
        for i in range(self.n):
            cell_free(&cells[i], self.kinds[i], self.arena)
        return 0

    cdef int write(self, const Cell* cells, ByteWriter* out) except -1 nogil:
        cdef int i
        for i in range(self.n):
            cell_write(&cells[i], self.kinds[i], out)
        return 0

    cdef int read(self, Cell* cells, ByteReader* source) except -1 nogil:
        cdef int i
        memset(cells, 0, self.n * sizeof(Cell))
        for i in range(self.n):
            cell_read(&cells[i], self.kinds[i], source, self.arena)
        return 0
