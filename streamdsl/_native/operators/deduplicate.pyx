"""See deduplicate.pxd."""
from libc.stdint cimport INT64_MAX, INT64_MIN, uint64_t
from libc.string cimport memcpy, memset

from streamdsl._native.aggregates.cell cimport damaged_state
from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, batch_take, i64
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.process_context cimport KeyReader
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.row_table cimport ROW_LIVE, ROW_QUEUED, RowHeader
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append

cdef enum:
    LEAST_SWEEP = 64                         # slots that a sweep looks at
    FIRST_MORE = 4


cdef inline uint64_t distance(int64_t a, int64_t b) noexcept nogil:
    return <uint64_t>a - <uint64_t>b if a > b else <uint64_t>b - <uint64_t>a


cdef class SeenField(RowField):
    """The field of a key. What has outlived its time is as good as nothing."""

    def __init__(self, str name, int64_t within_ms):
        RowField.__init__(self, name, "seen/1", sizeof(Seen))
        self.within_ms = within_ms
        self.watermark = INT64_MIN

    cdef bint outlived(self, int64_t time) noexcept nogil:
        return self.within_ms >= 0 and time <= self.watermark and (
            distance(self.watermark, time) + 1 + PLANTED("duplicate-forgotten-early") >= <uint64_t>self.within_ms)

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

    cdef int add(self, Seen* seen, int64_t time) except -1 nogil:
        cdef int64_t i, kept = 0, capacity
        for i in range(seen.count):
            if not self.outlived(self.get(seen, i)):
                self.set(seen, kept, self.get(seen, i))
                kept += 1
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
        for i in range(seen.count):
            time = self.get(seen, i)
            bytes_append(out, &time, 8)
        return 0

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef int64_t i, time
        self.clear(field)                    # a later entry of the same key replaces what was read before
        if size % 8 != 0:
            return damaged_state()
        for i in range(0 if PLANTED("duplicates-not-restored") else size // 8):
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
        self.swept_at = INT64_MIN

    def open(self, context):
        context.lookup.add_field(self.row_field)

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

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        # The end of the input is no time: a later run may go on behind it.
        if self.within_ms >= 0 and watermark < INT64_MAX:
            self.row_field.watermark = watermark
            self.sweep(watermark)
        return KeyedOperator.on_watermark(self, watermark)

    cdef int sweep(self, int64_t watermark) except -1 nogil:
        """Remove keys whose time is over. All have been looked at once the watermark has passed `within`."""
        cdef int64_t steps = self.lookup.table.used, slot
        cdef uint64_t passed = distance(watermark, self.swept_at)
        cdef RowHeader* header
        cdef char* field
        if self.swept_at == INT64_MIN:
            steps = 0
        elif passed < <uint64_t>self.within_ms:
            steps = min(steps, <int64_t>(<double>steps * (<double>passed / <double>self.within_ms)) + LEAST_SWEEP)
        self.swept_at = watermark
        while steps > 0:
            steps -= 1
            if self.hand >= self.lookup.table.used:
                self.hand = 0
            slot = self.hand
            self.hand += 1
            header = self.lookup.table.header(slot)
            if not header.flags & ROW_LIVE or header.flags & ROW_QUEUED or header.held:
                continue
            field = self.lookup.table.row(slot) + self.row_field.offset
            if (<Seen*>field).count == 0 or not self.row_field.empty(field):
                continue
            self.lookup.table.touch(slot)
            self.row_field.clear(field)
            if self.lookup.table.empty(slot):
                self.lookup.table.remove(slot)
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
