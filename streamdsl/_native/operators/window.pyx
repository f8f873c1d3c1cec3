"""See window.pxd.

A window is open while the watermark is below its last moment and the grace; one rule decides both what is late and what closes.
Rows come out with the window's last moment as their time.

A window that grows is not filed anew in the index each time: its row there names a moment that is not behind its end. When that
comes, the window is filed under the end that it has by then. A row of the index whose window is gone, or is filed elsewhere, is
dropped when it is due.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from streamdsl._native.flow.batch cimport Column
from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.operators.keyed cimport OUTPUT_ROWS, KeyedOperator
from streamdsl._native.operators.process_context cimport KeyReader
from streamdsl._native.operators.refusals cimport reason_of_raised
from streamdsl._native.operators.state_view cimport StateView, new_view
from streamdsl._native.operators.window_code cimport RowsContents
from streamdsl._native.rows.row cimport timestamp_value
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, deadline_in, sorted_in
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.key_list cimport keys_clear, keys_push
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.operators.window_records cimport (
    EMIT_CLOSE, EMIT_ON_TIME, EMIT_THROTTLE, LANE_CHANGED, LANE_DROP, LANE_DUE,
)
from streamdsl._native.operators.window_rows cimport DueWindow
from streamdsl._native.windows.contents cimport Shown
from streamdsl._native.state.row_table cimport ROW_LIVE, RowHeader
from streamdsl._native.windows.window_list cimport WINDOW_CHANGED, WINDOW_CLOSED, WINDOW_DROPS, WINDOW_ON_TIME, contents_of
from streamdsl._native.windows.windower cimport saturated

from streamdsl._native.operators.declaration import Declaration, OwnTable

cdef enum:
    AHEAD = 8
    HEAD_BYTES = 17            # of the key of a row of the index, in front of the user's: lane, time, id

ctypedef int (*ShowLast)(WindowOperator operator, int64_t slot, WindowEntry* entry) noexcept nogil


cdef int shown_last(WindowOperator operator, int64_t slot, WindowEntry* entry) except -1 nogil:
    return operator.show_change(slot, entry, -1)


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for windows")


cdef class WindowOperator(WindowRecords):
    """Windows as they go by time; for the arguments see `WindowRecords`."""

    def __dealloc__(self):
        free(self.due)
        free(self.key_slots)

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

    cdef int64_t limit_of(self, int lane) noexcept nogil:
        """Rows of the index up to this moment are due; INT64_MIN: none."""
        cdef int64_t behind = self.windower.grace_ms
        if self.watermark == INT64_MAX:
            return INT64_MAX
        if self.windower.full > 0:
            return INT64_MIN                 # time has no part in it, but for its end
        if lane == LANE_DROP:
            behind = saturated(behind, self.windower.kept_ms)
        elif self.emission == EMIT_ON_TIME or PLANTED("grace-forgotten-at-close"):
            behind = 0
        return INT64_MIN if self.watermark < INT64_MIN + behind else self.watermark - behind

    cdef bint any_due(self) noexcept nogil:
        cdef int lane
        cdef int64_t limit
        for lane in range(LANE_CHANGED):
            limit = self.limit_of(lane)
            if limit > INT64_MIN and self.deadlines.first(lane) <= limit and (limit < INT64_MAX or self.deadlines.table.total() > 0):
                return True
        return False

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        CHECK(not self.closing, "time stands still while windows close")
        if watermark <= self.watermark:
            return 0
        self.watermark = watermark
        if self.code is not None:
            self.code.follow()
            self.code.sweep()
        self.closing = self.any_due()
        return 0 if self.closing and not PLANTED("time-ahead-of-windows") else self.pass_on()

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int lane
        cdef int64_t n, limit
        for lane in range(LANE_CHANGED):
            limit = self.limit_of(lane)
            n = self.deadlines.take_due(lane, limit, most) if limit > INT64_MIN else 0
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

    cdef int reserve_due(self, int64_t n) except -1 nogil:
        cdef DueWindow* due
        cdef int64_t* key_slots
        if n <= self.due_capacity:
            return 0
        due = <DueWindow*>realloc(self.due, n * sizeof(DueWindow))
        if due != NULL:
            self.due = due
        key_slots = <int64_t*>realloc(self.key_slots, n * sizeof(int64_t))
        if key_slots != NULL:
            self.key_slots = key_slots
        if due == NULL or key_slots == NULL:
            no_memory()
        self.due_capacity = n
        return 0

    cdef int look_up_due(self, int64_t n) except -1 nogil:
        cdef int64_t i
        cdef const RowHeader* header
        self.reserve_due(n)
        keys_clear(&self.wanted)
        for i in range(n):
            header = self.deadlines.table.header(self.deadlines.due[i])
            keys_push(&self.wanted, header.key + HEAD_BYTES, header.key_size - HEAD_BYTES, NULL, 0)
        return self.lookup.table.lookup_batch(self.wanted.values.data, self.wanted.offsets, n, self.key_slots)

    cdef int find_due(self, int lane, int64_t n) except -1 nogil:
        """Fill `due`: what is to be done for each row of the index that is due. Windows that end later are filed there."""
        cdef int64_t i, time, row, later = -1
        cdef const RowHeader* header
        cdef WindowEntry* entry
        self.look_up_due(n)
        for i in range(n):
            row = self.deadlines.due[i]
            header = self.deadlines.table.header(row)
            time = deadline_in(header.key)
            self.due[i].slot = self.key_slots[i]
            self.due[i].id = sorted_in(header.key + DEADLINE_BYTES)
            self.due[i].row = -1
            entry = self.field.find(self.windows_of(self.key_slots[i]), self.due[i].id)
            if entry == NULL or entry.filed != time or (entry.flags & WINDOW_DROPS != 0) != (lane == LANE_DROP):
                self.deadlines.remove(row)
            elif entry.last > time:
                self.lookup.table.touch(self.key_slots[i])
                self.deadlines.remove(row)
                row = self.file(self.key_slots[i], entry, lane)
                if later < 0 or self.deadlines.order(row, later) < 0:
                    later = row
            else:
                self.due[i].row = row
        return self.put_behind(n, later)

    cdef int put_behind(self, int64_t n, int64_t later) except -1 nogil:
        """Let the due rows that come behind the row `later` of the index wait for it; -1: there is none."""
        cdef int64_t i
        if later >= 0:
            for i in range(n):
                if self.due[i].row >= 0 and self.deadlines.order(self.due[i].row, later) > 0:
                    self.deadlines.put_back(self.due[i].row)
                    self.due[i].row = -1
        return 0

    cdef int close_due(self, int lane, int64_t n) except -1 nogil:
        cdef int64_t i
        cdef KeyWindows* windows
        self.n_filed = 0
        self.find_due(lane, n)
        self.batch = NULL
        self.n_shown = 0
        self.most_shown = max(n, <int64_t>1)
        self.contents.open(NULL, self.most_shown, 0)
        for i in range(n):
            if i + AHEAD < n:
                self.fetch_due(i + AHEAD)
            if self.due[i].row < 0:
                continue
            self.deadlines.remove(self.due[i].row)
            windows = self.windows_of(self.due[i].slot)
            self.lookup.table.touch(self.due[i].slot)
            self.act(lane, self.due[i].slot, windows, self.field.place_of(windows, self.due[i].id))
        i = self.n_shown
        self.send_shown()
        self.forget_keys(n)
        if self.careful:
            with gil:
                self.refusals.send(self.letters_output, NULL)
        return self.end_batch() if i > 0 else 0

    cdef void fetch_due(self, int64_t i) noexcept nogil:
        """Have in the cache what closing the window touches, while those in front of it are closed."""
        cdef KeyWindows* windows = self.windows_of(self.due[i].slot)
        cdef uint64_t at
        if self.due[i].row >= 0:
            at = <uint32_t>self.deadlines.table.header(self.due[i].row).hash
            prefetch(&self.deadlines.table.index.entries[at & self.deadlines.table.index.mask])
        if windows.block != NULL:
            prefetch(self.field.at(windows, 0))
            prefetch(self.field.at(windows, windows.n - 1))

    cdef int forget_keys(self, int64_t n) except -1 nogil:
        """Remove the rows of keys of which nothing is left: keys that never come again must not stay."""
        cdef int64_t i, slot
        for i in range(n):
            slot = self.key_slots[i]
            if (self.lookup.table.header(slot).flags & ROW_LIVE and self.windows_of(slot).n == 0
                    and not PLANTED("closed-key-kept") and self.lookup.table.empty(slot)):
                self.lookup.table.remove(slot)
        return 0

    cdef int act(self, int lane, int64_t slot, KeyWindows* windows, int64_t i) except -1 nogil:
        """The moment of a window has come."""
        cdef WindowEntry* entry = self.field.at(windows, i)
        cdef bint is_open = self.watermark < INT64_MAX and self.windower.is_open(entry.last, self.watermark)
        if lane == LANE_DROP:
            return self.close_window(windows, i)
        if (self.emission == EMIT_CLOSE or (self.emission == EMIT_ON_TIME and not entry.flags & WINDOW_ON_TIME)
                or (self.emission == EMIT_THROTTLE and entry.flags & WINDOW_CHANGED and not PLANTED("throttle-last-row-lost"))):
            self.show_last(slot, entry)
            entry.flags |= WINDOW_ON_TIME
        if PLANTED("window-closed-in-its-grace"):
            is_open = False
        if is_open or (self.windower.kept_ms > 0 and self.watermark < INT64_MAX):
            if not is_open:
                entry.flags |= WINDOW_CLOSED
            self.file(slot, entry, LANE_DROP)
            return 0
        return self.close_window(windows, i)

    cdef int show_last(self, int64_t slot, WindowEntry* entry) except -1 nogil:
        if not self.careful:
            return self.show_change(slot, entry, -1)
        if (<ShowLast>shown_last)(self, slot, entry) >= 0:
            return 0
        with gil:
            self.refuse_window(slot, entry)
        return self.contents.take_back(self.n_shown)

    cdef int refuse_window(self, int64_t slot, WindowEntry* entry) except -1:
        cdef str reason = reason_of_raised()             # first of all: it is set
        cdef const RowHeader* header = self.lookup.table.header(slot)
        key = self.lookup.decoder.key_of(header.key[:header.key_size])
        bounds = f"[{entry.start}, {self.windower.end_of(entry.last)})"
        return self.refusals.take(f"{reason}, in the window {bounds}", None, key, slot, entry.last)

    cdef int pass_on(self) except -1 nogil:
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
        waiting = self.deadlines.count(LANE_DROP) if self.windower.kept_ms == 0 else 0
        return self.deadlines.count(LANE_DUE) + waiting

    def metrics(self):
        figures = {**KeyedOperator.metrics(self), "late": self.late, "late_refusals": self.late_refusals,
                   "open_windows": self.open_windows()}
        if self.code is not None:
            figures.update({**self.code.code.metrics(), **figures} if not isinstance(self.code, RowsContents) else self.code.code.metrics())
            figures["windows_closed"] = self.closed
            if isinstance(self.code, RowsContents):
                figures.update(self.code.metrics())
        return figures
