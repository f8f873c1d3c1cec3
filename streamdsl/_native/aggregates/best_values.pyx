"""top_k: the best of all values, in the arena."""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memmove, memset

from streamdsl._native.flow.batch cimport KIND_STR, Column
from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, cell_assign, cell_compare, cell_free, cell_read, cell_write, damaged_state, read_i64, results_append, results_null,
    write_i64,
)
from streamdsl._native.aggregates.elements cimport Form, WholeRows, form_of, scale_of, write_element
from streamdsl._native.aggregates.ties cimport MOST_TIES, Ties
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append, bytes_free, bytes_init

from streamdsl.errors import InternalError


cdef struct TopEntry:
    Cell rank                                # the ordering value
    Cell value
    int64_t arrival                          # number of the record; the cells of the ties stand behind it

cdef struct TopList:
    char* entries                            # best first; of equal ones the first to arrive
    int64_t count
    int64_t capacity


cdef inline Cell* ties_of(const TopEntry* entry) noexcept nogil:
    return <Cell*>(<char*>entry + sizeof(TopEntry))


cdef class TopAccumulator(Accumulator):
    """The n arguments with the largest ordering values, best first, of equal ones the first; as the text of a JSON list."""
    cdef Ties ties
    cdef int64_t stride                      # bytes of an entry
    cdef int64_t n
    cdef Form form
    cdef int64_t scale                       # of decimals
    cdef WholeRows whole                     # the values are rows; None: one column
    cdef Column* columns                     # the argument columns of the batch at hand
    cdef ByteWriter scratch

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(TopList)
        self.form = <Form>form_of(spec.input_type)
        self.scale = scale_of(spec.input_kind, spec.input_type)
        self.n = dict(spec.params)["n"]
        if self.n < 1:
            raise InternalError(f"top_k({self.n}) keeps at least one value")
        if self.by < 0:
            self.by_kind = self.argument_kind
        self.ties = Ties(spec, arena)
        self.layout += self.ties.layout
        if spec.row:
            self.whole = WholeRows(spec.row)
            self.argument_kind = KIND_STR
            self.layout += f":{self.whole.layout}"
        self.stride = sizeof(TopEntry) + self.ties.n * <int64_t>sizeof(Cell)
        bytes_init(&self.scratch, 256)

    def __dealloc__(self):
        bytes_free(&self.scratch)

    cdef int begin(self, Column* arguments, int64_t n_results, int64_t arrived) except -1 nogil:
        self.ties.begin(arguments)
        self.columns = arguments
        return Accumulator.begin(self, arguments, n_results, arrived)

    cdef TopEntry* entry(self, const TopList* held, int64_t at) noexcept nogil:
        return <TopEntry*>(held.entries + at * self.stride)

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef TopEntry* entry
        cdef Cell[MOST_TIES] ties
        cdef Cell packed
        cdef const Cell* rank = by if self.by >= 0 else argument
        cdef int64_t at
        if rank.tag == 0:
            return 0
        self.ties.load(ties, self.row)
        at = self.place_of(held, rank, ties, self.arrived + self.row)
        if at == self.n:
            return 0
        entry = self.opened(held, at)
        cell_assign(&entry.rank, self.by_kind, rank, self.arena)
        self.ties.assign(ties_of(entry), ties)
        entry.arrival = self.arrived + self.row
        if self.whole is not None:
            self.scratch.used = 0
            self.whole.pack(self.columns, self.row, &self.scratch)
            packed.tag, packed.bits = 1 + self.scratch.used, <int64_t>self.scratch.data
            argument = &packed
        return cell_assign(&entry.value, self.argument_kind, argument, self.arena)

    cdef int64_t place_of(self, const TopList* held, const Cell* rank, const Cell* ties, int64_t arrival) noexcept nogil:
        cdef int64_t at = held.count
        cdef TopEntry* before
        cdef int order
        while at > 0:
            before = self.entry(held, at - 1)
            order = cell_compare(self.by_kind, rank, &before.rank)
            if order == 0:
                order = self.ties.compare(ties, ties_of(before), 1)
            if order < 0 or (order == 0 and arrival >= before.arrival):
                break
            at -= 1
        return at

    cdef TopEntry* opened(self, TopList* held, int64_t at) except NULL nogil:
        """Return an empty entry at that place; the last one leaves if there are n."""
        cdef int64_t capacity
        if held.count == self.n:
            held.count -= 1
            self.free_entry(self.entry(held, held.count))
        elif held.count == held.capacity:
            capacity = min(self.n, 2 * held.capacity if held.capacity else 4)
            held.entries = self.arena.realloc(held.entries, held.capacity * self.stride, capacity * self.stride)
            held.capacity = capacity
        memmove(self.entry(held, at + 1), self.entry(held, at), (held.count - at) * self.stride)
        memset(self.entry(held, at), 0, self.stride)
        held.count += 1
        return self.entry(held, at)

    cdef int free_entry(self, TopEntry* entry) except -1 nogil:
        cell_free(&entry.rank, self.by_kind, self.arena)
        self.ties.free(ties_of(entry))
        return cell_free(&entry.value, self.argument_kind, self.arena)

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef TopList* held = <TopList*>into
        cdef TopList* more = <TopList*>other
        cdef TopEntry* entry
        cdef int64_t i, at
        for i in range(more.count):
            entry = self.entry(more, i)
            at = self.place_of(held, &entry.rank, ties_of(entry), entry.arrival)
            if at == self.n:
                break                        # those behind it are no better
            memcpy(self.opened(held, at), entry, self.stride)
            memset(entry, 0, self.stride)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef Cell text
        cdef const Cell* value
        cdef int64_t i
        if held.count == 0:
            return results_null(&self.results)
        self.scratch.used = 0
        for i in range(held.count):
            bytes_append(&self.scratch, b"[" if i == 0 else b",", 1)
            value = &self.entry(held, i).value
            if self.whole is not None:
                self.whole.write_json(<char*>value.bits, value.tag - 1, &self.scratch)
            else:
                write_element(value, self.argument_kind, self.form, self.scale, &self.scratch)
        bytes_append(&self.scratch, b"]", 1)
        text.tag = 1 + self.scratch.used
        text.bits = <int64_t>self.scratch.data
        return results_append(&self.results, &text)

    cdef int clear(self, char* state) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef int64_t i
        for i in range(held.count):
            self.free_entry(self.entry(held, i))
        self.arena.free(held.entries, held.capacity * self.stride)
        memset(state, 0, sizeof(TopList))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef TopEntry* entry
        cdef int64_t i
        write_i64(held.count, out)
        for i in range(held.count):
            entry = self.entry(held, i)
            write_i64(entry.arrival, out)
            cell_write(&entry.rank, self.by_kind, out)
            self.ties.write(ties_of(entry), out)
            cell_write(&entry.value, self.argument_kind, out)
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef TopEntry* entry
        cdef int64_t _i, count = read_i64(source)
        if count > self.n:
            damaged_state()
        for _i in range(count):
            entry = self.opened(held, held.count)
            entry.arrival = read_i64(source)
            cell_read(&entry.rank, self.by_kind, source, self.arena)
            self.ties.read(ties_of(entry), source)
            cell_read(&entry.value, self.argument_kind, source, self.arena)
        return 0
