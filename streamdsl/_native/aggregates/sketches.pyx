"""Aggregates of bounded size that are nearly right: n_unique by HyperLogLog, quantiles by a t-digest.

Both are exact while a key has few values, and both give the same for the same values in the same order.
"""
from libc.math cimport INFINITY, M_PI, NAN, asin, floor, isinf, log, sin
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from streamdsl._native.flow.batch cimport KIND_DEC, KIND_F64, KIND_STR
from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, as_f64, damaged_state, f64_bits, read_bytes, read_i64, results_bits, results_null, write_i64,
)
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append

cdef enum:
    INDEX_BITS = 12
    REGISTERS = 4096
    MOST_HASHES = 256                        # more of them become registers

# The set of 64-bit hashes of the values while it is small, then HyperLogLog's registers. Which of the two it is depends on the
# set alone, not on the order of the values or merges.
cdef struct Registers:
    char* block                              # hashes in ascending order, or one byte a register
    int64_t count                            # hashes; -1: registers
    int64_t capacity                         # bytes


cdef inline uint64_t mixed(uint64_t bits) noexcept nogil:
    bits ^= bits >> 33
    bits *= <uint64_t>0xff51afd7ed558ccdu
    bits ^= bits >> 33
    bits *= <uint64_t>0xc4ceb9fe1a85ec53u
    return bits ^ (bits >> 33)


cdef uint64_t hash_of(int kind, const Cell* cell) noexcept nogil:
    cdef uint64_t value = <uint64_t>14695981039346656037u
    cdef int64_t i
    if kind == KIND_STR:
        for i in range(cell.tag - 1):
            value = (value ^ (<unsigned char*>cell.bits)[i]) * <uint64_t>1099511628211u
        return mixed(value)
    if kind == KIND_F64:
        if as_f64(cell.bits) == 0.0:
            return mixed(0)
        if as_f64(cell.bits) != as_f64(cell.bits):
            return mixed(<uint64_t>0x7ff8000000000000u)
    if kind == KIND_DEC:
        return mixed(<uint64_t>cell.bits ^ mixed(<uint64_t>cell.tag))
    return mixed(<uint64_t>cell.bits)


cdef inline void raise_register(uint8_t* registers, uint64_t hash) noexcept nogil:
    # The upper bits choose a register; it keeps the longest run of zeros in front of a one among the others.
    cdef uint64_t rest = hash << INDEX_BITS
    cdef uint8_t rank = 1
    while rank <= 64 - INDEX_BITS and not rest >> 63:
        rest <<= 1
        rank += 1
    if rank > registers[hash >> (64 - INDEX_BITS)]:
        registers[hash >> (64 - INDEX_BITS)] = rank


cdef double sigma(double x) noexcept nogil:
    cdef double y = 1.0, z = x, before
    if x == 1.0:
        return INFINITY
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


cdef double tau(double x) noexcept nogil:
    cdef double y = 1.0, z = 1.0 - x, before
    if x == 0.0 or x == 1.0:
        return 0.0
    while True:
        x = x ** 0.5
        before = z
        y *= 0.5
        z -= (1.0 - x) * (1.0 - x) * y
        if z == before:
            return z / 3.0


cdef double estimate(const uint8_t* registers) noexcept nogil:
    """Return Ertl's improved estimate: it needs no table of corrections."""
    cdef int64_t[64 - INDEX_BITS + 2] counts
    cdef int i, most = 64 - INDEX_BITS
    cdef double z
    memset(counts, 0, sizeof(counts))
    for i in range(REGISTERS):
        counts[registers[i]] += 1
    z = REGISTERS * tau(1.0 - <double>counts[most + 1] / REGISTERS)
    for i in range(most, 0, -1):
        z = 0.5 * (z + <double>counts[i])
    z += REGISTERS * sigma(<double>counts[0] / REGISTERS)
    return REGISTERS / (2.0 * log(2.0)) * REGISTERS / z


cdef class HyperLogLogAccumulator(Accumulator):
    """How many different values, with a standard error of 1.6 %; exact up to 256."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Registers)

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        return self.take(<Registers*>state, hash_of(self.argument_kind, argument))

    cdef int take(self, Registers* held, uint64_t hash) except -1 nogil:
        cdef uint64_t* hashes = <uint64_t*>held.block
        cdef int64_t low = 0, high = held.count, middle, capacity
        if held.count < 0:
            raise_register(<uint8_t*>held.block, hash)
            return 0
        while low < high:
            middle = (low + high) // 2
            if hashes[middle] < hash:
                low = middle + 1
            else:
                high = middle
        if low < held.count and hashes[low] == hash:
            return 0
        if held.count == MOST_HASHES:
            self.widen(held)
            raise_register(<uint8_t*>held.block, hash)
            return 0
        if 8 * held.count == held.capacity:
            capacity = max(2 * held.capacity, 32)
            held.block = self.arena.realloc(held.block, held.capacity, capacity)
            held.capacity = capacity
            hashes = <uint64_t*>held.block
        memmove(hashes + low + 1, hashes + low, 8 * (held.count - low))
        hashes[low] = hash
        held.count += 1
        return 0

    cdef int widen(self, Registers* held) except -1 nogil:
        """Make registers of the hashes."""
        cdef char* registers = self.arena.alloc(REGISTERS)
        cdef int64_t i
        memset(registers, 0, REGISTERS)
        for i in range(held.count):
            raise_register(<uint8_t*>registers, (<uint64_t*>held.block)[i])
        self.arena.free(held.block, held.capacity)
        held.block = registers
        held.count = -1
        held.capacity = REGISTERS
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef Registers* held = <Registers*>into
        cdef Registers* more = <Registers*>other
        cdef uint8_t* registers
        cdef int64_t i
        if more.count >= 0:
            for i in range(more.count):
                self.take(held, (<uint64_t*>more.block)[i])
            return self.clear(other)
        if held.count >= 0:
            self.widen(held)
        registers = <uint8_t*>held.block
        for i in range(REGISTERS):
            if not PLANTED("registers-not-merged"):
                registers[i] = max(registers[i], (<uint8_t*>more.block)[i])
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef Registers* held = <Registers*>state
        if held.count >= 0:
            return results_bits(&self.results, held.count)
        return results_bits(&self.results, <int64_t>floor(estimate(<uint8_t*>held.block) + 0.5))

    cdef int clear(self, char* state) except -1 nogil:
        self.arena.free((<Registers*>state).block, (<Registers*>state).capacity)
        memset(state, 0, sizeof(Registers))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef Registers* held = <Registers*>state
        write_i64(held.count, out)
        return bytes_append(out, held.block, 8 * held.count if held.count >= 0 else REGISTERS)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef Registers* held = <Registers*>state
        cdef int64_t i, count = read_i64(source)
        cdef const char* data
        if count < -1 or count > MOST_HASHES:
            damaged_state()
        data = read_bytes(source, 8 * count if count >= 0 else REGISTERS)
        if count == 0:
            return 0
        held.capacity = 8 * count if count > 0 else REGISTERS
        held.block = self.arena.alloc(held.capacity)
        memcpy(held.block, data, held.capacity)
        held.count = count
        if count < 0:
            for i in range(REGISTERS):       # they are places in a table of counts
                if (<uint8_t*>held.block)[i] > 64 - INDEX_BITS + 1:
                    damaged_state()
        return 0


cdef enum:
    COMPRESSION = 200                        # groups at most
    MOST_SINGLE = 256                        # values that have not been grouped yet

# A group of values that lie beside one another.
cdef struct Group:
    double mean
    double weight                            # how many, a whole number

cdef struct Digest:
    Group* groups                            # in ascending order
    double* single                           # values that are in no group yet, in ascending order
    int64_t n_groups
    int64_t n_single
    int64_t single_capacity
    int64_t n_low                            # -Infinity
    int64_t n_high                           # Infinity
    int64_t n_nan


cdef inline bint is_before(double mean, double weight, const Group* other) noexcept nogil:
    return mean < other.mean or (mean == other.mean and weight < other.weight)


cdef class DigestAccumulator(Accumulator):
    """The value at the part `q` of all: exact up to 256 values, then off by less than 1 % of the ranks, less towards the ends."""
    cdef double q

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Digest)
        self.q = dict(spec.params)["q"]
        self.layout = f"digest:{spec.input_kind}"        # every quantile keeps the same

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Digest* held = <Digest*>state
        cdef double value = as_f64(argument.bits)
        cdef int64_t low = 0, high = held.n_single, middle, capacity
        if value != value:
            held.n_nan += 1
            return 0
        if isinf(value):
            held.n_high += value > 0
            held.n_low += value < 0
            return 0
        value += 0.0                         # -0.0 is 0.0
        while low < high:
            middle = (low + high) // 2
            if held.single[middle] > value:
                high = middle
            else:
                low = middle + 1
        if held.n_single == held.single_capacity:
            capacity = max(2 * held.single_capacity, 4)
            held.single = <double*>self.arena.realloc(<char*>held.single, 8 * held.single_capacity, 8 * capacity)
            held.single_capacity = capacity
        memmove(held.single + low + 1, held.single + low, 8 * (held.n_single - low))
        held.single[low] = value
        held.n_single += 1
        if held.n_single > MOST_SINGLE:
            self.compress(held, NULL)
        return 0

    cdef int compress(self, Digest* held, Digest* other) except -1 nogil:
        """Group all values of one digest, or of two."""
        cdef Group[4 * (COMPRESSION + MOST_SINGLE)] parts
        cdef Group[COMPRESSION + 8] made
        cdef int64_t n = in_order(held, other, parts), i, n_made = 0
        cdef double total = 0.0, done = 0.0, limit = 0.0
        for i in range(n):
            total += parts[i].weight
        for i in range(n):
            # The least and the greatest value stay by themselves.
            if i < 2 or i == n - 1 or (done + made[n_made - 1].weight + parts[i].weight > limit and n_made < COMPRESSION):
                if n_made > 0:
                    done += made[n_made - 1].weight
                limit = total * next_limit(done / total)
                made[n_made] = parts[i]
                n_made += 1
            else:
                made[n_made - 1].weight += parts[i].weight
                made[n_made - 1].mean += (parts[i].mean - made[n_made - 1].mean) * (parts[i].weight / made[n_made - 1].weight)
        if held.groups == NULL:
            held.groups = <Group*>self.arena.alloc((COMPRESSION + 8) * sizeof(Group))
        memcpy(held.groups, made, n_made * sizeof(Group))
        held.n_groups = n_made
        held.n_single = 0
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef Digest* held = <Digest*>into
        cdef Digest* more = <Digest*>other
        cdef Cell value
        cdef int64_t i
        if PLANTED("digest-merge-forgets-groups"):
            more.n_groups = 0
        held.n_low += more.n_low
        held.n_high += more.n_high
        held.n_nan += more.n_nan
        if held.n_groups == 0 and more.n_groups == 0 and held.n_single + more.n_single <= MOST_SINGLE:
            value.tag = 1
            for i in range(more.n_single):
                value.bits = f64_bits(more.single[i])
                self.add(into, &value, NULL)
        elif more.n_groups + more.n_single > 0:
            self.compress(held, more)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef Digest* held = <Digest*>state
        cdef Group[2 * (COMPRESSION + MOST_SINGLE)] parts
        cdef int64_t n = in_order(held, NULL, parts), i
        cdef double total = 0.0, place, value, centre, before = 0.0, last = 0.0
        for i in range(n):
            total += parts[i].weight
        if total + held.n_low + held.n_high + held.n_nan == 0:
            return results_null(&self.results)
        place = (total + held.n_low + held.n_high + held.n_nan - 1) * self.q - held.n_low
        value = -INFINITY if place < 0 else NAN
        if 0 <= place <= total - 1:
            # A group stands for the ranks from `before` on; its mean is taken to lie in their middle.
            value = parts[n - 1].mean
            for i in range(n):
                centre = before + (parts[i].weight - 1) / 2
                if place <= centre:
                    value = parts[i].mean
                    if i > 0 and place < centre and parts[i - 1].mean != value:
                        value = parts[i - 1].mean + (value - parts[i - 1].mean) * ((place - last) / (centre - last))
                    break
                last = centre
                before += parts[i].weight
        elif place > total - 1 and place <= total - 1 + held.n_high and held.n_high > 0:
            value = INFINITY
        return results_bits(&self.results, f64_bits(value))

    cdef int clear(self, char* state) except -1 nogil:
        cdef Digest* held = <Digest*>state
        if held.groups != NULL:
            self.arena.free(<char*>held.groups, (COMPRESSION + 8) * sizeof(Group))
        self.arena.free(<char*>held.single, 8 * held.single_capacity)
        memset(state, 0, sizeof(Digest))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef Digest* held = <Digest*>state
        bytes_append(out, &held.n_low, 24)
        write_i64(held.n_groups, out)
        bytes_append(out, <char*>held.groups, held.n_groups * <int64_t>sizeof(Group))
        write_i64(held.n_single, out)
        return bytes_append(out, <char*>held.single, 8 * held.n_single)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef Digest* held = <Digest*>state
        cdef const char* data
        cdef int64_t n
        memcpy(&held.n_low, read_bytes(source, 24), 24)
        n = read_i64(source)
        if n < 0 or n > COMPRESSION + 8:
            damaged_state()
        data = read_bytes(source, n * <int64_t>sizeof(Group))
        if n > 0:
            held.groups = <Group*>self.arena.alloc((COMPRESSION + 8) * sizeof(Group))
            memcpy(held.groups, data, n * sizeof(Group))
            held.n_groups = n
        n = read_i64(source)
        if n < 0 or n > MOST_SINGLE:
            damaged_state()
        data = read_bytes(source, 8 * n)
        if n > 0:
            held.single = <double*>self.arena.alloc(8 * n)
            memcpy(held.single, data, 8 * n)
            held.n_single = held.single_capacity = n
        return 0


cdef double next_limit(double q) noexcept nogil:
    """Return the part of all values up to which a group that begins at the part `q` may reach: less near the ends."""
    cdef double k = COMPRESSION / (2.0 * M_PI) * asin(2.0 * q - 1.0) + 1.0
    if k >= COMPRESSION / 4.0:
        return 1.0
    return (sin(k * 2.0 * M_PI / COMPRESSION) + 1.0) / 2.0


cdef int64_t in_order(const Digest* held, const Digest* other, Group* out) noexcept nogil:
    """Put groups and single values in ascending order, of equal means the lighter first."""
    cdef const Digest* digests[2]
    cdef int64_t[4] at, ends
    cdef int64_t n = 0
    cdef int i, best
    cdef Group one
    cdef Group least
    digests[0] = held
    digests[1] = other
    for i in range(4):
        at[i] = 0
        ends[i] = 0
        if digests[i // 2] != NULL:
            ends[i] = digests[i // 2].n_groups if i % 2 == 0 else digests[i // 2].n_single
    while True:
        best = -1
        for i in range(4):
            if at[i] == ends[i]:
                continue
            if i % 2 == 0:
                one = digests[i // 2].groups[at[i]]
            else:
                one.mean = digests[i // 2].single[at[i]]
                one.weight = 1.0
            if best < 0 or is_before(one.mean, one.weight, &least):
                best = i
                least = one
        if best < 0:
            return n
        out[n] = least
        n += 1
        at[best] += 1
