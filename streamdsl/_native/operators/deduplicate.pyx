"""See deduplicate.pxd."""
from libc.stdint cimport INT64_MAX, INT64_MIN, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from streamdsl._native.aggregates.cell cimport damaged_state
from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, batch_take, i64
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.process_context cimport KeyReader
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES
from streamdsl._native.state.key_list cimport keys_clear, keys_free, keys_push
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.row_table cimport ROW_LIVE, RowHeader
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append
from streamdsl._native.windows.windower cimport saturated

from streamdsl._native.operators.declaration import Declaration, OwnTable

cdef enum:
    FIRST_MORE = 4


cdef inline uint64_t distance(int64_t a, int64_t b) noexcept nogil:
    return <uint64_t>a - <uint64_t>b if a > b else <uint64_t>b - <uint64_t>a


cdef class SeenField(RowField):
    """The field of a key. What has outlived its time is as good as nothing."""

    def __init__(self, str name, int64_t within_ms):
        RowField.__init__(self, name, "seen/2", sizeof(Seen))
        self.within_ms = within_ms
        self.watermark = INT64_MIN

    cdef int64_t last_moment(self, int64_t time) noexcept nogil:
        return saturated(time, self.within_ms - 1) - PLANTED("duplicate-forgotten-early")

    cdef bint outlived(self, int64_t time) noexcept nogil:
        return self.within_ms >= 0 and self.last_moment(time) <= self.watermark

    cdef int64_t get(self, const Seen* seen, int64_t i) noexcept nogil:
        return seen.first if i == 0 else seen.more[i - 1]

    cdef void set(self, Seen* seen, int64_t i, int64_t time) noexcept nogil:
        if i == 0:
            seen.first = time
        else:
            seen.more[i - 1] = time

    cdef bint has(self, const Seen* seen, int64_t time) noexcept nogil:
        cdef int64_t i
        if self.within_ms < 0:
            return seen.count > 0
        for i in range(seen.count):
            if distance(self.get(seen, i), time) < <uint64_t>self.within_ms + PLANTED("duplicate-at-its-end"):
                return True
        return False

    cdef void forget(self, Seen* seen) noexcept nogil:
        cdef int64_t i, kept = 0
        for i in range(seen.count):
            if not self.outlived(self.get(seen, i)):
                self.set(seen, kept, self.get(seen, i))
                kept += 1
        seen.count = kept

    cdef int64_t latest(self, const Seen* seen) noexcept nogil:
        cdef int64_t i, time = seen.first
        for i in range(1, seen.count):
            time = max(time, self.get(seen, i))
        return time

    cdef int add(self, Seen* seen, int64_t time) except -1 nogil:
        cdef int64_t kept, capacity
        self.forget(seen)
        kept = seen.count
        if kept > seen.capacity:
            capacity = max(<int64_t>FIRST_MORE, 2 * seen.capacity)
            seen.more = <int64_t*>self.table.arena.realloc(
                <char*>seen.more, seen.capacity * sizeof(int64_t), capacity * sizeof(int64_t))
            seen.capacity = capacity
        seen.count = kept + 1
        self.set(seen, kept, time)
        return 0

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        cdef Seen* seen = <Seen*>field
        cdef int64_t i, time
        bytes_append(out, &seen.filed, 8)
        for i in range(seen.count):
            time = self.get(seen, i)
            bytes_append(out, &time, 8)
        return 0

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef int64_t i, time
        self.clear(field)                    # a later entry of the same key replaces what was read before
        if size < 8 or size % 8 != 0:
            return damaged_state()
        memcpy(&(<Seen*>field).filed, data, 8)
        for i in range(1, 0 if PLANTED("duplicates-not-restored") else size // 8):
            memcpy(&time, data + 8 * i, 8)
            self.add(<Seen*>field, time)
        return 0

    cdef int clear(self, char* field) except -1 nogil:
        cdef Seen* seen = <Seen*>field
        self.table.arena.free(<char*>seen.more, seen.capacity * <int64_t>sizeof(int64_t))
        memset(field, 0, sizeof(Seen))
        return 0

    cdef bint empty(self, char* field) noexcept nogil:
        cdef Seen* seen = <Seen*>field
        cdef int64_t i
        for i in range(seen.count):
            if not self.outlived(self.get(seen, i)):
                return False
        return True


cdef class DeduplicateOperator(KeyedOperator):
    """`spec` is a `PhysicalDeduplicate`. A record passes unless one of its key that has passed lies less than `within` away.

    A record at or below the watermark is late where there is a `within`: whether it is a duplicate is not known any more.
    """

    def __init__(self, spec, KeyLookup lookup not None):
        KeyedOperator.__init__(self, spec, lookup, None)
        self.within_ms = -1 if spec.within_ms is None else spec.within_ms
        self.row_field = SeenField(spec.name, self.within_ms)

    def __dealloc__(self):
        free(self.due_slots)
        keys_free(&self.wanted)

    def declare(self):
        if self.within_ms < 0:
            return Declaration()
        return Declaration(tables=(OwnTable("times", "lane,time,({key})"),), deadlines=True)

    def open(self, context):
        context.lookup.add_field(self.row_field)
        if self.within_ms >= 0:
            self.deadlines = Deadlines(context.tables[0], 1, 0, "duplicates")

    def restored(self):
        """Note the keys that stand in the table, once it has been loaded."""
        if self.within_ms >= 0:
            self.deadlines.rebuild()

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef Seen* seen
        cdef int32_t i, n = 0, n_late = 0
        self.reserve(batch.n)
        for i in range(batch.n):
            if self.within_ms >= 0 and times[i] <= self.lookup.lateness_watermark(slots[i]):
                n_late += 1                  # from the end of `rows` on
                self.rows[batch.n - n_late] = i
                continue
            seen = <Seen*>(self.lookup.table.row(slots[i]) + self.row_field.offset)
            if self.row_field.has(seen, times[i]):
                continue
            self.lookup.table.touch(slots[i])
            self.row_field.add(seen, times[i])
            if self.within_ms >= 0 and not seen.filed:
                seen.filed = 1
                self.file(slots[i], times[i])
            self.rows[n] = i
            n += 1
        self.duplicates += batch.n - n - n_late
        if n_late > 0:
            for i in range(n_late // 2):     # back in the order of arrival
                self.rows[batch.n - n_late + i], self.rows[batch.n - 1 - i] = self.rows[batch.n - 1 - i], self.rows[batch.n - n_late + i]
            self.emit_late(batch, self.rows + batch.n - n_late, n_late)
        if n == batch.n:
            return self.next.process(batch)
        return self.emit(batch_take(batch, self.rows, n)) if n > 0 else 0

    # Keys whose time is over ------------------------------------------------------------------------------------------

    cdef int file(self, int64_t slot, int64_t time) except -1 nogil:
        cdef const RowHeader* header = self.lookup.table.header(slot)
        self.deadlines.add(0, self.row_field.last_moment(time), header.key, header.key_size, header.shard)
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        if self.within_ms >= 0:
            self.watermark = watermark
            # The end of the input is no time: a later run may go on behind it.
            if watermark < INT64_MAX:
                self.row_field.watermark = watermark
                self.closing = self.deadlines.first(0) <= watermark
        return 0 if self.closing else KeyedOperator.on_watermark(self, watermark)

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int64_t n = self.deadlines.take_due(0, self.watermark, most)
        if n > 0:
            self.forget_due(n)
            return n
        self.closing = False
        KeyedOperator.on_watermark(self, self.watermark)
        return 0

    cdef int forget_due(self, int64_t n) except -1 nogil:
        """Remove what has outlived its time of the keys that are due: they may be in the database alone."""
        cdef int64_t i, slot
        cdef const RowHeader* header
        cdef Seen* seen
        self.reserve_slots(n)
        keys_clear(&self.wanted)
        for i in range(n):
            header = self.deadlines.table.header(self.deadlines.due[i])
            keys_push(&self.wanted, header.key + DEADLINE_BYTES, header.key_size - DEADLINE_BYTES, NULL, 0)
        self.lookup.table.lookup_batch(self.wanted.values.data, self.wanted.offsets, n, self.due_slots)
        for i in range(n):
            self.deadlines.remove(self.deadlines.due[i])
        for i in range(n):
            slot = self.due_slots[i]
            if not self.lookup.table.header(slot).flags & ROW_LIVE:
                continue
            self.lookup.table.touch(slot)
            seen = <Seen*>(self.lookup.table.row(slot) + self.row_field.offset)
            self.row_field.forget(seen)
            if seen.count > 0:
                self.file(slot, self.row_field.latest(seen))
                continue
            self.row_field.clear(<char*>seen)
            if self.lookup.table.empty(slot):
                self.lookup.table.remove(slot)
        return 0

    cdef int reserve_slots(self, int64_t n) except -1 nogil:
        cdef int64_t* more
        if n > self.due_capacity:
            more = <int64_t*>realloc(self.due_slots, n * sizeof(int64_t))
            if more == NULL:
                with gil:
                    raise MemoryError("no memory left for duplicates")
            self.due_slots = more
            self.due_capacity = n
        return 0

    def state(self):
        """Return {key: times (ms) of the records that were kept and may still have duplicates}."""
        cdef KeyTable table = self.lookup.table
        cdef KeyReader reader = KeyReader(self.lookup, self.spec.key_schema)
        cdef int64_t slot = table.first_slot(0), i
        cdef Seen* seen
        found = {}
        while slot >= 0:
            seen = <Seen*>(table.row(slot) + self.row_field.offset)
            times = [self.row_field.get(seen, i) for i in range(seen.count) if not self.row_field.outlived(self.row_field.get(seen, i))]
            if times:
                found[reader.key(slot)] = times
            slot = table.first_slot(slot + 1)
        return found

    def metrics(self):
        """Return the figures: duplicates dropped, and late records where there is a time."""
        figures = {**KeyedOperator.metrics(self), "duplicates": self.duplicates}
        if self.within_ms >= 0:
            figures["late"] = self.late
        return figures
