"""Aggregates that choose the same record: first, last, min_by and max_by of several columns, none of which is ever null.

Their values are kept as one row, and what orders the records is kept and compared once. The first of these aggregates has the state, the
others have results only.
"""
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from streamdsl._native.aggregates.accumulators cimport Accumulator, RunMode
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, cell_assign, cell_compare, cell_free, cell_read, cell_write, kind_number, read_bytes, read_i64, results_append,
    results_null, write_i64,
)
from streamdsl._native.aggregates.packed_row cimport PackedRow, packed_free, packed_init, packed_view, packed_write
from streamdsl._native.aggregates.ties cimport MOST_TIES, Ties
from streamdsl._native.flow.batch cimport Column
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append, bytes_free, bytes_init

from streamdsl._native.aggregates.accumulators import stored_kind

#: Aggregates that choose a record, and 1 where the greatest is chosen, -1 the least, 0 by arrival.
SIGNS = {"first": 0, "last": 0, "min_by": -1, "max_by": 1}


def made_together(str operator, specs, Arena arena):
    """Return accumulators by their places among `specs`: of those that choose the same record, where there are several."""
    groups = {}
    for place, spec in enumerate(specs):
        if spec.kind in SIGNS and spec.never_null and not spec.retracts:
            groups.setdefault((spec.kind, spec.by, spec.then_by, spec.where), []).append(place)
    found = {}
    for places in groups.values():
        if len(places) > 1:
            others = [ChosenColumn(operator, specs[place], arena) for place in places[1:]]
            leader = ChosenRowAccumulator(operator, [specs[place] for place in places], others, arena)
            found.update(zip(places, [leader, *others], strict=True))
    return found


cdef struct ChosenRow:
    Cell rank
    int64_t at                               # the arrival number of the record
    char* data                               # its values, packed; NULL: no record has come
    int64_t size                             # bytes of them; the cells of the ties stand behind it


cdef inline Cell* ties_of(ChosenRow* held) noexcept nogil:
    return <Cell*>(<char*>held + sizeof(ChosenRow))


cdef class ChosenColumn(Accumulator):
    """Has no state: the accumulator that has it appends to its results."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.layout = "chosen"
        self.flat = True

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        return 0

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        return 0


cdef class ChosenRowAccumulator(Accumulator):
    """`specs` are alike but for their arguments; `others`: the `ChosenColumn`s of all but the first."""
    cdef int sign
    cdef bint last
    cdef Ties ties
    cdef PackedRow format
    cdef int width
    cdef int* chosen                         # by value: its argument column
    cdef void** refs                         # by value: whose results it is appended to; borrowed
    cdef list others
    cdef Column* columns                     # the argument columns of the batch at hand
    cdef Cell* cells                         # scratch: the values of a row
    cdef ByteWriter scratch

    def __init__(self, str operator, list specs, list others, Arena arena):
        cdef int i
        cdef int* kinds
        spec = specs[0]
        Accumulator.__init__(self, operator, spec, arena)
        self.sign = SIGNS[spec.kind]
        self.last = spec.kind == "last"
        self.ties = Ties(spec, arena)
        self.others = others
        self.width = len(specs)
        values = ",".join([stored_kind(one.input_kind, one.input_type) for one in specs])
        self.layout = f"row/2:{spec.kind}:{stored_kind(spec.by_kind, spec.by_type)}{self.ties.layout}:{values}"
        self.size = sizeof(ChosenRow) + self.ties.n * <int64_t>sizeof(Cell)
        self.chosen = <int*>calloc(self.width, sizeof(int))
        self.refs = <void**>calloc(self.width, sizeof(void*))
        self.cells = <Cell*>calloc(self.width, sizeof(Cell))
        kinds = <int*>calloc(self.width, sizeof(int))
        try:
            if self.chosen == NULL or self.refs == NULL or self.cells == NULL or kinds == NULL:
                raise MemoryError("no memory left for aggregates")
            for i in range(self.width):
                kinds[i] = kind_number(specs[i].input_kind)
                self.chosen[i] = specs[i].argument
                self.refs[i] = <void*>self if i == 0 else <void*>(<Accumulator>others[i - 1])
            packed_init(&self.format, kinds, self.width)
        finally:
            free(kinds)
        bytes_init(&self.scratch, 256)

    def __dealloc__(self):
        free(self.chosen)
        free(self.refs)
        free(self.cells)
        packed_free(&self.format)
        bytes_free(&self.scratch)

    cdef int begin(self, Column* arguments, int64_t n_results, int64_t arrived) except -1 nogil:
        self.ties.begin(arguments)
        Accumulator.begin(self, arguments, n_results, arrived)
        self.columns = arguments
        self.argument_column = NULL          # none of them is null: every row counts
        return 0

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef ChosenRow* held = <ChosenRow*>state
        cdef Cell[MOST_TIES] ties
        cdef int order = 1
        if self.sign == 0:
            if held.data != NULL and not self.last:
                return 0
            return self.take(held)
        if by.tag == 0:
            return 0
        if held.data != NULL:
            order = self.sign * cell_compare(self.by_kind, by, &held.rank)
            if order < 0 or (order == 0 and self.ties.n == 0):
                return 0
        if self.ties.n > 0:
            self.ties.load(ties, self.row)
            if order == 0 and self.ties.compare(ties, ties_of(held), self.sign) <= 0:
                return 0
            self.ties.assign(ties_of(held), ties)
        cell_assign(&held.rank, self.by_kind, by, self.arena)
        return self.take(held)

    cdef int take(self, ChosenRow* held) except -1 nogil:
        self.scratch.used = 0
        packed_write(&self.format, self.columns, self.chosen, self.row, &self.scratch)
        held.at = self.arrived + self.row
        return self.keep(held, self.scratch.data, self.scratch.used)

    cdef int keep(self, ChosenRow* held, const char* data, int64_t size) except -1 nogil:
        if size != held.size:
            held.data = self.arena.realloc(held.data, held.size, size)
            held.size = size
        memcpy(held.data, data, size)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef ChosenRow* held = <ChosenRow*>into
        cdef ChosenRow* more = <ChosenRow*>other
        cdef char[128] kept                  # of a row with MOST_TIES cells
        cdef int order = 1
        if more.data != NULL:
            if held.data != NULL and self.sign != 0:
                order = self.sign * cell_compare(self.by_kind, &more.rank, &held.rank)
                if order == 0:
                    order = self.ties.compare(ties_of(more), ties_of(held), self.sign)
                if order == 0:
                    order = 1 if more.at < held.at else -1
            elif held.data != NULL:
                order = 1 if (more.at > held.at) == self.last else -1
            if order > 0:
                memcpy(kept, into, self.size)
                memcpy(into, other, self.size)
                memcpy(other, kept, self.size)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef ChosenRow* held = <ChosenRow*>state
        cdef int i
        if held.data == NULL:
            for i in range(self.width):
                results_null(&(<Accumulator>self.refs[i]).results)
            return 0
        packed_view(&self.format, held.data, held.size, self.cells)
        for i in range(self.width):
            results_append(&(<Accumulator>self.refs[i]).results, &self.cells[i])
        return 0

    cdef int clear(self, char* state) except -1 nogil:
        cdef ChosenRow* held = <ChosenRow*>state
        cell_free(&held.rank, self.by_kind, self.arena)
        self.ties.free(ties_of(held))
        self.arena.free(held.data, held.size)
        memset(state, 0, self.size)
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef ChosenRow* held = <ChosenRow*>state
        write_i64(held.size, out)
        if held.data == NULL:
            return 0
        write_i64(held.at, out)
        cell_write(&held.rank, self.by_kind, out)
        self.ties.write(ties_of(held), out)
        return bytes_append(out, held.data, held.size)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef ChosenRow* held = <ChosenRow*>state
        cdef int64_t size = read_i64(source)
        if size == 0:
            return 0
        held.at = read_i64(source)
        cell_read(&held.rank, self.by_kind, source, self.arena)
        self.ties.read(ties_of(held), source)
        return self.keep(held, read_bytes(source, size), size)
