"""A user's Processor on windows: the rows of each key and window, handed over when the window closes."""
cimport cython
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t
from libc.stdlib cimport free, malloc

from streamdsl._native.event_time.clock cimport Clock
from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, Batch, batch_release, batch_take, i64
from streamdsl._native.includes.clock cimport wall_ms
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.process_context cimport Context, KeyReader, new_context
from streamdsl._native.operators.row cimport row_new, timestamp_value
from streamdsl._native.operators.row_block cimport RowBlock, RowBlockField
from streamdsl._native.operators.row_results cimport RESULT_ROWS, result_kind
from streamdsl._native.operators.row_writer cimport RowWriter
from streamdsl._native.operators.user_code cimport POLICY_FAIL, UserCodeOperator
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.state.state_field cimport SWEEP_ROWS, Scope, StateField
from streamdsl._native.windows.assign cimport (
    saturating_subtract, window_end, window_is_open, window_start, windows_of,
)

import heapq

from streamdsl._native.operators.process_context import close_processor, instance_of, open_processor, overrides
from streamdsl.errors import StateError, TopologyError

cdef enum:
    FLUSH_ROWS = 4096

BIAS = 1 << 63


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


cdef bytes window_key(int64_t start, int64_t end, const char* key, int32_t size):
    # Biased and big-endian: windows close in the order of these bytes, by end, start and key.
    return (int(end) + BIAS).to_bytes(8, "big") + (int(start) + BIAS).to_bytes(8, "big") + key[:size]


@cython.final
cdef class WindowProcessOperator(UserCodeOperator):
    """`spec` is a `PhysicalProcess` with a window; `table` has no fields yet: the operator adds its own.

    The rows of open windows are kept in `table`; states that the Processor declares are behind `lookup`.
    """
    cdef KeyLookup lookup
    cdef KeyTable table
    cdef RowBlockField blocks
    cdef Context context
    cdef Scope scope
    cdef Clock clock                         # None: the system's
    cdef StateField state_field
    cdef readonly object processor
    cdef str late_tag
    cdef list heap                           # keys of open windows
    cdef int64_t next_end                    # end of the first of them, INT64_MAX = none
    cdef int64_t size_ms
    cdef int64_t every_ms
    cdef int64_t offset_ms
    cdef int64_t grace_ms
    cdef bint updates                        # emit="update": rows of a window whenever a batch has changed it
    cdef dict changed                        # windows that the batch at hand has changed, in order
    cdef int64_t passed                      # the watermark passed on
    cdef int64_t late
    cdef int64_t late_refusals
    cdef int64_t windows

    def __init__(self, spec, KeyLookup lookup not None, KeyTable table not None, Clock clock=None):
        self.prepare(spec, True)
        self.clock = clock
        self.lookup = lookup
        self.table = table
        window = spec.window
        self.size_ms, self.every_ms = window.size_ms, window.every_ms
        self.offset_ms, self.grace_ms = window.offset_ms, window.grace_ms
        self.updates = window.emit == "update"
        self.changed = {}
        self.passed = INT64_MIN
        self.heap = []
        self.next_end = INT64_MAX
        self.processor = instance_of(spec.processor)
        if not overrides(self.processor, "process_window"):
            raise TopologyError(f"{self.name}: {type(self.processor).__name__} has no process_window(key, window, rows, ctx)",
                                remedy="Define it, or process the rows without a window.")
        self.context = new_context(self, lookup, KeyReader(lookup, spec.key_schema), None)
        self.scope = self.context.scope
        open_processor(self.name, self.processor, self.context)
        declared = getattr(self.processor, "outputs", None) or {}
        others = [tag for tag, _ in spec.tags if tag not in declared and tag != "dead_letter"]
        self.late_tag = others[0] if others else ""
        table.prefix = 16                    # end and start stand in front of the user's key
        table.evictable = True
        self.blocks = RowBlockField(self.name, self.input_shape)
        table.add_field(self.blocks)
        self.state_field = self.context.state.lay_out(self.name)
        lookup.table.add_field(self.state_field)

    def set_clock(self, Clock clock):
        """Ask this clock for the wall clock's time."""
        self.clock = clock

    def restored(self):
        """Take the open windows from the table, once it has been loaded."""
        cdef int64_t slot = self.table.first_slot(0)
        cdef RowHeader* header
        self.heap = []
        while slot >= 0:
            header = self.table.header(slot)
            if header.key_size < 16:
                raise StateError(f"table {self.table.name!r} holds something that is not a window",
                                 remedy="the checkpoint is damaged: restore an older one")
            self.heap.append(header.key[:header.key_size])
            slot = self.table.first_slot(slot + 1)
        heapq.heapify(self.heap)
        self.note_next()

    def note_next(self):
        self.next_end = int.from_bytes(self.heap[0][:8], "big") - BIAS if self.heap else INT64_MAX

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
        cdef int64_t k, n, start, end, time, watermark, slot
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef bint taken
        cdef int32_t* rows = <int32_t*>malloc(batch.n * sizeof(int32_t))
        if rows == NULL:
            raise MemoryError("no memory left for a window")
        try:
            for i in range(batch.n):
                time = times[i]
                watermark = self.lookup.lateness_watermark(slots[i])
                taken = False
                n = windows_of(time, self.size_ms, self.every_ms, self.offset_ms)
                for k in range(n - 1, -1, -1):
                    start = window_start(time, self.every_ms, self.offset_ms, k)
                    end = window_end(start, self.size_ms)
                    if not window_is_open(end, self.grace_ms, watermark):
                        self.late_refusals += 1
                        continue
                    taken = True
                    slot = self.window_slot(start, end, slots[i])
                    self.table.touch(slot)
                    self.blocks.append(<RowBlock*>(self.table.row(slot) + self.blocks.offset), batch, i)
                if n > 0 and not taken:
                    rows[n_late] = i
                    n_late += 1
            self.late += n_late
            return batch_take(batch, rows, n_late) if n_late else NULL
        finally:
            free(rows)

    cdef int64_t window_slot(self, int64_t start, int64_t end, int64_t user_slot) except -1:
        cdef RowHeader* header = self.lookup.table.header(user_slot)
        cdef bytes key = window_key(start, end, header.key, header.key_size)
        cdef int64_t slot = self.table.find(key, <int32_t>len(key))
        if slot < 0:
            slot = self.table.insert(key, <int32_t>len(key), header.shard)
            heapq.heappush(self.heap, key)
            self.next_end = min(self.next_end, end)
        if self.updates:
            self.changed[key] = slot
        return slot

    cdef int emit_updates(self) except -1:
        """Call process_window for each window that the batch has changed, with all rows so far."""
        self.scope.watermark = self.lookup.watermark
        self.scope.wall = self.wall()
        self.context.active = True
        self.context.reader.slot = -1
        try:
            for key, slot in self.changed.items():
                self.call_window(key, slot)
        finally:
            self.changed.clear()
            self.context.active = False
            self.scope.unbind()
        return self.flush(NULL)

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        cdef int64_t passed = watermark
        cdef bint due = self.next_end != INT64_MAX and not window_is_open(self.next_end, self.grace_ms, watermark)
        self.scope.watermark = watermark
        self.scope.wall = self.wall()
        if due or self.state_field.any_ttl:
            with gil:
                if due:
                    self.close_windows(watermark)
                self.scope.sweep(SWEEP_ROWS)
        if due:
            UserCodeOperator.end_batch(self)
        if watermark != INT64_MAX:
            passed = saturating_subtract(watermark, self.grace_ms)
        if passed <= self.passed:
            return 0
        self.passed = passed
        return UserCodeOperator.on_watermark(self, passed)

    cdef int close_windows(self, int64_t watermark) except -1:
        """Hand over the windows that close, in order of end, start and key."""
        cdef bytes key
        cdef int64_t slot
        self.context.active = True
        self.context.reader.slot = -1
        try:
            while self.heap and not window_is_open(self.next_end, self.grace_ms, watermark):
                key = heapq.heappop(self.heap)
                self.note_next()
                slot = self.table.find(key, <int32_t>len(key))
                if slot >= 0:
                    if not self.updates:
                        self.call_window(key, slot)
                    self.windows += 1
                    self.table.remove(slot)
                if self.main.n >= FLUSH_ROWS:
                    self.flush(NULL)
        finally:
            self.context.active = False
            self.scope.unbind()
        return self.flush(NULL)

    cdef int call_window(self, bytes key, int64_t window_slot) except -1:
        cdef int64_t end = int.from_bytes(key[:8], "big") - BIAS
        cdef int64_t start = int.from_bytes(key[8:16], "big") - BIAS
        cdef bytes user_key = key[16:]
        cdef Batch* batch = self.blocks.rows(<RowBlock*>(self.table.row(window_slot) + self.blocks.offset))
        cdef int32_t i
        cdef int64_t slot
        cdef list rows
        try:
            rows = [row_new(self.input_shape, batch, i) for i in range(batch.n)]
        finally:
            batch_release(batch)
        slot = self.lookup.table.find_or_insert(user_key, <int32_t>len(user_key), self.table.header(window_slot).shard)
        self.scope.bind(slot, end - 1)
        self.context.row = -1
        self.context.time = end - 1
        if self.policy != POLICY_FAIL:
            self.marks = [(<RowWriter>writer).n for writer in self.writers.values()]
        try:
            result = self.processor.process_window(self.context.reader.key(slot), Window(start, end), list(rows), self.context)
            if result is not None:
                self.take(result, end - 1, slot)
        except Exception as error:           # whatever user code raises
            self.refuse(error, rows, start, end, slot)
        return 0

    cdef int take(self, object result, int64_t time, int64_t slot) except -1:
        if result_kind(result) != RESULT_ROWS:
            return self.main.append(result, -1, time, slot)
        for item in result:
            self.main.append(item, -1, time, slot)
        return 0

    cdef int refuse(self, object error, list rows, int64_t start, int64_t end, int64_t slot) except -1:
        """Nobody knows which row it was: with a policy all rows of the window are counted, or become dead letters."""
        if self.policy != POLICY_FAIL:
            for writer, n in zip(self.writers.values(), self.marks):
                (<RowWriter>writer).truncate(n)
        doing = f"{type(self.processor).__name__}.process_window of [{start}, {end}) with {len(rows)} rows"
        for row in rows:
            self.on_error(error, doing, row, self.context.reader.key(slot), slot, end - 1)
        return 0

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
        cdef int64_t slot
        found = {}
        for key in sorted(self.heap):
            slot = self.table.find(<bytes>key, <int32_t>len(key))
            found.setdefault(self.context.reader.key_of_bytes(key[16:]), []).append({
                "window_start": timestamp_value(int.from_bytes(key[8:16], "big") - BIAS),
                "window_end": timestamp_value(int.from_bytes(key[:8], "big") - BIAS),
                "rows": (<RowBlock*>(self.table.row(slot) + self.blocks.offset)).n,
            })
        return found

    def close(self):
        """Close the Processor; called once."""
        close_processor(self.name, self.processor)

    def metrics(self):
        figures = UserCodeOperator.metrics(self)
        figures.update({"late": self.late, "late_refusals": self.late_refusals, "windows_closed": self.windows,
                        "open_windows": self.table.total()})
        figures.update(self.context.metrics.values())
        return figures
