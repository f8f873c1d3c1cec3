"""Accumulators that keep many values: to_list and n_unique. What they keep lies in the arena."""
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from streamdsl._native.flow.batch cimport KIND_DEC, KIND_F64, KIND_STR, strings_end_row, strings_reserve
from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, as_f64, cell_decimal, cell_of_decimal, cell_view, cell_write, damaged_state, read_bytes, read_i64, results_bits,
    results_null, write_i64,
)
from streamdsl._native.aggregates.elements cimport Form, form_of, scale_of, write_element
from streamdsl._native.includes.decimal cimport dec_load, int128
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append, bytes_free, bytes_init

from streamdsl._native.aggregates.best_values import TopAccumulator


cdef struct TextList:
    char* entries                            # of each value: arrival number behind the last one's, size, both packed; its JSON
    int64_t used
    int64_t capacity
    int64_t last                             # the arrival number of the newest value

# A walk over the values of a list, oldest first.
cdef struct TextCursor:
    const char* at
    const char* end
    int64_t arrival                          # of the value at hand, INT64_MAX behind the last
    const char* text
    int64_t size


cdef enum:
    PACKED_ROOM = 10                         # bytes of a packed number at most


cdef inline int64_t pack(char* at, uint64_t value) noexcept nogil:
    # Seven bits a byte, low ones first; returns the number of bytes.
    cdef int64_t n = 0
    while value >= 128:
        at[n] = <char>(value | 128)
        value >>= 7
        n += 1
    at[n] = <char>value
    return n + 1


cdef inline int unpack(const char** at, const char* end, uint64_t* value) noexcept nogil:
    # Whether a whole number stands there.
    cdef int shift = 0
    cdef unsigned char byte
    value[0] = 0
    while at[0] < end and shift < 64:
        byte = <unsigned char>at[0][0]
        value[0] |= (<uint64_t>(byte & 127)) << shift
        shift += 7
        at[0] += 1
        if byte < 128:
            return 1
    return 0


cdef int step(TextCursor* cursor) except -1 nogil:
    cdef uint64_t behind, size
    if cursor.at == cursor.end:
        cursor.arrival = INT64_MAX
        return 0
    if (not unpack(&cursor.at, cursor.end, &behind) or not unpack(&cursor.at, cursor.end, &size)
            or size > <uint64_t>(cursor.end - cursor.at)):
        damaged_state()
    cursor.arrival += <int64_t>behind
    cursor.text = cursor.at
    cursor.size = <int64_t>size
    cursor.at += size
    return 0


cdef int begin_walk(TextCursor* cursor, const TextList* held) except -1 nogil:
    cursor.at = held.entries
    cursor.end = held.entries + held.used
    cursor.arrival = 0
    return step(cursor)


cdef class ListAccumulator(Accumulator):
    """All values in order of arrival, as the text of a JSON list; null when there are none."""
    cdef Form form
    cdef int64_t scale                       # of decimals
    cdef ByteWriter scratch

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(TextList)
        self.form = <Form>form_of(spec.input_type)
        self.scale = scale_of(spec.input_kind, spec.input_type)
        bytes_init(&self.scratch, 256)

    def __dealloc__(self):
        bytes_free(&self.scratch)

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        self.scratch.used = 0
        write_element(argument, self.argument_kind, self.form, self.scale, &self.scratch)
        return self.append(<TextList*>state, self.arrived + self.row, self.scratch.data, self.scratch.used)

    cdef int append(self, TextList* held, int64_t arrival, const char* text, int64_t size) except -1 nogil:
        cdef char[2 * PACKED_ROOM] head
        cdef int64_t n = pack(head, <uint64_t>(arrival - held.last))
        n += pack(head + n, <uint64_t>size)
        self.reserve(held, held.used + n + size)
        memcpy(held.entries + held.used, head, n)
        memcpy(held.entries + held.used + n, text, size)
        held.used += n + size
        held.last = arrival
        return 0

    cdef int reserve(self, TextList* held, int64_t wanted) except -1 nogil:
        cdef int64_t capacity = held.capacity
        if wanted > capacity:
            capacity = max(2 * capacity, wanted, 32)
            held.entries = self.arena.realloc(held.entries, held.capacity, capacity)
            held.capacity = capacity
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef TextList[2] lists
        cdef TextList made
        cdef TextCursor[2] cursors
        cdef TextCursor* first
        cdef int i
        cdef bint done = False
        lists[0] = (<TextList*>into)[0]
        lists[1] = (<TextList*>other)[0]
        if lists[0].used == 0 or lists[1].used == 0:
            if lists[0].used == 0:
                (<TextList*>into)[0] = lists[1]
                (<TextList*>other)[0] = lists[0]
            return self.clear(other)
        memset(&made, 0, sizeof(TextList))
        try:
            self.reserve(&made, lists[0].used + lists[1].used)
            for i in range(2):
                begin_walk(&cursors[i], &lists[i])
            while cursors[0].arrival < INT64_MAX or cursors[1].arrival < INT64_MAX:
                first = &cursors[1 if cursors[1].arrival < cursors[0].arrival else 0]
                if PLANTED("lists-merged-by-side"):
                    first = &cursors[1 if cursors[0].arrival == INT64_MAX else 0]
                self.append(&made, first.arrival, first.text, first.size)
                step(first)
            done = True
        finally:
            if not done:
                self.arena.free(made.entries, made.capacity)
        self.clear(into)
        self.clear(other)
        (<TextList*>into)[0] = made
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        cdef TextList* held = <TextList*>state
        cdef TextCursor cursor
        cdef int64_t at = 0
        cdef char* text
        if held.used == 0:
            return results_null(&self.results)
        # A bracket or comma in front of each value, a bracket behind the last: an entry has two bytes more than its JSON.
        text = strings_reserve(&self.results.strings, held.used + 1)
        begin_walk(&cursor, held)
        while cursor.arrival < INT64_MAX:
            text[at] = c"[" if at == 0 else c","
            memcpy(text + at + 1, cursor.text, cursor.size)
            at += 1 + cursor.size
            step(&cursor)
        text[at] = c"]"
        return strings_end_row(&self.results.strings, at + 1)

    cdef int clear(self, char* state) except -1 nogil:
        self.arena.free((<TextList*>state).entries, (<TextList*>state).capacity)
        memset(state, 0, sizeof(TextList))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef TextList* held = <TextList*>state
        write_i64(held.used, out)
        return bytes_append(out, held.entries, held.used)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef int64_t size = read_i64(source)
        cdef const char* entries = read_bytes(source, size)
        cdef TextList* held = <TextList*>state
        cdef TextList given
        cdef TextCursor cursor
        if size == 0:
            return 0
        given.entries = <char*>entries
        given.used = size
        begin_walk(&cursor, &given)
        while cursor.arrival < INT64_MAX:
            self.append(held, cursor.arrival, cursor.text, cursor.size)
            step(&cursor)
        return 0


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

    cdef int merge(self, char* into, char* other) except -1 nogil:
        # The smaller set goes into the larger one.
        cdef ValueSet kept
        cdef Cell cell
        cdef int64_t i
        if (<ValueSet*>into).count < (<ValueSet*>other).count:
            kept = (<ValueSet*>into)[0]
            (<ValueSet*>into)[0] = (<ValueSet*>other)[0]
            (<ValueSet*>other)[0] = kept
        cell.tag = 1
        cell.bits = 0
        if (<ValueSet*>other).has_zero:
            self.add(into, &cell, NULL)
        for i in range((<ValueSet*>other).capacity):
            if (<ValueSet*>other).table[i]:
                self.entry_of((<ValueSet*>other).table[i], &cell)
                self.add(into, &cell, NULL)
        return self.clear(other)

    cdef inline void entry_of(self, int64_t entry, Cell* cell) noexcept nogil:
        cell.bits = entry
        if self.argument_kind == KIND_DEC:
            cell[0] = cell_of_decimal(dec_load(<char*>(<StoredString*>entry + 1)))
        elif self.argument_kind == KIND_STR:
            cell.tag = 1 + (<StoredString*>entry).size
            cell.bits = <int64_t>(<StoredString*>entry + 1)

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
                self.entry_of(held.table[i], &cell)
                cell_write(&cell, self.argument_kind, out)
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef Cell cell
        cdef int64_t _i, count = read_i64(source)
        for _i in range(count):
            cell_view(&cell, self.argument_kind, source)
            self.add(state, &cell, NULL)
        return 0


COLLECTORS = {"to_list": ListAccumulator, "n_unique": UniqueAccumulator, "top_k": TopAccumulator}
