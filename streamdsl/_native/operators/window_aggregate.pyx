"""See window_aggregate.pxd.

A window is open while the watermark is below its last moment and the grace; one rule decides both what is late and
what closes. Rows come out with the window's last moment as their time.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free, realloc

from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport (
    KIND_I64, SYS_ORDINAL, SYS_SLOT, SYS_TIME, Column, batch_new, batch_release, batch_slice, column_alloc,
    column_take, i64,
)
from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.aggregates.accumulators cimport ADD, ADD_THEN_EMIT, EMIT, make_set
from streamdsl._native.operators.base cimport blame
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.keyed cimport OUTPUT_ROWS, KeyedOperator
from streamdsl._native.operators.refusals cimport reason_of_raised
from streamdsl._native.operators.state_view cimport StateView, new_view
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.key_list cimport keys_clear, keys_free, keys_push
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.windows.assign cimport saturating_subtract, window_end, window_is_open, window_start, windows_of

import pyarrow as pa

from streamdsl._native.operators.declaration import Declaration, OwnTable
from streamdsl.errors import InternalError


ctypedef int (*EmitWindow)(WindowAggregateOperator operator, int64_t i) noexcept nogil


cdef int emitted(WindowAggregateOperator operator, int64_t i) except -1 nogil:
    return operator.accumulators.run_those(True, operator.states + i, NULL, 1, EMIT)


cdef class WindowAggregateOperator(KeyedOperator):
    """Key columns, window_start, window_end, the aggregates; one row when the window closes, or one a record.

    Parameters
    ----------
    spec : PhysicalWindowAggregate
    lookup : KeyLookup
    arguments : Program or None
        Computes the columns that the aggregates read.
    """

    def __init__(self, spec, KeyLookup lookup not None, Program arguments):
        KeyedOperator.__init__(self, spec, lookup, arguments)
        if any(aggregate.kind == "lag" for aggregate in spec.aggregates):
            raise InternalError(f"{spec.name}: lag() has no meaning in a window")
        self.updates = spec.window.emit == "update"
        self.watermark = INT64_MIN
        self.passed = INT64_MIN
        self.n_keys = lookup.decoder.n_components

    def declare(self):
        return Declaration(tables=(OwnTable("windows"),), deadlines=True)

    def open(self, context):
        cdef KeyTable table = context.tables[0]
        self.windows = OpenWindows(self.spec.window, table, 8)
        self.accumulators = make_set(self.name, self.spec.aggregates, table.arena, 0)
        self.row_field = AggregateField(self.name, self.accumulators, None, 0)
        table.add_field(self.row_field)
        self.careful = self.refusals is not None and self.accumulators.refuses

    def __dealloc__(self):
        free(self.starts)
        free(self.opened)
        free(self.late_rows)
        keys_free(&self.wanted)

    def restored(self):
        """Note the windows that stand in the table, once it has been loaded."""
        if not PLANTED("windows-not-restored"):
            self.windows.rebuild()

    cdef int attempt(self, Batch* batch) except -1 nogil:
        # Without a policy, records that come too late for every window are not looked at if there are no others.
        return 0 if self.refusals is None else self.evaluate(batch)

    cdef bint spares(self, Batch* batch, int32_t row) noexcept nogil:
        return not self.any_open(i64(&batch.sys[SYS_SLOT])[row], i64(&batch.sys[SYS_TIME])[row])

    cdef int finish_spared(self, Batch* batch) except -1 nogil:
        self.assign(batch)
        return self.emit_late(batch, self.late_rows, self.n_late)

    cdef bint any_open(self, int64_t slot, int64_t time) noexcept nogil:
        cdef int64_t watermark = self.lookup.lateness_watermark(slot)
        cdef int64_t k, start, n = windows_of(time, self.windows.size_ms, self.windows.every_ms, self.windows.offset_ms)
        for k in range(n):
            start = window_start(time, self.windows.every_ms, self.windows.offset_ms, k)
            if window_is_open(window_end(start, self.windows.size_ms), self.windows.grace_ms, watermark):
                return True
        return n == 0

    cdef int finish(self, Batch* batch) except -1 nogil:
        cdef Batch* out
        cdef Batch* part
        cdef int32_t at = 0
        if self.careful:
            self.assign_carefully(batch)
            with gil:
                self.refusals.send(self.letters_output, batch)
        else:
            self.assign(batch)
        if self.n_late > 0:
            self.emit_late(batch, self.late_rows, self.n_late)
        if self.n_pairs == 0:
            self.release_columns()
            return 0
        if not self.updates:
            return self.accumulate(batch)
        out = self.updated_rows(batch)
        if out.n <= OUTPUT_ROWS:
            return self.emit(out)
        try:
            while at < out.n:
                part = batch_slice(out, at, min(OUTPUT_ROWS, out.n - at))
                at += part.n
                self.emit(part)
        finally:
            batch_release(out)
        return 0

    cdef int assign(self, Batch* batch) except -1 nogil:
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int32_t row
        self.prepare(batch)
        for row in range(batch.n):
            self.assign_row(row, slots[row], times[row])
        return 0

    cdef int assign_carefully(self, Batch* batch) except -1 nogil:
        cdef int32_t row
        self.prepare(batch)
        self.accumulators.begin(self.columns, self.most_pairs(batch) if self.updates else 0, self.lookup.arrive(batch.n))
        for row in range(batch.n):
            self.first_pair = self.n_pairs
            self.take_row(batch, row, 0)
        return 0

    cdef int64_t most_pairs(self, Batch* batch) noexcept nogil:
        cdef int64_t n = 0
        cdef int32_t row
        for row in range(batch.n):
            n += windows_of(i64(&batch.sys[SYS_TIME])[row], self.windows.size_ms, self.windows.every_ms, self.windows.offset_ms)
        return n

    cdef int try_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        """Take the record into all its windows; on a failure they are as they were, and those that it has opened are gone."""
        cdef int64_t i, n_saved = 0, refusals = self.late_refusals, size = self.accumulators.saved_size
        cdef bint done = False
        cdef char* saved
        self.assign_row(row, i64(&batch.sys[SYS_SLOT])[row], i64(&batch.sys[SYS_TIME])[row])
        saved = self.room((self.n_pairs - self.first_pair) * size)
        try:
            for i in range(self.first_pair, self.n_pairs):
                self.accumulators.save(self.states[i], saved + n_saved * size)
                n_saved += 1
                self.accumulators.run_those(True, self.states + i, self.rows + i, 1, ADD_THEN_EMIT if self.updates else ADD)
            done = True
        finally:
            if not done:
                self.late_refusals = refusals
            for i in range(n_saved):
                if not done:
                    self.accumulators.restore(self.states[self.first_pair + i], saved + i * size)
                self.accumulators.forget(saved + i * size)
        return 0

    cdef int undo_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        cdef int64_t i
        for i in range(self.first_pair, self.n_pairs):
            if self.opened[i] >= 0:
                self.windows.table.remove(self.opened[i])
        self.n_pairs = self.first_pair
        self.accumulators.truncate(self.n_pairs)
        return 0

    cdef int prepare(self, Batch* batch) except -1 nogil:
        cdef int32_t* late_rows
        self.n_pairs = 0
        self.n_late = 0
        self.windows.warm_up(self.lookup, batch)
        if self.late_capacity < batch.n:
            late_rows = <int32_t*>realloc(self.late_rows, batch.n * sizeof(int32_t))
            if late_rows == NULL:
                with gil:
                    raise MemoryError("no memory left for late rows")
            self.late_rows = late_rows
            self.late_capacity = batch.n
        return 0

    cdef int assign_row(self, int32_t row, int64_t slot, int64_t time) except -1 nogil:
        cdef int64_t watermark = self.lookup.lateness_watermark(slot)
        cdef int64_t n = windows_of(time, self.windows.size_ms, self.windows.every_ms, self.windows.offset_ms)
        cdef int64_t k, start, window_slot, taken = 0, opened
        if self.n_pairs + n > self.starts_capacity:
            self.reserve_pairs(self.n_pairs + n)
        for k in range(n - 1, -1, -1):
            start = window_start(time, self.windows.every_ms, self.windows.offset_ms, k)
            if not window_is_open(window_end(start, self.windows.size_ms), self.windows.grace_ms, watermark):
                self.late_refusals += 1
                continue
            opened = self.windows.opened
            window_slot = self.windows.slot_of(start, self.lookup.table.header(slot))
            self.opened[self.n_pairs] = window_slot if self.windows.opened > opened else -1
            self.windows.table.touch(window_slot)
            self.starts[self.n_pairs] = start
            self.rows[self.n_pairs] = row
            self.states[self.n_pairs] = self.windows.table.row(window_slot) + self.row_field.offset
            self.n_pairs += 1
            taken += 1
        if taken == 0 and n > 0:
            self.late_rows[self.n_late] = row
            self.n_late += 1
        return 0

    cdef int reserve_pairs(self, int64_t n) except -1 nogil:
        cdef int64_t* starts
        cdef int64_t* opened
        cdef int64_t capacity = max(n, 2 * self.starts_capacity)
        if n <= self.starts_capacity:
            return 0
        self.reserve(capacity)
        starts = <int64_t*>realloc(self.starts, capacity * sizeof(int64_t))
        if starts != NULL:
            self.starts = starts
        opened = <int64_t*>realloc(self.opened, capacity * sizeof(int64_t))
        if opened != NULL:
            self.opened = opened
        if starts == NULL or opened == NULL:
            with gil:
                raise MemoryError("no memory left for windows")
        self.starts_capacity = capacity
        return 0

    cdef int accumulate(self, Batch* batch) except -1 nogil:
        cdef bint done = False
        try:
            if self.careful:
                self.accumulators.run_those(False, self.states, self.rows, self.n_pairs, ADD_THEN_EMIT if self.updates else ADD)
            else:
                if self.refusals is None:
                    self.evaluate(batch)
                self.accumulators.begin(self.columns, self.n_pairs if self.updates else 0, self.lookup.arrive(batch.n))
                self.accumulators.run(self.states, self.rows, self.n_pairs, ADD_THEN_EMIT if self.updates else ADD)
            done = True
        finally:
            self.release_columns()
            if not done:
                blame(self, batch, -1)
        return 0

    cdef Batch* updated_rows(self, Batch* batch) except NULL nogil:
        cdef int sys
        cdef bint done = False
        cdef Batch* out = batch_new(<int32_t>self.n_pairs, self.n_keys + 2 + self.accumulators.count)
        try:
            out.read_ns = batch.read_ns
            self.accumulate(batch)
            for sys in range(SYS_ORDINAL, SYS_SLOT + 1):
                column_take(&out.sys[sys], &batch.sys[sys], self.rows, self.n_pairs)
            self.fill_bounds(out)
            self.lookup.decoder.decode(self.lookup.table, i64(&out.sys[SYS_SLOT]), out.n, out.columns)
            self.accumulators.finish(out.columns + self.n_keys + 2)
            done = True
        finally:
            if not done:
                batch_release(out)
        return out

    cdef int32_t emit_carefully(self, const int64_t* slots, int32_t n) except -1 nogil:
        cdef int32_t i, kept = 0
        self.reserve_pairs(n)
        self.accumulators.begin(NULL, n, 0)
        for i in range(n):
            self.states[i] = self.windows.table.row(slots[i]) + self.row_field.offset
            if (<EmitWindow>emitted)(self, i) >= 0:
                self.rows[kept] = i
                kept += 1
                continue
            self.accumulators.truncate(kept)
            with gil:
                self.refuse_window(slots[i])
        return kept

    cdef int refuse_window(self, int64_t slot) except -1:
        cdef str reason = reason_of_raised()             # first of all: it is set
        cdef RowHeader* header = self.windows.table.header(slot)
        cdef int64_t start = self.windows.start_of(slot)
        cdef int64_t end = window_end(start, self.windows.size_ms)
        key = self.lookup.decoder.key_of(header.key[8:header.key_size])
        slot = self.lookup.table.find_or_insert(header.key + 8, header.key_size - 8, header.shard)
        return self.refusals.take(f"{reason}, in the window [{start}, {end})", None, key, slot, end - 1)

    cdef Batch* closed_rows(self, const int64_t* slots, int32_t n) except NULL nogil:
        cdef int32_t i
        cdef int64_t slot
        cdef RowHeader* header
        cdef int64_t* key_slots
        cdef bint done = False
        cdef Batch* out
        if self.careful:
            n = self.emit_carefully(slots, n)
        out = batch_new(n, self.n_keys + 2 + self.accumulators.count)
        try:
            self.reserve_pairs(n)
            column_alloc(&out.sys[SYS_SLOT], KIND_I64, n, 0)
            key_slots = i64(&out.sys[SYS_SLOT])
            keys_clear(&self.wanted)
            for i in range(n):
                slot = slots[self.rows[i]] if self.careful else slots[i]
                header = self.windows.table.header(slot)
                keys_push(&self.wanted, header.key + 8, header.key_size - 8, NULL, 0)
                self.starts[i] = self.windows.start_of(slot)
                self.states[i] = self.windows.table.row(slot) + self.row_field.offset
            self.lookup.table.lookup_batch(self.wanted.values.data, self.wanted.offsets, n, key_slots)
            self.fill_bounds(out)
            self.lookup.decoder.decode(self.lookup.table, key_slots, n, out.columns)
            if self.careful:
                self.accumulators.run_those(False, self.states, NULL, n, EMIT)
            else:
                self.accumulators.begin(NULL, n, 0)
                self.accumulators.run(self.states, NULL, n, EMIT)
            self.accumulators.finish(out.columns + self.n_keys + 2)
            done = True
        finally:
            if not done:
                batch_release(out)
        return out

    cdef int fill_bounds(self, Batch* out) except -1 nogil:
        cdef int32_t i
        column_alloc(&out.columns[self.n_keys], KIND_I64, out.n, 0)
        column_alloc(&out.columns[self.n_keys + 1], KIND_I64, out.n, 0)
        column_alloc(&out.sys[SYS_TIME], KIND_I64, out.n, 0)
        for i in range(out.n):
            i64(&out.columns[self.n_keys])[i] = self.starts[i]
            i64(&out.columns[self.n_keys + 1])[i] = window_end(self.starts[i], self.windows.size_ms)
            i64(&out.sys[SYS_TIME])[i] = window_end(self.starts[i], self.windows.size_ms) - 1
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        CHECK(not self.closing, "time stands still while windows close")
        if watermark <= self.watermark:
            return 0
        self.watermark = watermark
        self.closing = self.windows.any_due(watermark)
        return 0 if self.closing and not PLANTED("time-ahead-of-windows") else self.pass_on()

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int64_t i, n = self.windows.take_due(self.watermark, most)
        cdef Batch* out
        if n == 0:
            self.closing = False
            self.pass_on()
            return 0
        out = NULL if self.updates else self.closed_rows(self.windows.due, <int32_t>n)
        for i in range(n):
            self.windows.table.remove(self.windows.due[i])
        if out != NULL:
            self.emit(out)
            if self.careful:
                with gil:
                    self.refusals.send(self.letters_output, NULL)
            self.end_batch()
        return n

    cdef int pass_on(self) except -1 nogil:
        # Windows that are still open may emit rows behind the watermark, as far back as their grace.
        cdef int64_t passing = self.watermark
        if self.watermark != INT64_MAX and self.windows.grace_ms > 0:
            passing = saturating_subtract(self.watermark, self.windows.grace_ms)
        if self.late_output is not None:
            self.late_output.on_watermark(self.watermark)
        if self.letters_output is not None:
            self.letters_output.on_watermark(self.watermark)
        if passing > self.passed:
            self.passed = passing
            return self.next.on_watermark(passing)
        return 0

    def state(self):
        """Return {key: [{window_start, window_end, aggregate: value, …}, …]} of the open windows, in order of start."""
        cdef KeyTable table = self.windows.table
        cdef int width = 2 + self.accumulators.count
        cdef int64_t slot = table.first_slot(0), i
        cdef RowHeader* header
        cdef Column* columns
        cdef list slots, found = []
        cdef StateView view = new_view(
            self.lookup, self.spec.key_schema, ["window_start", "window_end", *[one.column for one in self.accumulators.accumulators]],
            [pa.timestamp("ms", tz="UTC")] * 2 + [aggregate.output_type for aggregate in self.spec.aggregates])
        while slot >= 0:
            found.append((self.windows.start_of(slot), slot))
            slot = table.first_slot(slot + 1)
        found.sort()
        slots = [slot for _, slot in found]
        self.reserve_pairs(len(slots))
        columns = <Column*>calloc(width, sizeof(Column))
        if columns == NULL:
            raise MemoryError("no memory left to look into windows")
        try:
            column_alloc(&columns[0], KIND_I64, len(slots), 0)
            column_alloc(&columns[1], KIND_I64, len(slots), 0)
            for i in range(len(slots)):
                slot = slots[i]
                i64(&columns[0])[i] = self.windows.start_of(slot)
                i64(&columns[1])[i] = window_end(self.windows.start_of(slot), self.windows.size_ms)
                self.states[i] = table.row(slot) + self.row_field.offset
            self.accumulators.begin(NULL, len(slots), 0)
            self.accumulators.run(self.states, NULL, len(slots), EMIT)
            self.accumulators.finish(columns + 2)
            rows = view.rows_of(columns, len(slots))
        finally:
            free(columns)
        by_key = {}
        for slot, row in zip(slots, rows, strict=True):
            header = table.header(slot)
            by_key.setdefault(view.reader.key_of_bytes(header.key[8:header.key_size]), []).append(row)
        return by_key

    def metrics(self):
        return {**KeyedOperator.metrics(self), "late": self.late, "late_refusals": self.late_refusals,
                "open_windows": self.windows.table.total()}
