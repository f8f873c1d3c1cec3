"""See window.pxd.

A window is open while the watermark is below its last moment and the grace; one rule decides both what is late and what closes.
Rows come out with the window's last moment as their time.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t
from libc.stdlib cimport calloc, free

from streamdsl._native.flow.batch cimport Column
from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.operators.keyed cimport OUTPUT_ROWS, KeyedOperator
from streamdsl._native.operators.process_context cimport KeyReader
from streamdsl._native.operators.state_view cimport StateView, new_view
from streamdsl._native.operators.window_code cimport RowsContents
from streamdsl._native.rows.row cimport timestamp_value
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, sorted_in
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.operators.window_records cimport (
    EMIT_THROTTLE, LANE_CHANGED, LANE_DROP, LANE_DUE,
)
from streamdsl._native.windows.contents cimport Shown
from streamdsl._native.windows.window_list cimport WINDOW_CHANGED, WINDOW_CLOSED, KeyWindows, WindowEntry, contents_of

from streamdsl._native.operators.declaration import Declaration, OwnTable


cdef class WindowOperator(WindowDue):
    """Windows as they go by time; for the arguments see `WindowRecords`."""

    def declare(self):
        throttled = self.emission == EMIT_THROTTLE
        return Declaration(tables=(OwnTable("windows", "lane,time,id,({key})"),), deadlines=True, wakeups=throttled)

    def connect(self, Operator target, str tag=""):
        """Send the output `tag` ("" is the main one) to `target`."""
        if tag == "" or self.code is None or tag == self.late_tag() or not isinstance(self.code, RowsContents):
            KeyedOperator.connect(self, target, tag)
        if self.code is not None and (tag == "" or (isinstance(self.code, RowsContents) and tag != self.late_tag())):
            self.code.code.connect(target, tag)

    def restored(self):
        """Note the windows that stand in the table, once it has been loaded."""
        if not PLANTED("windows-not-restored"):
            self.deadlines.rebuild()
        if self.deadlines.first(LANE_CHANGED) < INT64_MAX and not PLANTED("throttle-not-restored"):
            self.throttled_until = INT64_MIN

    def declared_states(self):
        """Return what a Processor has declared of its states, as {part: text} for the manifest."""
        return self.code.declared_states() if isinstance(self.code, RowsContents) else {}

    def close(self):
        """Close what user code has opened; called once."""
        if self.code is not None:
            self.code.close()

    # Time ----------------------------------------------------------------------------------------------------------

    cdef bint any_due(self) noexcept nogil:
        cdef int lane
        cdef int64_t limit
        for lane in range(LANE_CHANGED):
            limit = self.limit_of(lane)
            if limit > INT64_MIN and self.deadlines.first(lane) <= limit and (limit < INT64_MAX or self.deadlines.table.total() > 0):
                return True
            if limit > INT64_MIN and self.slots.lane[lane].count > 0 and self.slots.first(lane) <= limit:
                return True
        return False

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        CHECK(not self.closing, "time stands still while windows close")
        if watermark <= self.watermark:
            return 0
        self.watermark = watermark
        if self.code is not None:
            self.code.follow()
        self.closing = self.any_due()
        return 0 if self.closing and not PLANTED("time-ahead-of-windows") else self.pass_on()

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int lane
        cdef int64_t n, limit
        for lane in range(LANE_CHANGED):
            limit = self.limit_of(lane)
            if limit == INT64_MIN:
                continue
            # Rows and others are not due side by side: of what was in memory before a restore, or while memory is short, there are rows.
            if self.deadlines.first(lane) > limit or self.deadlines.count(lane) == 0:
                n = self.find_slots(lane, limit, most)
                if n > 0:
                    self.close_slots(lane, n)
                    return n
            elif self.slots.lane[lane].count > 0:
                self.slots.spill_due(lane, limit)
            n = self.deadlines.take_due(lane, limit, most)
            if n > 0:
                self.close_due(lane, n)
                return n
        n = self.deadlines.take_due(LANE_CHANGED, INT64_MAX, most) if self.watermark == INT64_MAX else 0
        if n > 0:                            # all has been shown
            for lane in range(n):
                self.deadlines.remove(self.deadlines.due[lane])
            return n
        self.closing = False
        self.pass_on()
        return 0

    cdef int pass_on(self) except -1 nogil:
        if self.code is not None:
            self.code.expire(self.watermark)
        # Windows that are still open may emit rows behind the watermark, as far back as their grace.
        cdef int64_t passing = self.watermark
        if self.watermark != INT64_MAX and self.windower.full == 0:
            passing = INT64_MIN if self.watermark < INT64_MIN + self.windower.grace_ms else self.watermark - self.windower.grace_ms
        if self.late_output is not None:
            self.late_output.on_watermark(self.watermark)
        if self.letters_output is not None:
            self.letters_output.on_watermark(self.watermark)
        if passing <= self.passed:
            return 0
        self.passed = passing
        if self.code is not None:
            return self.code.code.on_watermark(passing)
        return self.next.on_watermark(passing)

    cdef int on_idle(self, bint idle) except -1 nogil:
        if self.code is None:
            return KeyedOperator.on_idle(self, idle)
        if self.late_output is not None:
            self.late_output.on_idle(idle)
        if self.letters_output is not None:
            self.letters_output.on_idle(idle)
        return self.code.code.on_idle(idle)

    cdef int end_batch(self) except -1 nogil:
        if self.code is None:
            return KeyedOperator.end_batch(self)
        if self.late_output is not None:
            self.late_output.end_batch()
        if self.letters_output is not None:
            self.letters_output.end_batch()
        return self.code.code.end_batch()

    # The wall clock --------------------------------------------------------------------------------------------------

    cdef int64_t next_wakeup(self) noexcept nogil:
        return INT64_MIN if PLANTED("throttle-does-not-wait") and self.throttled_until < INT64_MAX else self.throttled_until

    cdef int on_processing_time(self, int64_t now_ms) except -1 nogil:
        cdef int64_t n
        if now_ms < self.throttled_until and not PLANTED("throttle-does-not-wait"):
            return 0
        n = self.deadlines.take_due(LANE_CHANGED, INT64_MAX, OUTPUT_ROWS)
        if n > 0:
            self.show_throttled(n)
        self.throttled_until = INT64_MIN if n > 0 and self.deadlines.first(LANE_CHANGED) < INT64_MAX else INT64_MAX
        return 0

    cdef int show_throttled(self, int64_t n) except -1 nogil:
        cdef int64_t i, id
        cdef WindowEntry* entry
        self.look_up_due(n)
        self.batch = NULL
        self.n_shown = 0
        self.most_shown = n
        self.contents.open(NULL, n, 0)
        for i in range(n):
            id = sorted_in(self.deadlines.table.header(self.deadlines.due[i]).key + DEADLINE_BYTES)
            entry = self.field.find(self.windows_of(self.key_slots[i]), id)
            self.deadlines.remove(self.deadlines.due[i])
            if entry != NULL and entry.flags & WINDOW_CHANGED:
                self.lookup.table.touch(self.key_slots[i])
                entry.flags &= ~<int32_t>WINDOW_CHANGED
                self.show_last(self.key_slots[i], entry)
        i = self.n_shown
        self.send_shown()
        if self.careful:
            with gil:
                self.refusals.send(self.letters_output, NULL)
        return self.end_batch() if i > 0 else 0

    # For people --------------------------------------------------------------------------------------------------------

    def state(self):
        """Return {key: [{window_start, window_end, aggregate: value, …}, …]} of the open windows, in order of start.

        Of a reduction the row so far is shown, of a Processor's windows the number of rows; of a Processor that keeps states of its
        own, {key: {state: value}} of these.
        """
        found = self.code.user_state() if isinstance(self.code, RowsContents) else {}
        return found or self.windows_by_key()

    def windows_by_key(self):
        """Return the open windows of each key."""
        cdef KeyTable table = self.lookup.table
        cdef int64_t slot = table.first_slot(0), i
        cdef KeyWindows* windows
        cdef WindowEntry* entry
        cdef list found = []
        cdef KeyReader reader = KeyReader(self.lookup, self.spec.key_schema)
        while slot >= 0:
            windows = self.windows_of(slot)
            for i in range(windows.n):
                entry = self.field.at(windows, i)
                if not entry.flags & WINDOW_CLOSED:
                    found.append((entry.start, self.windower.end_of(entry.last), slot, <size_t>contents_of(entry)))
            slot = table.first_slot(slot + 1)
        found.sort()
        states = [state for _, _, _, state in found]
        values = self.contents.values(states) if self.code is not None else self.aggregates_of(states)
        by_key = {}
        for (start, end, slot, _), value in zip(found, values, strict=True):
            bounds = {"window_start": timestamp_value(start), "window_end": timestamp_value(end)}
            by_key.setdefault(reader.key(slot), []).append({**bounds, **value})
        return by_key

    def aggregates_of(self, list states):
        """Return the aggregates of windows whose contents stand at these addresses."""
        cdef Shown shown
        cdef int64_t n = len(states)
        cdef Column* columns = <Column*>calloc(self.n_results + 1, sizeof(Column))
        cdef StateView view = new_view(self.lookup, self.spec.key_schema, [aggregate.name for aggregate in self.spec.aggregates],
                                       [aggregate.output_type for aggregate in self.spec.aggregates])
        if columns == NULL:
            raise MemoryError("no memory left to look into windows")
        if not n:
            free(columns)
            return []
        try:
            self.contents.open(NULL, n, 0)
            for state in states:
                self.contents.show(<char*><size_t>state, &shown)
            self.contents.finish(columns)
            return view.rows_of(columns, n)
        finally:
            free(columns)

    def open_windows(self):
        """Return their number, hot and cold ones."""
        cdef int64_t n = self.deadlines.count(LANE_DUE) + self.slots.lane[<int>LANE_DUE].count - self.slots.lane[<int>LANE_DUE].given_up
        return n if self.windower.kept_ms > 0 else n + self.deadlines.count(LANE_DROP) + self.slots.lane[<int>LANE_DROP].count

    def metrics(self):
        figures = {**KeyedOperator.metrics(self), "late": self.late, "late_refusals": self.late_refusals,
                   "open_windows": self.open_windows()}
        if self.code is not None:
            figures.update({**self.code.code.metrics(), **figures} if not isinstance(self.code, RowsContents) else self.code.code.metrics())
            figures["windows_closed"] = self.closed
            if isinstance(self.code, RowsContents):
                figures.update(self.code.metrics())
        return figures
