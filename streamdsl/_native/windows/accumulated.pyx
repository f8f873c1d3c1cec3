"""See accumulated.pxd."""
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from streamdsl._native.aggregates.accumulators cimport ADD, Accumulator, make_set, takes
from streamdsl._native.aggregates.cell cimport ByteReader, Cell, cell_load, results_truncate
from streamdsl._native.flow.batch cimport Batch, Column
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.write_stream cimport ByteWriter
from streamdsl._native.windows.contents cimport Shown

cdef enum:
    PIECE = 96                 # records that are added together


cdef class AccumulatedContents(Contents):
    """`aggregates`: their specs in the physical plan."""

    def __init__(self, str operator, aggregates, Arena arena not None):
        self.accumulators = make_set(operator, aggregates, arena, 0)
        self.size = self.accumulators.size
        self.layout = f"aggregates/2|{self.accumulators.layout}"
        self.refuses = self.accumulators.refuses
        self.on_heap = self.accumulators.on_heap
        self.bulk = True
        self.flat = all([(<Accumulator>one).flat for one in self.accumulators.accumulators])

    cdef int add(self, char* state, Batch* batch, int32_t row) except -1 nogil:
        cdef int i
        cdef void* ref
        cdef Cell argument, by
        memset(&argument, 0, sizeof(Cell))
        memset(&by, 0, sizeof(Cell))
        for i in range(self.accumulators.n_states):
            ref = self.accumulators.states[i]
            (<Accumulator>ref).row = row
            if not takes(<Accumulator>ref, row):
                continue
            if (<Accumulator>ref).argument_column != NULL:
                argument = cell_load((<Accumulator>ref).argument_column, row)
            if (<Accumulator>ref).by_column != NULL:
                by = cell_load((<Accumulator>ref).by_column, row)
            (<Accumulator>ref).add(state + (<Accumulator>ref).offset, &argument, &by)
        return 0

    cdef int add_many(self, char** states, const int32_t* rows, int64_t n) except -1 nogil:
        # In pieces whose states stay in the cache from one aggregate to the next.
        cdef int64_t start = 0, i, piece
        while start < n:
            piece = min(n - start, <int64_t>PIECE)
            for i in range(start, start + piece):
                prefetch(states[i])
                if self.size > 64:
                    prefetch(states[i] + 64)
            self.accumulators.run(states + start, rows + start, piece, ADD)
            start += piece
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        return self.accumulators.merge(into, other)

    cdef int add_copy(self, char* into, char* source, char* room) except -1 nogil:
        return self.accumulators.add_copy(into, source, room, &self.scratch)

    cdef int copy(self, char* into, char* source) except -1 nogil:
        return self.accumulators.copy(into, source, &self.scratch)

    cdef int64_t heap_bytes(self, char* state):
        return self.accumulators.heap_bytes(state)

    cdef int clear(self, char* state) except -1 nogil:
        return self.accumulators.clear(state)

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        return self.accumulators.write(state, out)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        return self.accumulators.read(state, source)

    cdef int open(self, Column* columns, int64_t most, int64_t arrived) except -1 nogil:
        return self.accumulators.begin(columns, most, arrived)

    cdef int show(self, char* state, const Shown* shown) except -1 nogil:
        cdef int i
        for i in range(self.accumulators.n_states):
            (<Accumulator>self.accumulators.states[i]).emit_all(state + (<Accumulator>self.accumulators.states[i]).offset)
        return 0

    cdef int take_back(self, int64_t n) except -1 nogil:
        cdef int i
        for i in range(self.accumulators.count):
            results_truncate(&(<Accumulator>self.accumulators.refs[i]).results, n)
        return 0

    cdef int finish(self, Column* columns) except -1 nogil:
        return self.accumulators.finish(columns)
