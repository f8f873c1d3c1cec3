"""Accumulators that keep many values: to_list, n_unique, top_k. What they keep lies in the arena."""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from streamdsl._native.flow.batch cimport KIND_DEC, KIND_F64, KIND_STR, strings_end_row, strings_reserve
from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, as_f64, cell_assign, cell_decimal, cell_of_decimal, cell_compare, cell_free, cell_read, cell_view, cell_write,
    cell_write_json, read_bytes, read_i64, results_append, results_bits, results_null, write_i64,
)
from streamdsl._native.includes.decimal cimport dec_load, int128
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append, bytes_free, bytes_init

import base64

from streamdsl.errors import InternalError


cdef enum Form:
    FORM_PLAIN = 0
    FORM_JSON = 1                            # lists and structs travel as JSON text; inside a list they stand as they are
    FORM_BYTES = 2


cdef int form_of(spec) except -1:
    if spec.input_type is None:
        return FORM_PLAIN
    if spec.input_type.num_fields > 0:
        return FORM_JSON
    return FORM_BYTES if str(spec.input_type) in ("binary", "large_binary") else FORM_PLAIN


cdef int64_t scale_of(spec) except -1:
    return spec.input_type.scale if spec.input_kind == "dec" else 0


cdef int write_element(const Cell* cell, int kind, Form form, int64_t scale, ByteWriter* out) except -1 nogil:
    """Append a value as it stands in the text of a JSON list."""
    if form == FORM_BYTES and cell.tag > 0:
        with gil:
            return write_base64((<char*>cell.bits)[:cell.tag - 1], out)
    return cell_write_json(cell, kind, form == FORM_JSON, scale, out)


cdef int write_base64(bytes data, ByteWriter* out) except -1:
    cdef bytes text = b'"' + base64.b64encode(data) + b'"'
    return bytes_append(out, <const char*>text, len(text))


cdef struct TextList:
    char* text                               # elements as JSON, with commas
    int64_t used
    int64_t capacity


cdef class ListAccumulator(Accumulator):
    """All values in order of arrival, as the text of a JSON list; null when there are none."""
    cdef Form form
    cdef int64_t scale                       # of decimals
    cdef ByteWriter scratch

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(TextList)
        self.form = <Form>form_of(spec)
        self.scale = scale_of(spec)
        bytes_init(&self.scratch, 256)

    def __dealloc__(self):
        bytes_free(&self.scratch)

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef TextList* held = <TextList*>state
        self.scratch.used = 0
        if held.used > 0:
            bytes_append(&self.scratch, b",", 1)
        write_element(argument, self.argument_kind, self.form, self.scale, &self.scratch)
        return self.append(held, self.scratch.data, self.scratch.used)

    cdef int append(self, TextList* held, const char* text, int64_t size) except -1 nogil:
        cdef int64_t capacity = held.capacity
        if held.used + size > capacity:
            capacity = max(2 * capacity, held.used + size, 32)
            held.text = self.arena.realloc(held.text, held.capacity, capacity)
            held.capacity = capacity
        memcpy(held.text + held.used, text, size)
        held.used += size
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        cdef TextList* held = <TextList*>state
        cdef char* text
        if held.used == 0:
            return results_null(&self.results)
        text = strings_reserve(&self.results.strings, held.used + 2)
        text[0] = c"["
        memcpy(text + 1, held.text, held.used)
        text[held.used + 1] = c"]"
        return strings_end_row(&self.results.strings, held.used + 2)

    cdef int clear(self, char* state) except -1 nogil:
        self.arena.free((<TextList*>state).text, (<TextList*>state).capacity)
        memset(state, 0, sizeof(TextList))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef TextList* held = <TextList*>state
        write_i64(held.used, out)
        return bytes_append(out, held.text, held.used)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef int64_t size = read_i64(source)
        return self.append(<TextList*>state, read_bytes(source, size), size) if size > 0 else 0


cdef struct ValueSet:
    int64_t* table                           # open addressing, 0 = free; strings: address of a StoredString
    int64_t capacity                         # a power of two
    int64_t count
    int64_t has_zero                         # the value whose bits are 0 is not in the table

cdef struct StoredString:
    int64_t size
    uint64_t hash                            # the bytes follow


cdef inline uint64_t hash_bits(uint64_t bits) noexcept nogil:
    bits ^= bits >> 33
    bits *= <uint64_t>0xff51afd7ed558ccdu
    bits ^= bits >> 33
    bits *= <uint64_t>0xc4ceb9fe1a85ec53u
    return bits ^ (bits >> 33)


cdef inline uint64_t hash_bytes(const char* data, int64_t size) noexcept nogil:
    cdef uint64_t value = <uint64_t>14695981039346656037u
    cdef int64_t i
    for i in range(size):
        value = (value ^ <unsigned char>data[i]) * <uint64_t>1099511628211u
    return hash_bits(value)


cdef class UniqueAccumulator(Accumulator):
    """How many different values: a set. NaN is one value, and so are 0.0 and -0.0. Decimals are kept as texts of 16 bytes."""
    cdef bint by_bytes

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(ValueSet)
        self.by_bytes = self.argument_kind == KIND_STR or self.argument_kind == KIND_DEC

    cdef inline uint64_t hash_of(self, int64_t entry) noexcept nogil:
        return (<StoredString*>entry).hash if self.by_bytes else hash_bits(<uint64_t>entry)

    cdef int grow(self, ValueSet* held) except -1 nogil:
        cdef int64_t capacity = 2 * held.capacity if held.capacity else 8
        cdef int64_t i, at
        cdef int64_t* table = <int64_t*>self.arena.alloc(8 * capacity)
        memset(table, 0, 8 * capacity)
        for i in range(held.capacity):
            if held.table[i]:
                at = <int64_t>(self.hash_of(held.table[i]) & <uint64_t>(capacity - 1))
                while table[at]:
                    at = (at + 1) & (capacity - 1)
                table[at] = held.table[i]
        self.arena.free(<char*>held.table, 8 * held.capacity)
        held.table = table
        held.capacity = capacity
        return 0

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef ValueSet* held = <ValueSet*>state
        cdef int64_t bits = argument.bits, size = argument.tag - 1, at
        cdef uint64_t hash
        cdef StoredString* stored
        cdef int128 number = 0
        if self.argument_kind == KIND_DEC:
            number = cell_decimal(argument)
            bits, size = <int64_t>&number, sizeof(int128)
        if self.by_bytes:
            hash = hash_bytes(<char*>bits, size)
        else:
            if self.argument_kind == KIND_F64:
                if as_f64(bits) == 0.0:
                    bits = 0
                elif as_f64(bits) != as_f64(bits):
                    bits = <int64_t>0x7ff8000000000000
            if bits == 0:
                held.count += held.has_zero == 0
                held.has_zero = 1
                return 0
            hash = hash_bits(<uint64_t>bits)
        if 2 * held.count >= held.capacity:
            self.grow(held)
        at = <int64_t>(hash & <uint64_t>(held.capacity - 1))
        while held.table[at]:
            if self.by_bytes:
                stored = <StoredString*>held.table[at]
                if stored.hash == hash and stored.size == size and (size == 0 or memcmp(stored + 1, <char*>bits, size) == 0):
                    return 0
            elif held.table[at] == bits:
                return 0
            at = (at + 1) & (held.capacity - 1)
        if self.by_bytes:
            stored = <StoredString*>self.arena.alloc(sizeof(StoredString) + size)
            stored.size = size
            stored.hash = hash
            if size > 0:                     # the empty text may have no address
                memcpy(stored + 1, <char*>bits, size)
            bits = <int64_t>stored
        held.table[at] = bits
        held.count += 1
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        return results_bits(&self.results, (<ValueSet*>state).count)

    cdef int clear(self, char* state) except -1 nogil:
        cdef ValueSet* held = <ValueSet*>state
        cdef int64_t i
        if self.by_bytes:
            for i in range(held.capacity):
                if held.table[i]:
                    self.arena.free(<char*>held.table[i], sizeof(StoredString) + (<StoredString*>held.table[i]).size)
        self.arena.free(<char*>held.table, 8 * held.capacity)
        memset(state, 0, sizeof(ValueSet))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef ValueSet* held = <ValueSet*>state
        cdef Cell cell
        cdef int64_t i
        write_i64(held.count, out)
        cell.tag = 1
        cell.bits = 0
        if held.has_zero:
            cell_write(&cell, self.argument_kind, out)
        for i in range(held.capacity):
            if held.table[i]:
                cell.bits = held.table[i]
                if self.argument_kind == KIND_DEC:
                    cell = cell_of_decimal(dec_load(<char*>(<StoredString*>held.table[i] + 1)))
                if self.argument_kind == KIND_STR:
                    cell.tag = 1 + (<StoredString*>held.table[i]).size
                    cell.bits = <int64_t>(<StoredString*>held.table[i] + 1)
                cell_write(&cell, self.argument_kind, out)
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef Cell cell
        cdef int64_t _i, count = read_i64(source)
        for _i in range(count):
            cell_view(&cell, self.argument_kind, source)
            self.add(state, &cell, NULL)
        return 0


cdef struct TopList:
    Cell* cells                              # pairs of ordering value and argument, best first
    int64_t count                            # pairs
    int64_t capacity                         # pairs


cdef class TopAccumulator(Accumulator):
    """The n arguments with the largest ordering values, best first, of equal ones the first; as the text of a JSON list."""
    cdef int64_t n
    cdef Form form
    cdef int64_t scale                       # of decimals
    cdef ByteWriter scratch

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(TopList)
        self.form = <Form>form_of(spec)
        self.scale = scale_of(spec)
        self.n = dict(spec.params)["n"]
        if self.n < 1:
            raise InternalError(f"top_k({self.n}) keeps at least one value")
        if self.by < 0:
            self.by_kind = self.argument_kind
        bytes_init(&self.scratch, 256)

    def __dealloc__(self):
        bytes_free(&self.scratch)

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef const Cell* rank = by if self.by >= 0 else argument
        cdef int64_t at = held.count
        if rank.tag == 0:
            return 0
        while at > 0 and cell_compare(self.by_kind, rank, held.cells + 2 * (at - 1)) > 0:
            at -= 1
        if at == self.n:
            return 0
        if held.count == self.n:
            held.count -= 1
            cell_free(held.cells + 2 * held.count, self.by_kind, self.arena)
            cell_free(held.cells + 2 * held.count + 1, self.argument_kind, self.arena)
        elif held.count == held.capacity:
            self.grow(held)
        memmove(held.cells + 2 * (at + 1), held.cells + 2 * at, 2 * (held.count - at) * sizeof(Cell))
        memset(held.cells + 2 * at, 0, 2 * sizeof(Cell))
        held.count += 1
        cell_assign(held.cells + 2 * at, self.by_kind, rank, self.arena)
        return cell_assign(held.cells + 2 * at + 1, self.argument_kind, argument, self.arena)

    cdef int grow(self, TopList* held) except -1 nogil:
        cdef int64_t capacity = min(self.n, 2 * held.capacity if held.capacity else 4)
        held.cells = <Cell*>self.arena.realloc(<char*>held.cells, 2 * held.capacity * sizeof(Cell), 2 * capacity * sizeof(Cell))
        held.capacity = capacity
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef Cell text
        cdef int64_t i
        if held.count == 0:
            return results_null(&self.results)
        self.scratch.used = 0
        for i in range(held.count):
            bytes_append(&self.scratch, b"[" if i == 0 else b",", 1)
            write_element(held.cells + 2 * i + 1, self.argument_kind, self.form, self.scale, &self.scratch)
        bytes_append(&self.scratch, b"]", 1)
        text.tag = 1 + self.scratch.used
        text.bits = <int64_t>self.scratch.data
        return results_append(&self.results, &text)

    cdef int clear(self, char* state) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef int64_t i
        for i in range(held.count):
            cell_free(held.cells + 2 * i, self.by_kind, self.arena)
            cell_free(held.cells + 2 * i + 1, self.argument_kind, self.arena)
        self.arena.free(<char*>held.cells, 2 * held.capacity * sizeof(Cell))
        memset(state, 0, sizeof(TopList))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef int64_t i
        write_i64(held.count, out)
        for i in range(held.count):
            cell_write(held.cells + 2 * i, self.by_kind, out)
            cell_write(held.cells + 2 * i + 1, self.argument_kind, out)
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef TopList* held = <TopList*>state
        cdef int64_t i, count = read_i64(source)
        for i in range(count):
            if held.count == held.capacity:
                self.grow(held)
            memset(held.cells + 2 * i, 0, 2 * sizeof(Cell))
            held.count += 1
            cell_read(held.cells + 2 * i, self.by_kind, source, self.arena)
            cell_read(held.cells + 2 * i + 1, self.argument_kind, source, self.arena)
        return 0


COLLECTORS = {"to_list": ListAccumulator, "n_unique": UniqueAccumulator, "top_k": TopAccumulator}
