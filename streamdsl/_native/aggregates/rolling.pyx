"""Rolling aggregates: what they give depends on the records of the frame and the order of their arrival alone.

Sums of floats, and what is made of them, are exact and rounded once; so no value that has left the frame leaves a trace. A
short frame is read again for each record, a long one is put together from the partial results of its index.
"""
from libc.math cimport sqrt
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from streamdsl._native.flow.batch cimport KIND_U64
from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.includes.decimal cimport dec_store, int128, wide_add, wide_decimal
from streamdsl._native.includes.int128 cimport i128_add, i128_as_double, i128_fits, u128_add
from streamdsl._native.aggregates.accumulators cimport Accumulator, takes
from streamdsl._native.aggregates.cell cimport (
    Cell, Results, cell_assign, cell_decimal, cell_free, cell_load, cell_read, cell_write, damaged_state, f64_bits, kind_number, read_i64,
    results_bits, results_null, results_truncate, write_i64,
)
from streamdsl._native.aggregates.decimals cimport DecimalTotal
from streamdsl._native.aggregates.exact_sum cimport ExactMoments, exact_sum, exact_variance
from streamdsl._native.aggregates.rolling_index cimport (
    PARTIAL_COUNT, PARTIAL_DECIMALS, PARTIAL_FIRST, PARTIAL_INTEGERS, PARTIAL_MOMENTS, PARTIAL_TOP, PARTIAL_UNIQUE, PARTIAL_VISIT, Ring,
    RollingIndex, Slot, count_entry, entry_at, time_at, within,
)
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.write_stream cimport bytes_append

from streamdsl.errors import InternalError

cdef enum:
    FIRST_CAPACITY = 4
    MOST_ENTRIES = 1073741824
    AHEAD = 8                                # records between asking for a ring's memory and using it
    INDEXED = 128                            # a ring with more entries gets an index


cdef inline bint outlived(int64_t time, int64_t watermark, int64_t size_ms) noexcept nogil:
    # watermark >= time + size: no record above the watermark can see it.
    return time <= watermark and <uint64_t>watermark - <uint64_t>time >= <uint64_t>size_ms


cdef inline bint shrinks(const Ring* ring) noexcept nogil:
    return ring.capacity > 4 * FIRST_CAPACITY and 8 * ring.count <= ring.capacity


cdef inline int32_t first_within(Ring* ring, int64_t stride, int64_t now, int64_t size_ms) noexcept nogil:
    """Return the first entry of a sorted ring, none newer than `now`, that is younger than the size."""
    cdef int32_t low = 0, high = ring.count, middle
    if high > 0 and within(time_at(ring, 0, stride), now, size_ms):
        return 0
    while high - low > 8:
        middle = low + (high - low) // 2
        if within(time_at(ring, middle, stride), now, size_ms):
            high = middle
        else:
            low = middle + 1
    while high > low and within(time_at(ring, high - 1, stride), now, size_ms):
        high -= 1
    return high


OUTCOMES = {"sum": OUTCOME_SUM, "mean": OUTCOME_MEAN, "var": OUTCOME_VAR, "std": OUTCOME_STD}


cdef class RollingFrame:
    """`specs` are the rolling `AggregateSpec`s, `accumulators` theirs, in the same order."""

    def __init__(self, list specs, list accumulators, Arena arena):
        cdef int i
        cdef Accumulator accumulator
        cdef int64_t largest = 8
        self.accumulators = accumulators
        self.arena = arena
        self.n_aggregates = len(specs)
        columns, kinds = cells_of(specs)
        self.n_cells = len(columns)
        self.stride = 8 + self.n_cells * <int64_t>sizeof(Cell)
        self.aggregates = <RollingAggregate*>calloc(self.n_aggregates + 1, sizeof(RollingAggregate))
        self.cell_columns = <int*>calloc(self.n_cells + 1, sizeof(int))
        self.cell_kinds = <int*>calloc(self.n_cells + 1, sizeof(int))
        if self.aggregates == NULL or self.cell_columns == NULL or self.cell_kinds == NULL:
            raise MemoryError("no memory left for a frame")
        for i in range(self.n_cells):
            self.cell_columns[i] = columns[i]
            self.cell_kinds[i] = kind_number(kinds[i])
        for i, spec in enumerate(specs):
            accumulator = accumulators[i]
            self.aggregates[i].accumulator = <void*>accumulator
            self.aggregates[i].size_ms = spec.frame.size_ms
            self.aggregates[i].exclude_current = spec.frame.exclude_current
            self.aggregates[i].counts_rows = spec.kind == "count" and spec.argument < 0 and spec.where < 0
            self.aggregates[i].argument = columns.index(spec.argument) if spec.argument >= 0 else -1
            self.aggregates[i].by = columns.index(spec.by) if spec.by >= 0 else -1
            self.aggregates[i].where = columns.index(spec.where) if spec.where >= 0 else -1
            self.aggregates[i].outcome = <Outcome><int>OUTCOMES.get(spec.kind, OUTCOME_OTHER)
            self.aggregates[i].ddof = dict(spec.params).get("ddof", 0)
            self.size_ms = max(self.size_ms, spec.frame.size_ms)
            largest = max(largest, accumulator.size)
        self.scratch = <char*>calloc(1, largest)
        if self.scratch == NULL:
            raise MemoryError("no memory left for a frame")
        self.index = RollingIndex(specs, columns, self.stride, arena)
        for i in range(self.n_aggregates):
            accumulator = accumulators[i]
            self.aggregates[i].refuses = accumulator.refuses
            self.refuses = self.refuses or accumulator.refuses
            if accumulator.refuses and self.index.slots[i].partial not in (PARTIAL_VISIT, PARTIAL_INTEGERS, PARTIAL_DECIMALS):
                raise InternalError(f"a rolling {specs[i].kind} cannot be asked before its record is kept")
        self.counts_only = self.n_aggregates == 1 and self.aggregates[0].counts_rows
        self.layout = f"rolling: {','.join(kinds)}"

    def __dealloc__(self):
        free(self.aggregates)
        free(self.cell_columns)
        free(self.cell_kinds)
        free(self.scratch)

    cdef int begin(self, Column* arguments, int64_t n_results) except -1 nogil:
        cdef int i
        self.arguments = arguments
        for i in range(self.n_aggregates):
            (<Accumulator>self.aggregates[i].accumulator).begin(arguments, n_results, 0)
        return 0

    cdef int run(self, Ring* ring, int64_t row, int64_t time, int64_t watermark) except -1 nogil:
        cdef int i
        if ring.count > 0:
            self.purge(ring, watermark)
        # What may refuse the record is asked before it is kept.
        for i in range(self.n_aggregates):
            if self.aggregates[i].exclude_current or self.aggregates[i].refuses:
                self.evaluate(i, ring, row, time, not self.aggregates[i].exclude_current)
        self.append(ring, row, time)
        for i in range(self.n_aggregates):
            if not (self.aggregates[i].exclude_current or self.aggregates[i].refuses):
                self.evaluate(i, ring, row, time, False)
        return 0

    cdef void truncate(self, int64_t n) noexcept nogil:
        cdef int i
        for i in range(self.n_aggregates):
            results_truncate(&(<Accumulator>self.aggregates[i].accumulator).results, n)

    cdef int run_batch(self, char** rings, int64_t offset, const int64_t* times, int64_t n, int64_t watermark) except -1 nogil:
        cdef int64_t i
        cdef Ring* ring
        if self.counts_only:
            return self.count_batch(rings, offset, times, n, watermark)
        for i in range(n):
            if i + AHEAD < n:
                ring = <Ring*>(rings[i + AHEAD] + offset)
                prefetch(ring.block + ring.head * self.stride)
            self.run(<Ring*>(rings[i] + offset), i, times[i], watermark)
        return 0

    cdef int count_batch(self, char** rings, int64_t offset, const int64_t* times, int64_t n, int64_t watermark) except -1 nogil:
        # The commonest frame: a ring of nothing but times. The same steps as `run`, in one loop without calls.
        cdef RollingAggregate* aggregate = self.aggregates
        cdef Results* results = &(<Accumulator>aggregate.accumulator).results
        cdef int64_t* out = <int64_t*>results.column.values
        cdef int64_t* entries
        cdef int64_t i, time, size_ms = aggregate.size_ms
        cdef bint included = not aggregate.exclude_current
        cdef int32_t mask
        cdef Ring* ring
        for i in range(n):
            if i + AHEAD < n:
                ring = <Ring*>(rings[i + AHEAD] + offset)
                prefetch(ring.block + ring.head * <int64_t>sizeof(int64_t))
            ring = <Ring*>(rings[i] + offset)
            time = times[i]
            entries = <int64_t*>ring.block
            mask = ring.capacity - 1
            if ring.count > 0 and (ring.unsorted or entries[(ring.head + ring.count - 1) & mask] > time):
                self.run(ring, i, time, watermark)       # times went back
                continue
            while ring.count > 0 and outlived(entries[ring.head], watermark, size_ms):
                ring.head = (ring.head + 1) & mask
                ring.count -= 1
            if shrinks(ring):
                self.resize(ring, ring.capacity // 4)
            out[i] = ring.count - first_within(ring, sizeof(int64_t), time, size_ms) + included
            if ring.count == ring.capacity:
                self.resize(ring, 2 * ring.capacity if ring.capacity > 0 else FIRST_CAPACITY)
            (<int64_t*>ring.block)[(ring.head + ring.count) & (ring.capacity - 1)] = time
            count_entry(ring, time)
            results.n = i + 1
        return 0

    cdef int show(self, Ring* ring) except -1 nogil:
        cdef int i
        cdef int64_t time = time_at(ring, ring.count - 1, self.stride) if ring.count > 0 else 0
        for i in range(self.n_aggregates):
            self.evaluate(i, ring, 0, time, False)
        return 0

    cdef int evaluate(self, int k, Ring* ring, int64_t row, int64_t time, bint included) except -1 nogil:
        # While times never went back, the frame is a tail of the ring; else every entry or node is asked.
        cdef RollingAggregate* aggregate = &self.aggregates[k]
        cdef Slot* slot = &self.index.slots[k]
        cdef bint sorted = not ring.unsorted and (ring.count == 0 or time_at(ring, ring.count - 1, self.stride) <= time)
        cdef int32_t start = first_within(ring, self.stride, time, aggregate.size_ms) if sorted else 0
        if aggregate.counts_rows and sorted:
            return results_bits(&(<Accumulator>aggregate.accumulator).results, ring.count - start)
        if ring.index == NULL and ring.count > INDEXED and slot.partial != PARTIAL_VISIT:
            self.index.build(ring)
        (<Accumulator>aggregate.accumulator).row = row
        if slot.partial != PARTIAL_VISIT and (ring.index != NULL or slot.partial < PARTIAL_FIRST):
            self.index.reset(k)
            self.index.collect(ring, k, start, time, aggregate.size_ms)
            if included:
                self.add_current(k, row)
            return self.put(k, ring)
        try:
            self.add_entries(aggregate, ring, start, sorted, time)
            if included:
                self.add_current(k, row)
            (<Accumulator>aggregate.accumulator).emit(self.scratch)
        finally:
            (<Accumulator>aggregate.accumulator).clear(self.scratch)
        return 0

    cdef int add_current(self, int k, int64_t row) except -1 nogil:
        cdef RollingAggregate* aggregate = &self.aggregates[k]
        cdef Slot* slot = &self.index.slots[k]
        cdef int64_t* held = <int64_t*>(self.index.total + slot.at)
        cdef Cell argument, by
        memset(&argument, 0, sizeof(Cell))
        memset(&by, 0, sizeof(Cell))
        if not takes(<Accumulator>aggregate.accumulator, row):
            return 0
        if (<Accumulator>aggregate.accumulator).argument_column != NULL:
            argument = cell_load((<Accumulator>aggregate.accumulator).argument_column, row)
        if (<Accumulator>aggregate.accumulator).by_column != NULL:
            by = cell_load((<Accumulator>aggregate.accumulator).by_column, row)
        if slot.partial == PARTIAL_VISIT:
            return (<Accumulator>aggregate.accumulator).add(self.scratch, &argument, &by)
        held[0] += 1                         # PARTIAL_INTEGERS or PARTIAL_DECIMALS: see __init__
        if slot.partial == PARTIAL_DECIMALS:
            wide_add(held + 1, cell_decimal(&argument))
        elif slot.argument_kind == KIND_U64:
            u128_add(held + 1, <uint64_t>argument.bits)
        else:
            i128_add(held + 1, argument.bits)
        return 0

    cdef int put(self, int k, Ring* ring) except -1 nogil:
        cdef RollingAggregate* aggregate = &self.aggregates[k]
        cdef Slot* slot = &self.index.slots[k]
        cdef Results* results = &(<Accumulator>aggregate.accumulator).results
        cdef int64_t* held = <int64_t*>(self.index.total + slot.at)
        cdef double value
        if slot.partial == PARTIAL_COUNT or slot.partial == PARTIAL_UNIQUE:
            return results_bits(results, held[0])
        if slot.partial == PARTIAL_INTEGERS and aggregate.outcome == OUTCOME_SUM:
            if not i128_fits(held + 1, slot.argument_kind == KIND_U64):
                (<Accumulator>aggregate.accumulator).fail("integer overflow in sum()")
            return results_bits(results, held[1])
        if slot.partial == PARTIAL_DECIMALS:
            return self.put_decimal(aggregate, held)
        if slot.partial >= PARTIAL_FIRST:
            if slot.partial == PARTIAL_TOP:
                return self.add_chosen(aggregate, ring, held + 1, held[0])
            return self.add_chosen(aggregate, ring, held, held[0] >= 0)
        if aggregate.outcome != OUTCOME_SUM and held[0] == 0 or aggregate.outcome >= OUTCOME_VAR and held[0] <= aggregate.ddof:
            return results_null(results)
        if slot.partial == PARTIAL_INTEGERS:
            value = i128_as_double(held + 1) / <double>held[0]
        elif slot.partial == PARTIAL_MOMENTS:
            value = exact_variance(<ExactMoments*>held, aggregate.ddof)
            if aggregate.outcome == OUTCOME_STD:
                value = sqrt(value)
        else:
            value = exact_sum(<ExactMoments*>held)
            if aggregate.outcome == OUTCOME_MEAN:
                value /= <double>held[0]
        return results_bits(results, f64_bits(value))

    cdef int put_decimal(self, RollingAggregate* aggregate, const int64_t* held) except -1 nogil:
        cdef DecimalTotal total
        cdef int128 sum = 0
        if not wide_decimal(held + 1, &sum):
            (<Accumulator>aggregate.accumulator).fail("decimal overflow: the sum has more than 38 digits")
        total.n = held[0]
        dec_store(total.sum, sum)
        return (<Accumulator>aggregate.accumulator).emit(<char*>&total)

    cdef int add_chosen(self, RollingAggregate* aggregate, Ring* ring, const int64_t* numbers, int64_t n) except -1 nogil:
        cdef Cell nothing
        cdef Cell* cells
        cdef int64_t i
        memset(&nothing, 0, sizeof(Cell))
        try:
            for i in range(n):
                cells = <Cell*>(self.index.entry(ring, numbers[i]) + 8)
                (<Accumulator>aggregate.accumulator).add(
                    self.scratch, cells + aggregate.argument if aggregate.argument >= 0 else &nothing,
                    cells + aggregate.by if aggregate.by >= 0 else &nothing)
            (<Accumulator>aggregate.accumulator).emit(self.scratch)
        finally:
            (<Accumulator>aggregate.accumulator).clear(self.scratch)
        return 0

    cdef int add_entries(self, RollingAggregate* aggregate, Ring* ring, int32_t start, bint sorted,
                         int64_t time) except -1 nogil:
        cdef int32_t i
        cdef char* entry
        cdef Cell* cells
        cdef Cell nothing
        cdef Cell* argument = &nothing
        cdef Cell* by = &nothing
        memset(&nothing, 0, sizeof(Cell))
        for i in range(start, ring.count):
            entry = entry_at(ring, i, self.stride)
            if not sorted and not within((<int64_t*>entry)[0], time, aggregate.size_ms):
                continue
            cells = <Cell*>(entry + 8)
            if aggregate.where >= 0 and (cells[aggregate.where].tag == 0 or cells[aggregate.where].bits == 0):
                continue
            if aggregate.argument >= 0:
                argument = cells + aggregate.argument
                if argument.tag == 0:
                    continue
            if aggregate.by >= 0:
                by = cells + aggregate.by
            (<Accumulator>aggregate.accumulator).add(self.scratch, argument, by)
        return 0

    cdef int append(self, Ring* ring, int64_t row, int64_t time) except -1 nogil:
        cdef int i
        cdef char* entry
        cdef Cell cell
        if ring.count == ring.capacity:
            self.resize(ring, 2 * ring.capacity if ring.capacity > 0 else FIRST_CAPACITY)
        if ring.count > 0 and time_at(ring, ring.count - 1, self.stride) > time:
            ring.unsorted = 1
        CHECK(ring.count < ring.capacity, "a ring has room for the entry that is added")
        entry = entry_at(ring, ring.count, self.stride)
        memset(entry, 0, self.stride)
        (<int64_t*>entry)[0] = time
        count_entry(ring, time)
        for i in range(self.n_cells):
            cell = cell_load(&self.arguments[self.cell_columns[i]], row)
            cell_assign(<Cell*>(entry + 8) + i, self.cell_kinds[i], &cell, self.arena)
        if ring.index != NULL:
            self.index.added(ring)
        return 0

    cdef bint is_over(self, const Ring* ring, int64_t watermark) noexcept nogil:
        cdef int64_t size_ms = self.size_ms >> 1 if PLANTED("frame-forgotten-early") else self.size_ms
        return ring.count == 0 or outlived(ring.newest, watermark, size_ms)

    cdef int purge(self, Ring* ring, int64_t watermark) except -1 nogil:
        if ring.unsorted and (ring.index == NULL or ring.count >= 2 * ring.index.compacted):
            self.compact(ring, watermark)
        while ring.count > 0 and outlived(time_at(ring, 0, self.stride), watermark, self.size_ms):
            if ring.index != NULL:
                self.index.leaving(ring)
            self.free_entry(entry_at(ring, 0, self.stride))
            ring.head = (ring.head + 1) & (ring.capacity - 1)
            ring.count -= 1
        if ring.index != NULL and ring.count <= INDEXED // 4:
            self.index.drop(ring)
        if shrinks(ring):
            self.resize(ring, ring.capacity // 4)
        return 0

    cdef int compact(self, Ring* ring, int64_t watermark) except -1 nogil:
        """Free what has outlived its use, wherever it stands."""
        cdef int32_t i, kept = 0, count = ring.count
        cdef int64_t time, last = 0
        self.index.drop(ring)
        ring.unsorted = 0
        for i in range(count):
            time = time_at(ring, i, self.stride)
            if outlived(time, watermark, self.size_ms):
                self.free_entry(entry_at(ring, i, self.stride))
                continue
            if kept > 0 and time < last:
                ring.unsorted = 1
            last = time
            if kept != i:
                memcpy(entry_at(ring, kept, self.stride), entry_at(ring, i, self.stride), self.stride)
            kept += 1
        ring.count = kept
        return 0

    cdef int resize(self, Ring* ring, int32_t capacity) except -1 nogil:
        cdef int32_t i
        cdef char* block
        if capacity > MOST_ENTRIES:
            with gil:
                raise MemoryError("a rolling frame holds 1,073,741,824 records of a key at most")
        block = self.arena.alloc(capacity * self.stride)
        for i in range(ring.count):
            memcpy(block + i * self.stride, entry_at(ring, i, self.stride), self.stride)
        self.arena.free(ring.block, ring.capacity * self.stride)
        ring.block = block
        ring.capacity = capacity
        ring.head = 0
        return 0

    cdef int free_entry(self, char* entry) except -1 nogil:
        cdef int i
        for i in range(self.n_cells):
            cell_free(<Cell*>(entry + 8) + i, self.cell_kinds[i], self.arena)
        return 0

    cdef int clear(self, Ring* ring) except -1 nogil:
        cdef int32_t i
        self.index.drop(ring)
        for i in range(ring.count):
            self.free_entry(entry_at(ring, i, self.stride))
        if ring.block != NULL:
            self.arena.free(ring.block, ring.capacity * self.stride)
        memset(ring, 0, sizeof(Ring))
        return 0

    cdef int write(self, Ring* ring, ByteWriter* out) except -1 nogil:
        cdef int32_t i
        cdef int k
        cdef char* entry
        write_i64(ring.count, out)
        if ring.count == 0:
            return 0
        if self.n_cells == 0:                # times alone: as they stand, around the end
            i = min(ring.count, ring.capacity - ring.head)
            bytes_append(out, ring.block + ring.head * <int64_t>sizeof(int64_t), i * sizeof(int64_t))
            return bytes_append(out, ring.block, (ring.count - i) * sizeof(int64_t))
        for i in range(ring.count):
            entry = entry_at(ring, i, self.stride)
            write_i64((<int64_t*>entry)[0], out)
            for k in range(self.n_cells):
                cell_write(<Cell*>(entry + 8) + k, self.cell_kinds[k], out)
        return 0

    cdef int read(self, Ring* ring, ByteReader* source) except -1 nogil:
        cdef int64_t i, time, count = read_i64(source)
        cdef int k
        cdef char* entry
        cdef int64_t last = 0
        if count < 0 or count > MOST_ENTRIES:
            damaged_state()
        for i in range(count):
            time = read_i64(source)
            if ring.count == ring.capacity:
                self.resize(ring, 2 * ring.capacity if ring.capacity > 0 else FIRST_CAPACITY)
            entry = entry_at(ring, ring.count, self.stride)
            memset(entry, 0, self.stride)
            (<int64_t*>entry)[0] = time
            count_entry(ring, time)
            if i > 0 and time < last:
                ring.unsorted = 1
            last = time
            for k in range(self.n_cells):
                cell_read(<Cell*>(entry + 8) + k, self.cell_kinds[k], source, self.arena)
        if PLANTED("rolling-not-restored"):
            self.clear(ring)
        return 0


def cells_of(list specs):
    """Return the argument columns that the aggregates read, each once, and their kinds."""
    kinds = {}
    for spec in specs:
        for column, kind in ((spec.argument, spec.input_kind), (spec.by, spec.by_kind), (spec.where, "bool")):
            if column >= 0:
                kinds[column] = kind
    return list(kinds), list(kinds.values())
