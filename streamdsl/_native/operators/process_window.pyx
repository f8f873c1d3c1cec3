"""A user's Processor on windows: the rows of each key and window, handed over when the window closes."""
cimport cython
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t
from libc.stdlib cimport free, malloc

from streamdsl._native.event_time.clock cimport Clock
from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, Batch, batch_release, batch_take, i64
from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.includes.clock cimport wall_ms
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.open_windows cimport OpenWindows
from streamdsl._native.operators.process_context cimport Context, KeyReader, new_context, undo_log_of
from streamdsl._native.operators.refusals cimport warn_late
from streamdsl._native.rows.row cimport row_new, timestamp_value
from streamdsl._native.rows.row_block cimport RowBlock, RowBlockField
from streamdsl._native.rows.row_results cimport RESULT_ROWS, result_kind
from streamdsl._native.rows.row_writer cimport RowWriter
from streamdsl._native.operators.user_code cimport UserCodeOperator, check_result
from streamdsl._native.state.key_list cimport KeyList, keys_clear, keys_free, keys_push
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.state.state_field cimport SWEEP_ROWS, Scope, StateField
from streamdsl._native.state.undo cimport UndoLog
from streamdsl._native.windows.assign cimport saturating_subtract, window_end, window_start, windows_of

from streamdsl._native.operators.declaration import Declaration, OwnTable
from streamdsl._native.operators.process_context import close_processor, instance_of, open_processor, overrides
from streamdsl.errors import TopologyError

cdef enum:
    FLUSH_ROWS = 4096
    HEAD = 16                # bytes in front of the user's key in that of a window: its end and its start


class Window:
    """A window, half-open: `start` and `end` in ms."""

    __slots__ = ("start", "end")

    def __init__(self, start, end):
        self.start = start
        self.end = end

    def __eq__(self, other):
        return isinstance(other, Window) and (self.start, self.end) == (other.start, other.end)

    def __hash__(self):
        return hash((self.start, self.end))

    def __repr__(self):
        return f"Window(start={self.start}, end={self.end})"


@cython.final
cdef class WindowProcessOperator(UserCodeOperator):
    """`spec` is a `PhysicalProcess` with a window.

    The rows of open windows are kept in a table of its own; states that the Processor declares are behind `lookup`.
    """
    cdef KeyLookup lookup
    cdef KeyTable table
    cdef RowBlockField blocks
    cdef Context context
    cdef Scope scope
    cdef Clock clock
    cdef StateField state_field
    cdef readonly object processor
    cdef object plan                         # the operator's part of it
    cdef str late_tag
    cdef OpenWindows open_windows
    cdef KeyList wanted                      # scratch: keys to be looked up together
    cdef bint updates                        # emit="update": rows of a window whenever a batch has changed it
    cdef dict changed                        # slots of the windows that the batch at hand has changed, in order
    cdef UndoLog undo                        # what the call at hand has written; None: a bad record ends the run
    cdef int64_t watermark
    cdef int64_t passed                      # the last watermark that was passed on
    cdef int64_t late
    cdef int64_t late_refusals
    cdef int64_t windows

    def __init__(self, spec, KeyLookup lookup not None):
        self.prepare(spec, True)
        self.plan = spec
        self.lookup = lookup
        self.updates = spec.window.emit == "update"
        self.changed = {}
        self.passed = INT64_MIN
        self.processor = instance_of(spec.processor)
        if not overrides(self.processor, "process_window"):
            raise TopologyError(f"{self.name}: {type(self.processor).__name__} has no process_window(key, window, rows, ctx)",
                                remedy="Define it, or process the rows without a window.")

    def declare(self):
        return Declaration(tables=(OwnTable("windows"),), deadlines=True)

    def open(self, context):
        spec, lookup = self.plan, self.lookup
        self.clock = context.clock
        self.table = context.tables[0]
        self.open_windows = OpenWindows(spec.window, self.table, HEAD)     # end and start stand in front of the user's key
        self.context = new_context(self, lookup, KeyReader(lookup, spec.key_schema), None)
        self.scope = self.context.scope
        open_processor(self.name, self.processor, self.context)
        declared = getattr(self.processor, "outputs", None) or {}
        others = [tag for tag, _ in spec.tags if tag not in declared and tag != "dead_letter"]
        self.late_tag = others[0] if others else ""
        self.blocks = RowBlockField(self.name, self.input_shape)
        self.table.add_field(self.blocks)
        self.state_field = self.context.state.lay_out(self.name)
        lookup.add_field(self.state_field)
        self.undo = undo_log_of(self.context)

    def __dealloc__(self):
        keys_free(&self.wanted)

    def restored(self):
        """Note the windows that stand in the table, once it has been loaded."""
        self.open_windows.rebuild()

    cdef int64_t wall(self) noexcept nogil:
        return wall_ms() if self.clock is None else self.clock.now_ms()

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef Batch* late = NULL
        with gil:
            late = self.collect_rows(batch)
            if late != NULL:
                target = self.tagged.get(self.late_tag)
                self.send(target, late)
            if self.updates:
                self.emit_updates()
        return 0

    cdef Batch* collect_rows(self, Batch* batch) except? NULL:
        """Keep each row in the windows that take it; returns the rows that none took."""
        cdef int32_t i, n_late = 0
        cdef int64_t k, n, start, time, watermark, slot
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef bint taken
        cdef OpenWindows windows = self.open_windows
        cdef int32_t* rows = <int32_t*>malloc(batch.n * sizeof(int32_t))
        if rows == NULL:
            raise MemoryError("no memory left for a window")
        try:
            windows.warm_up(self.lookup, batch)
            for i in range(batch.n):
                time = times[i]
                watermark = self.lookup.lateness_watermark(slots[i])
                taken = False
                n = windows_of(time, windows.size_ms, windows.every_ms, windows.offset_ms)
                for k in range(n - 1, -1, -1):
                    start = window_start(time, windows.every_ms, windows.offset_ms, k)
                    if not windows.is_open(start, watermark):
                        self.late_refusals += 1
                        continue
                    taken = True
                    slot = windows.slot_of(start, self.lookup.table.header(slots[i]))
                    if self.updates:
                        self.changed[slot] = None
                    self.table.touch(slot)
                    self.blocks.append(<RowBlock*>(self.table.row(slot) + self.blocks.offset), batch, i)
                if n > 0 and not taken:
                    rows[n_late] = i
                    n_late += 1
            if n_late > 0 and self.late == 0 and self.tagged.get(self.late_tag) is None:
                warn_late(self.plan, batch, rows[0], self.lookup.lateness_watermark(slots[rows[0]]))
            self.late += n_late
            return batch_take(batch, rows, n_late) if n_late else NULL
        finally:
            free(rows)

    cdef int emit_updates(self) except -1:
        """Call process_window for each window that the batch has changed, with all rows so far."""
        self.follow()
        self.scope.wall = self.wall()
        self.context.active = True
        self.context.reader.slot = -1
        try:
            for slot in self.changed:
                self.call_window(slot)
        finally:
            self.changed.clear()
            self.context.active = False
            self.scope.unbind()
        return self.flush(NULL)

    cdef void follow(self) noexcept nogil:
        self.scope.follow(self.watermark, self.lookup.shard_watermarks, self.lookup.latest_shard)

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        CHECK(not self.closing, "time stands still while windows close")
        self.watermark = watermark
        self.follow()
        if self.state_field.any_ttl:
            with gil:
                self.scope.wall = self.wall()
                self.scope.sweep(SWEEP_ROWS)
        self.closing = self.open_windows.any_due(watermark)
        return 0 if self.closing else self.pass_on()

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int64_t n = self.open_windows.take_due(self.watermark, most)
        if n == 0:
            self.closing = False
            self.pass_on()
            return 0
        with gil:
            self.close_windows(n)
        UserCodeOperator.end_batch(self)
        return n

    cdef int pass_on(self) except -1 nogil:
        cdef int64_t passed = self.watermark
        if passed != INT64_MAX:
            passed = saturating_subtract(passed, self.open_windows.grace_ms)
        if passed <= self.passed:
            return 0
        self.passed = passed
        return UserCodeOperator.on_watermark(self, passed)

    cdef int close_windows(self, int64_t n) except -1:
        """Hand over the first n of the windows that are due, and remove them."""
        cdef int64_t i, slot
        cdef RowHeader* header
        self.follow()
        self.scope.wall = self.wall()
        if not self.updates:
            keys_clear(&self.wanted)
            for i in range(n):
                header = self.table.header(self.open_windows.due[i])
                keys_push(&self.wanted, header.key + HEAD, header.key_size - HEAD, NULL, 0)
            self.lookup.table.warm_up_keys(self.wanted.values.data, self.wanted.offsets, n)
        self.context.active = True
        self.context.reader.slot = -1
        try:
            for i in range(n):
                slot = self.open_windows.due[i]
                if not self.updates:
                    self.call_window(slot)
                self.windows += 1
                self.table.remove(slot)
                if self.main.n >= FLUSH_ROWS:
                    self.flush(NULL)
        finally:
            self.context.active = False
            self.scope.unbind()
        return self.flush(NULL)

    cdef int call_window(self, int64_t window_slot) except -1:
        cdef RowHeader* header = self.table.header(window_slot)
        cdef int64_t start = self.open_windows.start_of(window_slot)
        cdef int64_t end = window_end(start, self.open_windows.size_ms)
        cdef Batch* batch = self.blocks.rows(<RowBlock*>(self.table.row(window_slot) + self.blocks.offset))
        cdef int32_t i
        cdef int64_t slot
        cdef list rows
        try:
            rows = [row_new(self.input_shape, batch, i) for i in range(batch.n)]
        finally:
            batch_release(batch)
        slot = self.lookup.table.find_or_insert(header.key + HEAD, header.key_size - HEAD, header.shard)
        self.scope.bind(slot, end - 1)
        self.context.row = -1
        self.context.time = end - 1
        if self.undo is not None:
            self.marks = [(<RowWriter>writer).n for writer in self.writers.values()]
            self.undo.begin()
        try:
            result = self.processor.process_window(self.context.reader.key(slot), Window(start, end), list(rows), self.context)
            if result is not None:
                self.take(result, end - 1, slot)
        except Exception as error:           # whatever user code raises
            self.refuse(error, rows, start, end, slot)
        return 0

    cdef int take(self, object result, int64_t time, int64_t slot) except -1:
        check_result(result)
        if result_kind(result) != RESULT_ROWS:
            return self.main.append(result, -1, time, slot)
        for item in result:
            self.main.append(item, -1, time, slot)
        return 0

    cdef int refuse(self, object error, list rows, int64_t start, int64_t end, int64_t slot) except -1:
        """Nobody knows which row it was: with a policy all rows of the window are counted, or become dead letters."""
        if self.undo is not None:
            for writer, n in zip(self.writers.values(), self.marks):
                (<RowWriter>writer).truncate(n)
            self.undo.take_back()
        doing = f"{type(self.processor).__name__}.process_window of [{start}, {end}) with {len(rows)} rows"
        for row in rows:
            self.on_error(error, doing, row, self.context.reader.key(slot), slot, end - 1)
        return 0

    def declared_states(self):
        """Return what the Processor has declared of its states, as {part: text} for the manifest."""
        return self.context.state.declared()

    def state(self):
        """Return {key: {state: value}} of all keys, expired values included; if the Processor keeps none, the open windows:
        {key: [{window_start, window_end, rows}, …]}.
        """
        cdef int64_t slot = self.lookup.table.first_slot(0)
        found = {}
        while slot >= 0:
            values = self.state_field.states_at(slot)
            if values:
                found[self.context.reader.key(slot)] = values
            slot = self.lookup.table.first_slot(slot + 1)
        return found or self.windows_by_key()

    def windows_by_key(self):
        """Return {key: [{window_start, window_end, rows}, …]} of the open windows, in order of end."""
        cdef int64_t start, slot = self.table.first_slot(0)
        cdef RowHeader* header
        found = []
        while slot >= 0:
            header = self.table.header(slot)
            found.append((header.key[:header.key_size], slot))
            slot = self.table.first_slot(slot + 1)
        by_key = {}
        for key, slot in sorted(found):
            start = self.open_windows.start_of(slot)
            by_key.setdefault(self.context.reader.key_of_bytes(key[HEAD:]), []).append({
                "window_start": timestamp_value(start),
                "window_end": timestamp_value(window_end(start, self.open_windows.size_ms)),
                "rows": (<RowBlock*>(self.table.row(slot) + self.blocks.offset)).n,
            })
        return by_key

    def close(self):
        """Close the Processor; called once."""
        close_processor(self.name, self.processor)

    def metrics(self):
        figures = UserCodeOperator.metrics(self)
        figures.update({"late": self.late, "late_refusals": self.late_refusals, "windows_closed": self.windows,
                        "open_windows": self.table.total()})
        figures.update(self.context.metrics.values())
        return figures
