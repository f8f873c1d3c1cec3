"""lag(n): what stood n arrivals ago."""
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_STR, strings_append_eights, strings_append_null
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.includes.short_text cimport Words, copy_eights, words_of
from streamdsl._native.aggregates.accumulators cimport EMIT_THEN_ADD, ADD_THEN_EMIT, Accumulator, RunMode
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, cell_assign, cell_free, cell_load, cell_read, cell_write, read_bytes, results_append, results_bits,
    results_null,
)
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append

from streamdsl.errors import InternalError

cdef enum:
    LAG_INLINE = 4                           # longer lags keep their values in the arena
    AHEAD = 8                                # records between asking for a text and using it


cdef class LagAccumulator(Accumulator):
    """The value n arrivals ago, nulls included: a ring of n cells. It never sees the row it stands in."""
    cdef int64_t n

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.n = dict(spec.params).get("n", 1)
        if self.n < 1:
            raise InternalError(f"lag({self.n}) looks back at least one arrival")
        self.keeps_nulls = True
        # The place of the oldest value, then the ring (or its address).
        self.size = 8 + (self.n * sizeof(Cell) if self.n <= LAG_INLINE else 8)

    cdef inline Cell* ring(self, char* state) noexcept nogil:
        return <Cell*>(state + 8) if self.n <= LAG_INLINE else (<Cell**>(state + 8))[0]

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef int64_t* oldest = <int64_t*>state
        cdef Cell* cells = self.ring(state)
        if cells == NULL:
            cells = <Cell*>self.arena.alloc(self.n * sizeof(Cell))
            memset(cells, 0, self.n * sizeof(Cell))
            (<Cell**>(state + 8))[0] = cells
        cell_assign(cells + oldest[0], self.argument_kind, argument, self.arena)
        oldest[0] = oldest[0] + 1 if oldest[0] + 1 < self.n else 0
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        cdef Cell* cells = self.ring(state)
        if cells == NULL:
            return results_null(&self.results)
        return results_append(&self.results, cells + (<int64_t*>state)[0])

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        if mode == ADD_THEN_EMIT:
            mode = EMIT_THEN_ADD             # it never sees the row it stands in
        if (mode != EMIT_THEN_ADD or rows != NULL or self.n > LAG_INLINE or self.where_column != NULL or self.argument_column == NULL
                or self.argument_kind == KIND_DEC):
            return Accumulator.run(self, states, rows, n, mode)
        return self.run_texts(states, n) if self.argument_kind == KIND_STR else self.run_numbers(states, n)

    cdef int run_numbers(self, char** states, int64_t n) except -1 nogil:
        cdef int64_t i
        cdef int64_t* oldest
        cdef Cell* cell
        for i in range(n):
            oldest = <int64_t*>(states[i] + self.offset)
            cell = <Cell*>(oldest + 1) + oldest[0]
            if cell.tag != 0 and self.output_kind != KIND_BOOL:
                results_bits(&self.results, cell.bits)
            else:
                results_append(&self.results, cell)
            cell[0] = cell_load(self.argument_column, i)
            oldest[0] = oldest[0] + 1 if oldest[0] + 1 < self.n else 0
        return 0

    cdef int run_texts(self, char** states, int64_t n) except -1 nogil:
        cdef int64_t i, size
        cdef int64_t* oldest
        cdef Cell* cell
        cdef Cell value
        cdef Words words
        cdef const char* end = self.argument_column.values + self.argument_column.offsets[n]
        for i in range(n):
            if i + AHEAD < n:
                oldest = <int64_t*>(states[i + AHEAD] + self.offset)
                prefetch(<char*>(<Cell*>(oldest + 1) + oldest[0]).bits)
            oldest = <int64_t*>(states[i] + self.offset)
            cell = <Cell*>(oldest + 1) + oldest[0]
            value = cell_load(self.argument_column, i)
            if cell.tag == 0:
                strings_append_null(&self.results.strings)
            else:
                strings_append_eights(&self.results.strings, <char*>cell.bits, cell.tag - 1)
            # Most values are as long as the one before, in units of the arena: they take its place.
            size = value.tag - 1
            if 0 < size <= 16 and 1 < cell.tag <= 17 and (cell.tag - 2) >> 3 == (size - 1) >> 3:
                words = words_of(<char*>value.bits, size, end)
                copy_eights(<char*>cell.bits, <char*>&words, size)
                cell.tag = value.tag
            else:
                cell_assign(cell, KIND_STR, &value, self.arena)
            oldest[0] = oldest[0] + 1 if oldest[0] + 1 < self.n else 0
        return 0

    cdef int clear(self, char* state) except -1 nogil:
        cdef int64_t i
        cdef Cell* cells = self.ring(state)
        if cells != NULL:
            for i in range(self.n):
                cell_free(cells + i, self.argument_kind, self.arena)
            if self.n > LAG_INLINE:
                self.arena.free(<char*>cells, self.n * sizeof(Cell))
        memset(state, 0, self.size)
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        # Oldest first, so that the place in the ring need not be kept.
        cdef int64_t i
        cdef Cell* cells = self.ring(state)
        cdef char present = cells != NULL
        bytes_append(out, &present, 1)
        if cells != NULL:
            for i in range(self.n):
                cell_write(cells + (i if PLANTED("lag-not-rotated") else ((<int64_t*>state)[0] + i) % self.n), self.argument_kind, out)
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef int64_t i
        cdef Cell* cells = self.ring(state)
        if read_bytes(source, 1)[0] == 0:
            return 0
        if cells == NULL:
            cells = <Cell*>self.arena.alloc(self.n * sizeof(Cell))
            memset(cells, 0, self.n * sizeof(Cell))
            (<Cell**>(state + 8))[0] = cells
        for i in range(self.n):
            cell_read(cells + i, self.argument_kind, source, self.arena)
        if PLANTED("lag-not-restored"):
            self.clear(state)
        return 0
