"""See throttled_aggregate.pxd."""
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, uint64_t
from libc.stdlib cimport free, realloc

from streamdsl._native.aggregates.accumulators cimport EMIT
from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport KIND_I64, SYS_SLOT, SYS_TIME, batch_new, batch_release, column_alloc, i64
from streamdsl._native.operators.aggregate cimport KEY_CHANGED, KEY_SHOWN, KEY_TIME_BITS
from streamdsl._native.operators.base cimport blame
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.keyed cimport OUTPUT_ROWS, KeyedOperator
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES
from streamdsl._native.state.key_list cimport keys_clear, keys_free, keys_push
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.windows.windower cimport saturated

from streamdsl._native.operators.declaration import Declaration, OwnTable


cdef class ThrottledAggregateOperator(AggregateOperator):
    """As `AggregateOperator`; of what has changed one row leaves for each key, at most once in so much of the wall clock.

    A row has the time of the key's last record, or the moment behind the watermark that has been passed on: it is never late.
    At the end of the input all that has changed leaves.
    """

    def __init__(self, spec, KeyLookup lookup not None, Program arguments):
        AggregateOperator.__init__(self, spec, lookup, arguments)
        self.throttle_ms = spec.throttle_ms
        self.throttled_until = INT64_MAX
        self.passed = INT64_MIN

    def __dealloc__(self):
        free(self.key_slots)
        keys_free(&self.wanted)

    def declare(self):
        return Declaration(tables=(OwnTable("changes", "lane,time,({key})"),), deadlines=True, wakeups=True)

    def open(self, context):
        AggregateOperator.open(self, context)
        self.clock = context.clock
        self.changed = Deadlines(context.tables[0], 1, 0, "changed keys")

    def restored(self):
        """Note the keys that stand in the table, once it has been loaded."""
        self.changed.rebuild()
        if self.changed.first(0) < INT64_MAX:
            self.throttled_until = INT64_MIN

    cdef int finish(self, Batch* batch) except -1 nogil:
        cdef int32_t i, n
        cdef bint done = False
        try:
            n = self.add_rows(batch, False)
            for i in range(n):
                self.note_change(i64(&batch.sys[SYS_SLOT])[self.rows[i]], i64(&batch.sys[SYS_TIME])[self.rows[i]])
            done = True
        finally:
            self.release_columns()
            if not done:
                blame(self, batch, -1)
        if self.careful:
            with gil:
                self.refusals.send(self.letters_output, batch)
        return 0

    cdef int note_change(self, int64_t slot, int64_t time) except -1 nogil:
        cdef uint64_t* bits = <uint64_t*>(self.lookup.table.row(slot) + self.row_field.offset)
        cdef const RowHeader* header = self.lookup.table.header(slot)
        cdef int64_t most = INT64_MAX >> KEY_TIME_BITS
        if not bits[0] & KEY_CHANGED:
            self.changed.add(0, 0, header.key, header.key_size, header.shard)
            if self.throttled_until == INT64_MAX:
                self.throttled_until = saturated(self.clock.now_ms(), self.throttle_ms)
        time = max(-most, min(most, time))
        bits[0] = (<uint64_t>time << KEY_TIME_BITS) | KEY_CHANGED | (bits[0] & KEY_SHOWN)
        return 0

    cdef Batch* changed_keys(self, int64_t n) except NULL nogil:
        cdef int64_t i
        cdef int64_t* slots
        cdef const RowHeader* header
        cdef char* state
        cdef Batch* out
        if n > self.key_capacity:
            slots = <int64_t*>realloc(self.key_slots, n * sizeof(int64_t))
            if slots == NULL:
                with gil:
                    raise MemoryError("no memory left for an aggregation")
            self.key_slots = slots
            self.key_capacity = n
        keys_clear(&self.wanted)
        for i in range(n):
            header = self.changed.table.header(self.changed.due[i])
            keys_push(&self.wanted, header.key + DEADLINE_BYTES, header.key_size - DEADLINE_BYTES, NULL, 0)
        self.lookup.table.lookup_batch(self.wanted.values.data, self.wanted.offsets, n, self.key_slots)
        self.reserve(n)
        out = batch_new(<int32_t>n, 0)
        column_alloc(&out.sys[SYS_SLOT], KIND_I64, n, 0)
        column_alloc(&out.sys[SYS_TIME], KIND_I64, n, 0)
        for i in range(n):
            self.changed.remove(self.changed.due[i])
            self.lookup.table.touch(self.key_slots[i])
            state = self.lookup.table.row(self.key_slots[i]) + self.row_field.offset
            (<uint64_t*>state)[0] &= ~<uint64_t>KEY_CHANGED
            self.states[i] = state
            i64(&out.sys[SYS_SLOT])[i] = self.key_slots[i]
            i64(&out.sys[SYS_TIME])[i] = max(saturated(self.passed, 1) if self.passed > INT64_MIN else INT64_MIN,
                                             (<int64_t*>state)[0] >> KEY_TIME_BITS)
        return out

    cdef int64_t show_changed(self, int64_t most) except -1 nogil:
        cdef int64_t n = self.changed.take_due(0, INT64_MAX, most)
        cdef Batch* keys
        cdef Batch* out = NULL
        if n == 0:
            return 0
        keys = self.changed_keys(n)
        try:
            self.accumulators.begin(NULL, n, 0)
            self.accumulators.run(self.states, NULL, n, EMIT)
            out = self.changed_rows(keys)
        finally:
            batch_release(keys)
        self.emit(out)
        self.end_batch()
        return n

    cdef int64_t next_wakeup(self) noexcept nogil:
        return self.throttled_until

    cdef int on_processing_time(self, int64_t now_ms) except -1 nogil:
        cdef int64_t n
        if now_ms < self.throttled_until:
            return 0
        n = self.show_changed(OUTPUT_ROWS)
        self.throttled_until = INT64_MIN if n > 0 and self.changed.first(0) < INT64_MAX else INT64_MAX
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        if watermark == INT64_MAX and self.changed.first(0) < INT64_MAX:
            self.closing = True
            return 0
        self.passed = watermark
        return KeyedOperator.on_watermark(self, watermark)

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int64_t n = self.show_changed(most)
        if n == 0:
            self.closing = False
            self.throttled_until = INT64_MAX
            self.passed = INT64_MAX
            KeyedOperator.on_watermark(self, INT64_MAX)
        return n
