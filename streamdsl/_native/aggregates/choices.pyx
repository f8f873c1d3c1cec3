"""Accumulators that choose one value: min, max, first, last, min_by, max_by."""
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, canonical, cell_assign, cell_compare, cell_free, cell_order, cell_read, cell_write, read_i64,
    results_append, write_i64,
)
from streamdsl._native.aggregates.ties cimport MOST_TIES, Ties
from streamdsl._native.flow.batch cimport KIND_STR, Column
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter


cdef void swap(char* one, char* other, int64_t size) noexcept nogil:
    cdef char[128] kept                      # of the largest: Best with MOST_TIES cells
    memcpy(kept, one, size)
    memcpy(one, other, size)
    memcpy(other, kept, size)


cdef class ExtremeAccumulator(Accumulator):
    """min and max, one cell. NaN is the greatest value, and -0.0 is less than 0.0: no order of arrival is needed."""
    cdef int sign                            # 1: max, -1: min

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Cell)
        self.flat = self.argument_kind != KIND_STR
        self.sign = 1 if spec.kind == "max" else -1

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Cell* held = <Cell*>state
        cdef Cell value
        if held.tag == 0 or self.sign * cell_order(self.argument_kind, argument, held) > 0:
            value = canonical(self.argument_kind, argument)
            cell_assign(held, self.argument_kind, &value, self.arena)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef Cell* held = <Cell*>into
        cdef Cell* more = <Cell*>other
        if more.tag != 0 and (held.tag == 0 or self.sign * cell_order(self.argument_kind, more, held) > 0):
            swap(into, other, sizeof(Cell))
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        return results_append(&self.results, <Cell*>state)

    cdef int clear(self, char* state) except -1 nogil:
        return cell_free(<Cell*>state, self.argument_kind, self.arena)

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        return cell_write(<Cell*>state, self.argument_kind, out)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        return cell_read(<Cell*>state, self.argument_kind, source, self.arena)


cdef struct Arrival:
    Cell value
    int64_t at                               # the arrival number of its record


cdef class EdgeAccumulator(Accumulator):
    """first and last: the value of the record that arrived first, or last."""
    cdef bint last

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Arrival)
        self.flat = self.argument_kind != KIND_STR
        self.last = spec.kind == "last"

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Arrival* held = <Arrival*>state
        if self.last or held.value.tag == 0:
            cell_assign(&held.value, self.argument_kind, argument, self.arena)
            held.at = self.arrived + self.row
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef Arrival* held = <Arrival*>into
        cdef Arrival* more = <Arrival*>other
        if more.value.tag != 0 and (held.value.tag == 0 or (more.at > held.at) == self.last):
            swap(into, other, sizeof(Arrival))
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        return results_append(&self.results, &(<Arrival*>state).value)

    cdef int clear(self, char* state) except -1 nogil:
        (<Arrival*>state).at = 0
        return cell_free(&(<Arrival*>state).value, self.argument_kind, self.arena)

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        write_i64((<Arrival*>state).at, out)
        return cell_write(&(<Arrival*>state).value, self.argument_kind, out)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        (<Arrival*>state).at = read_i64(source)
        return cell_read(&(<Arrival*>state).value, self.argument_kind, source, self.arena)


cdef struct Best:
    Cell rank
    Cell value
    int64_t at                               # the arrival number of the record; the cells of the ties stand behind it


cdef inline Cell* ties_of(Best* held) noexcept nogil:
    return <Cell*>(<char*>held + sizeof(Best))


cdef class ExtremeByAccumulator(Accumulator):
    """max_by and min_by: of equal ones the one that ties say, then the first to arrive.

    Rows where the argument or the ordering value is null do not count.
    """
    cdef int sign
    cdef Ties ties

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.ties = Ties(spec, arena)
        self.layout += self.ties.layout
        self.size = sizeof(Best) + self.ties.n * <int64_t>sizeof(Cell)
        self.sign = 1 if spec.kind == "max_by" else -1

    cdef int begin(self, Column* arguments, int64_t n_results, int64_t arrived) except -1 nogil:
        self.ties.begin(arguments)
        return Accumulator.begin(self, arguments, n_results, arrived)

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Best* held = <Best*>state
        cdef Cell[MOST_TIES] ties
        cdef int order = 1
        if by.tag == 0:
            return 0
        if held.rank.tag != 0:
            order = self.sign * cell_compare(self.by_kind, by, &held.rank)
            if order < 0 or (order == 0 and self.ties.n == 0):
                return 0
        if self.ties.n > 0:
            self.ties.load(ties, self.row)
            if order == 0 and self.ties.compare(ties, ties_of(held), self.sign) <= 0:
                return 0
            self.ties.assign(ties_of(held), ties)
        cell_assign(&held.rank, self.by_kind, by, self.arena)
        cell_assign(&held.value, self.argument_kind, argument, self.arena)
        held.at = self.arrived + self.row
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef Best* held = <Best*>into
        cdef Best* more = <Best*>other
        cdef int order
        if more.rank.tag != 0:
            order = 1 if held.rank.tag == 0 else self.sign * cell_compare(self.by_kind, &more.rank, &held.rank)
            if order == 0:
                order = self.ties.compare(ties_of(more), ties_of(held), self.sign)
            if order > 0 or (order == 0 and more.at < held.at):
                swap(into, other, self.size)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        return results_append(&self.results, &(<Best*>state).value)

    cdef int clear(self, char* state) except -1 nogil:
        cdef Best* held = <Best*>state
        held.at = 0
        cell_free(&held.rank, self.by_kind, self.arena)
        self.ties.free(ties_of(held))
        return cell_free(&held.value, self.argument_kind, self.arena)

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef Best* held = <Best*>state
        write_i64(held.at, out)
        cell_write(&held.rank, self.by_kind, out)
        self.ties.write(ties_of(held), out)
        return cell_write(&held.value, self.argument_kind, out)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef Best* held = <Best*>state
        held.at = read_i64(source)
        cell_read(&held.rank, self.by_kind, source, self.arena)
        self.ties.read(ties_of(held), source)
        return cell_read(&held.value, self.argument_kind, source, self.arena)


CHOICES = {
    "min": ExtremeAccumulator,
    "max": ExtremeAccumulator,
    "first": EdgeAccumulator,
    "last": EdgeAccumulator,
    "min_by": ExtremeByAccumulator,
    "max_by": ExtremeByAccumulator,
}
