"""Aggregates that choose among rows, and out of which a row can be taken again: first, last, to_list, max_by, min_by, top_k.

All rows are kept, in two orders: by their values, to find the one that leaves, and as the result wants them. Of rows with the
same values the one that arrived first leaves.
"""
from libc.stdint cimport INT64_MIN, int64_t
from libc.string cimport memcmp, memset

from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, cell_view, cell_write, read_i64, results_append, results_null, write_i64,
)
from streamdsl._native.aggregates.elements cimport Form, form_of, scale_of, write_element
from streamdsl._native.aggregates.sorted_cells cimport MOST_CELLS, CellOrder, Place, SortedCells, number_of
from streamdsl._native.aggregates.ties cimport Ties
from streamdsl._native.flow.batch cimport Column
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append, bytes_free, bytes_init

from streamdsl.errors import InternalError


cdef struct Rows:
    SortedCells by_value                     # cells, then the arrival number; texts are theirs
    SortedCells by_rank                      # the same entries, as the result wants them; texts are borrowed


cdef class KeptRowsAccumulator(Accumulator):
    """Base. The cells of a row: what it is ranked by, if anything is, then the value."""
    cdef CellOrder values
    cdef CellOrder ranks
    cdef int n_cells

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Rows)
        kinds, signs = self.ranking(spec)
        kinds.append(self.argument_kind)
        self.n_cells = len(kinds)
        self.values = CellOrder(kinds, [1] * len(kinds), len(kinds), arena, by_number=True, exact=True, owns=True)
        self.ranks = CellOrder(kinds, [*signs, 1], len(signs), arena, by_number=True, exact=False, owns=False)
        self.layout = "kept:" + self.layout

    def ranking(self, spec):
        """Return the kinds of the cells that order the rows, and 1 (ascending) or -1 for each."""
        return [], []

    cdef bint cells_of(self, Cell* cells, const Cell* argument, const Cell* by) noexcept nogil:
        # Whether the row counts.
        cells[0] = argument[0]
        return True

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Cell[MOST_CELLS] cells
        if not self.cells_of(cells, argument, by):
            return 0
        return self.keep(<Rows*>state, cells, self.arrived + self.row)

    cdef int keep(self, Rows* rows, const Cell* cells, int64_t number) except -1 nogil:
        cdef char* entry = self.values.insert(&rows.by_value, cells, number)
        self.ranks.insert(&rows.by_rank, <Cell*>entry, number)
        return 0

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Rows* rows = <Rows*>state
        cdef Cell[MOST_CELLS] cells
        cdef Place place, rank
        cdef char* entry
        cdef char* ranked
        cdef int64_t size = self.n_cells * <int64_t>sizeof(Cell)
        if not self.cells_of(cells, argument, by):
            return 0
        place = self.values.find(&rows.by_value, cells, INT64_MIN)
        entry = self.values.entry(&rows.by_value, place)
        if entry == NULL or self.values.compare(cells, number_of(self.values, entry)[0], entry) != 0:
            with gil:
                raise InternalError(f"{self.operator}: {self.column} is to give back a row that it does not have")
        rank = self.ranks.find(&rows.by_rank, <Cell*>entry, number_of(self.values, entry)[0])
        ranked = self.ranks.entry(&rows.by_rank, rank)
        while memcmp(ranked, entry, size) != 0:              # the very same: texts by where they stand
            rank = self.ranks.next(&rows.by_rank, rank)
            ranked = self.ranks.entry(&rows.by_rank, rank)
        self.ranks.remove(&rows.by_rank, rank)
        return self.values.remove(&rows.by_value, place)

    cdef int clear(self, char* state) except -1 nogil:
        self.ranks.clear(&(<Rows*>state).by_rank)
        return self.values.clear(&(<Rows*>state).by_value)

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef SortedCells* held = &(<Rows*>state).by_value
        cdef Place place = self.values.first()
        cdef char* entry = self.values.entry(held, place)
        cdef int i
        write_i64(held.count, out)
        while entry != NULL:
            write_i64(number_of(self.values, entry)[0], out)
            for i in range(self.n_cells):
                cell_write(<Cell*>entry + i, self.values.kinds[i], out)
            place = self.values.next(held, place)
            entry = self.values.entry(held, place)
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef Cell[MOST_CELLS] cells
        cdef int64_t _k, number, count = read_i64(source)
        cdef int i
        memset(cells, 0, sizeof(cells))
        for _k in range(count):
            number = read_i64(source)
            for i in range(self.n_cells):
                cell_view(&cells[i], self.values.kinds[i], source)
            self.keep(<Rows*>state, cells, number)
        return 0


cdef class KeptEdge(KeptRowsAccumulator):
    """first and last."""
    cdef bint last

    def __init__(self, str operator, spec, Arena arena):
        KeptRowsAccumulator.__init__(self, operator, spec, arena)
        self.last = spec.kind == "last"

    cdef int emit(self, char* state) except -1 nogil:
        cdef SortedCells* held = &(<Rows*>state).by_rank
        cdef char* entry = self.ranks.last(held) if self.last else self.ranks.entry(held, self.ranks.first())
        return results_null(&self.results) if entry == NULL else results_append(&self.results, <Cell*>entry)


cdef class KeptExtreme(KeptRowsAccumulator):
    """max_by and min_by: of equal ones the one that ties say, then the first to arrive."""
    cdef Ties ties

    def ranking(self, spec):
        """By the ordering value and the ties, the best first."""
        self.ties = Ties(spec, self.arena)
        self.layout += self.ties.layout
        kinds = [self.by_kind, *[self.ties.kinds[i] for i in range(self.ties.n)]]
        return kinds, [-1 if spec.kind == "max_by" else 1] * len(kinds)

    cdef int begin(self, Column* arguments, int64_t n_results, int64_t arrived) except -1 nogil:
        self.ties.begin(arguments)
        return KeptRowsAccumulator.begin(self, arguments, n_results, arrived)

    cdef bint cells_of(self, Cell* cells, const Cell* argument, const Cell* by) noexcept nogil:
        cells[0] = by[0]
        self.ties.load(cells + 1, self.row)
        cells[self.n_cells - 1] = argument[0]
        return by.tag != 0

    cdef int emit(self, char* state) except -1 nogil:
        cdef char* entry = self.ranks.entry(&(<Rows*>state).by_rank, self.ranks.first())
        return results_null(&self.results) if entry == NULL else results_append(&self.results, <Cell*>entry + self.n_cells - 1)


cdef class KeptList(KeptRowsAccumulator):
    """to_list: the values as the text of a JSON list, by arrival; null of nothing."""
    cdef Form form
    cdef int64_t scale                       # of decimals
    cdef int64_t most                        # values in the list, at most
    cdef ByteWriter scratch

    def __init__(self, str operator, spec, Arena arena):
        KeptRowsAccumulator.__init__(self, operator, spec, arena)
        self.form = <Form>form_of(spec.input_type)
        self.scale = scale_of(spec.input_kind, spec.input_type)
        self.most = dict(spec.params).get("n", 2**63 - 1)
        bytes_init(&self.scratch, 256)

    def __dealloc__(self):
        bytes_free(&self.scratch)

    cdef int emit(self, char* state) except -1 nogil:
        cdef SortedCells* held = &(<Rows*>state).by_rank
        cdef Place place = self.ranks.first()
        cdef char* entry = self.ranks.entry(held, place)
        cdef int64_t n = 0
        cdef Cell text
        if entry == NULL:
            return results_null(&self.results)
        self.scratch.used = 0
        while entry != NULL and n < self.most:
            bytes_append(&self.scratch, b"[" if n == 0 else b",", 1)
            write_element(<Cell*>entry + self.n_cells - 1, self.argument_kind, self.form, self.scale, &self.scratch)
            place = self.ranks.next(held, place)
            entry = self.ranks.entry(held, place)
            n += 1
        bytes_append(&self.scratch, b"]", 1)
        text.tag = 1 + self.scratch.used
        text.bits = <int64_t>self.scratch.data
        return results_append(&self.results, &text)


cdef class KeptTop(KeptList):
    """top_k: the best first, of equal ones the one that ties say, then the first to arrive."""
    cdef Ties ties

    def ranking(self, spec):
        """By the ordering value or the value itself, then by what tells equal ones apart."""
        self.ties = Ties(spec, self.arena)
        self.layout += self.ties.layout
        kinds = [self.by_kind if self.by >= 0 else self.argument_kind, *[self.ties.kinds[i] for i in range(self.ties.n)]]
        return kinds, [-1] * len(kinds)

    cdef int begin(self, Column* arguments, int64_t n_results, int64_t arrived) except -1 nogil:
        self.ties.begin(arguments)
        return KeptList.begin(self, arguments, n_results, arrived)

    cdef bint cells_of(self, Cell* cells, const Cell* argument, const Cell* by) noexcept nogil:
        cells[0] = by[0] if self.by >= 0 else argument[0]
        self.ties.load(cells + 1, self.row)
        cells[self.n_cells - 1] = argument[0]
        return cells[0].tag != 0


KEPT_ROWS = {"first": KeptEdge, "last": KeptEdge, "min_by": KeptExtreme, "max_by": KeptExtreme, "to_list": KeptList, "top_k": KeptTop}
