"""See window_records.pxd."""
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, i64
from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.operators.base cimport blame
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.keyed cimport OUTPUT_ROWS, KeyedOperator
from streamdsl._native.operators.window_code cimport OneRowContents, RowsContents
from streamdsl._native.operators.window_rows cimport WindowRows
from streamdsl._native.rows.row cimport row_new
from streamdsl._native.state.deadline_heap cimport SlotDeadline
from streamdsl._native.state.deadline_key cimport put_sorted
from streamdsl._native.state.key_list cimport keys_free
from streamdsl._native.state.slot_deadlines cimport DeadlineOwner
from streamdsl._native.state.write_stream cimport bytes_free, bytes_init
from streamdsl._native.windows.accumulated cimport AccumulatedContents
from streamdsl._native.windows.contents cimport CHANGE_WITHDRAW
from streamdsl._native.windows.window_list cimport (
    WINDOW_AT_RECORD, WINDOW_CHANGED, WINDOW_CLOSED, WINDOW_DROPS, WINDOW_ON_TIME, WINDOW_SHOWN, WindowField, contents_of,
)
from streamdsl._native.windows.windower cimport new_windower, saturated

from streamdsl._native.operators.refusals import DEAD_LETTER
from streamdsl.errors import InternalError, RecordError

cdef enum:
    ID_BYTES = 8               # in the key of a row of the index, behind the deadline
    FEWEST_SHOWN = 64
    FAR = 0x3FFFFFFFFFFFFFFF   # ms from the epoch: the bounds of windows that are nearer are times
    AHEAD = 12                 # records whose keys' rows are fetched before they are taken

EMISSIONS = {"close": EMIT_CLOSE, "update": EMIT_UPDATE, "on_time": EMIT_ON_TIME, "throttle": EMIT_THROTTLE}

cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for windows")


cdef class StandingWindows(DeadlineOwner):
    """The windows that have deadlines."""
    cdef WindowRecords operator

    def __init__(self, WindowRecords operator not None):
        self.operator = operator

    cdef bint stands(self, int lane, const SlotDeadline* item) noexcept nogil:
        cdef WindowEntry* entry = self.operator.field.find(self.operator.windows_of(item.slot), item.id)
        return entry != NULL and entry.filed == item.time


cdef class WindowRecords(WindowRows):
    """Base of `WindowOperator`: key columns, window_start, window_end, what is in the window.

    Where windows merge and are shown early, the change is the last column.

    Parameters
    ----------
    spec : PhysicalWindowAggregate, PhysicalReduce or PhysicalProcess with a window
    lookup : KeyLookup
    arguments : Program, optional
        Computes the columns that aggregates read.
    """

    def __init__(self, spec, KeyLookup lookup not None, Program arguments=None):
        KeyedOperator.__init__(self, spec, lookup, arguments)
        window = spec.window
        self.windower = new_windower(window)
        self.emission = EMISSIONS[window.emit]
        self.throttle_ms = window.throttle_ms
        self.throttled_until = INT64_MAX
        self.changes = window.kind == "session" and window.emit != "close"
        self.watermark = self.passed = INT64_MIN
        self.n_keys = lookup.decoder.n_components
        bytes_init(&self.before, 0)
        if any(aggregate.kind == "lag" for aggregate in getattr(spec, "aggregates", ())):
            raise InternalError(f"{spec.name}: lag() has no meaning in a window")
        if hasattr(spec, "processor") or hasattr(spec, "function"):
            self.code = (RowsContents if hasattr(spec, "processor") else OneRowContents)(spec, lookup, self.late_tag())
            self.contents = self.code

    def open(self, context):
        name, spec = self.name, self.spec
        self.clock = context.clock
        if self.code is None:
            self.contents = self.contents_made()
            self.n_results = len(spec.aggregates)
        else:
            self.code.open_code(context)
        if isinstance(self.code, RowsContents):
            self.lookup.add_field(self.code.state_of_user())
            name = f"{name}/windows"
        self.careful = self.refusals is not None and self.contents.refuses
        self.by_row = (
            self.careful or not self.contents.bulk or self.windower.kept_ms > 0
            or self.emission in (EMIT_UPDATE, EMIT_ON_TIME) or (self.emission == EMIT_THROTTLE and self.windower.merges))
        self.straight = (
            spec.window.kind in ("tumbling", "hopping") and self.windower.inside > 0 and self.emission == EMIT_CLOSE and not self.by_row)
        self.field = self.field_made(name)
        self.lookup.add_field(self.field)
        self.deadlines = Deadlines(context.tables[0], LANES, ID_BYTES, "windows")
        # Where a record may be taken back, what it has filed is looked for again.
        self.slots = SlotDeadlines(self.deadlines, self.lookup.table, not self.careful)
        if self.windower.full > 0:
            self.slots.owner = StandingWindows(self)

    def contents_made(self):
        """Return what is in a window of aggregates."""
        return AccumulatedContents(self.name, self.spec.aggregates, self.lookup.table.arena)

    def field_made(self, str name):
        """Return the field of the rows that holds the windows."""
        return WindowField(name, self.contents, self.windower.inside, self.windower.full > 0)

    def late_tag(self):
        """Return the tag of late records: beside the outputs that a Processor declares there is only one."""
        declared = getattr(getattr(self.spec, "processor", None), "outputs", None) or {}
        others = [tag for tag, _ in self.spec.tags if tag not in declared and tag != DEAD_LETTER]
        return others[0] if others else ""

    def __dealloc__(self):
        free(self.late_rows)
        free(self.tail)
        free(self.filed)
        keys_free(&self.wanted)
        bytes_free(&self.before)

    # A batch -----------------------------------------------------------------------------------------------------

    cdef int attempt(self, Batch* batch) except -1 nogil:
        # Without a policy, records that come too late for every window are not looked at if there are no others.
        return 0 if self.refusals is None else self.evaluate(batch)

    cdef bint spares(self, Batch* batch, int32_t row) noexcept nogil:
        return not self.would_take(i64(&batch.sys[SYS_SLOT])[row], i64(&batch.sys[SYS_TIME])[row])

    cdef int finish_spared(self, Batch* batch) except -1 nogil:
        self.prepare(batch)
        self.take_record(batch, 0)
        CHECK(self.n_late == 1, "a record that is spared is late")
        return self.emit_late(batch, self.late_rows, self.n_late)

    cdef bint would_take(self, int64_t slot, int64_t time) noexcept nogil:
        cdef KeyWindows* windows = self.windows_of(slot)
        cdef int64_t watermark = self.lookup.lateness_watermark(slot)
        cdef int64_t i, first, behind
        if time < self.windower.lowest:
            return self.windower.is_open(saturated(time, self.windower.reach), watermark)
        self.windower.assign(self.field, windows, time)
        if self.windower.merges and self.near(windows, time, self.windower.wanted[0].last, watermark, &first, &behind):
            return True
        for i in range(self.windower.n):
            if self.windower.wanted[i].takes and self.windower.is_open(self.windower.wanted[i].last, watermark):
                return True
        return self.windower.n == 0

    cdef int finish(self, Batch* batch) except -1 nogil:
        cdef int32_t row
        cdef bint done = False
        self.prepare(batch)
        try:
            if self.straight:
                self.take_straight(batch)
            else:
                for row in range(batch.n):
                    if row + AHEAD < batch.n:
                        self.fetch_key(i64(&batch.sys[SYS_SLOT])[row + AHEAD])
                        self.fetch_latest(self.windows_of(i64(&batch.sys[SYS_SLOT])[row + AHEAD // 2]))
                    if self.careful:
                        self.take_row(batch, row, 0)
                    else:
                        self.take_record(batch, row)
            self.add_pending()
            if self.n_touched > 0:
                self.show_batch(batch)
            done = True
        finally:
            if not done:
                self.release_columns()
                blame(self, batch, -1)
        if self.n_late > 0:
            self.emit_late(batch, self.late_rows, self.n_late)
        self.send_shown()
        self.release_columns()
        self.batch = NULL
        if self.careful or self.letters:
            self.letters = False
            with gil:
                self.refusals.send(self.letters_output, batch)
        return 0

    cdef int prepare(self, Batch* batch) except -1 nogil:
        cdef int32_t* late_rows
        self.batch = batch
        self.batch_number = 1 if self.batch_number == 0x7FFFFFFF else self.batch_number + 1
        self.arrived = self.lookup.arrive(batch.n)
        self.evaluated = False
        self.n_pairs = self.n_late = self.n_shown = self.n_touched = 0
        self.most_shown = min(<int64_t>OUTPUT_ROWS, max(<int64_t>FEWEST_SHOWN, 4 * <int64_t>batch.n))
        if self.late_capacity < batch.n:
            late_rows = <int32_t*>realloc(self.late_rows, batch.n * sizeof(int32_t))
            if late_rows == NULL:
                no_memory()
            self.late_rows = late_rows
            self.late_capacity = batch.n
        return 0

    cdef int need_columns(self, Batch* batch) except -1 nogil:
        """Have the arguments of aggregates computed, once there is a record that wants them."""
        if self.evaluated:
            return 0
        self.evaluated = True
        if self.refusals is None:
            self.evaluate(batch)
        return self.contents.open(self.columns, self.most_shown if self.by_row or self.windower.full > 0 else 0, self.arrived)

    cdef int add_pending(self) except -1 nogil:
        if self.n_pairs > 0:
            self.need_columns(self.batch)
            self.contents.add_many(self.states, self.rows, self.n_pairs)
            self.n_pairs = 0
            # The mark of the batch says that a key's windows have records waiting: none has any now.
            self.batch_number = 1 if self.batch_number == 0x7FFFFFFF else self.batch_number + 1
        return 0

    # A record ----------------------------------------------------------------------------------------------------

    cdef int try_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        self.before.used = self.n_filed = 0
        self.shown_before = self.n_shown
        self.refusals_before = self.late_refusals
        return self.take_record(batch, row)

    cdef int undo_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        """Have the key's windows as they were, and what the record has opened gone."""
        cdef int64_t slot = i64(&batch.sys[SYS_SLOT])[row], i
        if self.before.used > 0:
            self.field.read(<char*>self.windows_of(slot), self.before.data, self.before.used)
        for i in range(self.n_filed):
            self.deadlines.drop(self.filed[i])
        self.late_refusals = self.refusals_before
        self.n_shown = min(self.n_shown, self.shown_before)
        self.contents.take_back(self.n_shown)
        return 0

    cdef int take_straight(self, Batch* batch) except -1 nogil:
        cdef const int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef const int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t first = 1, last = 0             # the window at hand holds these moments
        cdef Wanted wanted
        cdef KeyWindows* windows
        cdef WindowEntry* entry
        cdef int32_t row
        self.reserve(batch.n)
        for row in range(batch.n):
            if row + AHEAD < batch.n:
                self.fetch_key(slots[row + AHEAD])
            windows = self.windows_of(slots[row])
            if not first <= times[row] <= last:
                first, last = 1, 0
                if times[row] >= self.windower.lowest:
                    self.windower.assign(self.field, windows, times[row])
                    if self.windower.n == 1:
                        wanted = self.windower.wanted[0]
                        if -<int64_t>FAR < wanted.start and wanted.last < <int64_t>FAR:
                            first, last = wanted.start, wanted.last
            if first <= last and self.windower.is_open(last, self.lookup.lateness_watermark(slots[row])):
                self.only_window(slots[row], windows, &wanted, &entry)
                if entry != NULL:
                    windows.pending = self.batch_number
                    self.states[self.n_pairs] = contents_of(entry)
                    self.rows[self.n_pairs] = row
                    self.n_pairs += 1
                    continue
            self.take_record(batch, row)
        return 0

    cdef int only_window(self, int64_t slot, KeyWindows* windows, const Wanted* wanted, WindowEntry** only) except -1 nogil:
        cdef WindowEntry* entry = <WindowEntry*>(<char*>windows + sizeof(KeyWindows))
        only[0] = NULL
        if windows.n > 1 or windows.block != NULL or (windows.n == 1 and entry.id != wanted.id):
            return 0
        self.lookup.table.touch(slot)
        only[0] = entry
        if windows.n == 1:
            return 0
        memset(entry, 0, self.field.stride)
        windows.n = 1
        entry.id, entry.start, entry.last = wanted.id, wanted.start, wanted.last
        self.file(slot, entry, LANE_DUE)
        return 0

    cdef int take_record(self, Batch* batch, int32_t row) except -1 nogil:
        cdef int64_t slot = i64(&batch.sys[SYS_SLOT])[row]
        cdef KeyWindows* windows = self.windows_of(slot)
        cdef int64_t watermark = self.lookup.lateness_watermark(slot)
        cdef int64_t i, n
        cdef Wanted* behind
        cdef bint taken = False
        if i64(&batch.sys[SYS_TIME])[row] < self.windower.lowest:
            return self.refuse_early(batch, row, watermark)
        self.windower.assign(self.field, windows, i64(&batch.sys[SYS_TIME])[row])
        if self.windower.merges:
            return self.take_session(batch, row, slot, windows, watermark)
        n = self.windower.n
        for i in range(n):
            if self.windower.wanted[i].takes:
                if self.windower.is_open(self.windower.wanted[i].last, watermark):
                    taken = True
                else:
                    self.late_refusals += 1
        if not taken:
            return self.refuse_late(row) if n > 0 else 0
        if self.by_row:
            self.need_columns(batch)
        self.change_key(slot, windows)
        behind = NULL if self.windower.wanted[n - 1].takes else &self.windower.wanted[n - 1]
        if behind != NULL:
            # It takes over what others have in them: before they have the record, too.
            n -= 1
            self.open_window(slot, windows, self.field.place_of(windows, behind.id), behind, watermark)
        for i in range(n):
            self.take_wanted(batch, row, slot, windows, &self.windower.wanted[i], watermark)
        if behind != NULL and self.windower.is_open(behind.last, watermark):
            self.after_change(slot, windows, self.field.find(windows, behind.id), row, watermark)
        if self.windower.full > 0:
            self.field.seen(windows)[0] += 1
        return 0

    cdef int refuse_late(self, int32_t row) except -1 nogil:
        self.late_rows[self.n_late] = row
        self.n_late += 1
        return 0

    cdef int refuse_early(self, Batch* batch, int32_t row, int64_t watermark) except -1 nogil:
        cdef int64_t time = i64(&batch.sys[SYS_TIME])[row]
        if not self.windower.is_open(saturated(time, self.windower.reach), watermark):
            self.late_refusals += 1
            return self.refuse_late(row)
        with gil:
            reason = f"windows of the event time {time} ms would begin before the first moment there is, {INT64_MIN} ms"
            if self.refusals is None or self.careful:
                raise RecordError(row, reason, operator=self.name)
            self.letters = True
            self.refusals.take(reason, row_new(self.refusals.shape, batch, row), None, i64(&batch.sys[SYS_SLOT])[row], time)
        return 0

    cdef int change_key(self, int64_t slot, KeyWindows* windows) except -1 nogil:
        CHECK(0 <= slot < self.lookup.table.used, "a slot is one of the table's")
        self.lookup.table.touch(slot)
        return self.field.save(windows, &self.before) if self.careful else 0

    cdef int take_wanted(
        self, Batch* batch, int32_t row, int64_t slot, KeyWindows* windows, Wanted* wanted, int64_t watermark
    ) except -1 nogil:
        """Have a window there, with the record in it."""
        cdef int64_t i = self.field.place_of(windows, wanted.id)
        cdef bint is_open = self.windower.is_open(wanted.last, watermark)
        cdef WindowEntry* entry
        if not is_open and self.windower.kept_ms == 0:
            return 0
        if i < windows.n and self.field.at(windows, i).id == wanted.id:
            entry = self.field.at(windows, i)
            entry.start = min(entry.start, wanted.start)
            entry.last = max(entry.last, wanted.last)
        else:
            entry = self.open_window(slot, windows, i, wanted, watermark)
        if wanted.at_record:
            entry.flags |= WINDOW_AT_RECORD
        if wanted.takes:
            self.add_record(entry, windows, batch, row)
        if not is_open:
            return 0
        if self.windower.full > 0 and entry.n == self.windower.full + PLANTED("count-window-too-long"):
            if not self.by_row:
                self.add_pending()
            self.show_change(slot, entry, row)
            self.unfile(slot, entry)
            return self.close_window(windows, i)
        return self.after_change(slot, windows, entry, row, watermark)

    cdef WindowEntry* open_window(
        self, int64_t slot, KeyWindows* windows, int64_t i, Wanted* wanted, int64_t watermark
    ) except NULL nogil:
        cdef WindowEntry* entry
        cdef WindowEntry* source
        cdef bint is_open = self.windower.is_open(wanted.last, watermark)
        if windows.pending == self.batch_number and not self.field.stays(windows, i):
            self.add_pending()
        entry = self.field.insert(windows, i)
        entry.id, entry.start, entry.last = wanted.id, wanted.start, wanted.last
        if not is_open:
            entry.flags = WINDOW_CLOSED
        if wanted.copies:
            source = self.field.find(windows, wanted.source)
            CHECK(source != NULL, "a window that others begin with is still there")
            if source != NULL and not PLANTED("sliding-window-begins-empty"):
                self.contents.copy(contents_of(entry), contents_of(source))
        self.file(slot, entry, LANE_DUE if is_open else LANE_DROP)
        return entry

    cdef int add_record(self, WindowEntry* entry, KeyWindows* windows, Batch* batch, int32_t row) except -1 nogil:
        entry.n += self.windower.full > 0
        if self.by_row:
            return self.contents.add(contents_of(entry), batch, row)
        windows.pending = self.batch_number
        return self.add_to(batch, row, contents_of(entry))

    cdef int add_to(self, Batch* batch, int32_t row, char* state) except -1 nogil:
        """Have the record added to these contents with the others of its batch."""
        if self.n_pairs == self.capacity:
            self.reserve(self.n_pairs + batch.n)
        self.states[self.n_pairs] = state
        self.rows[self.n_pairs] = row
        self.n_pairs += 1
        return 0

    cdef int after_change(
        self, int64_t slot, KeyWindows* windows, WindowEntry* entry, int32_t row, int64_t watermark
    ) except -1 nogil:
        """Show a window that has changed, if it is time for that."""
        if self.emission == EMIT_CLOSE:
            return 0
        if self.emission == EMIT_UPDATE:
            return self.touch_window(slot, entry) if self.contents.by_batch else self.show_change(slot, entry, row)
        if self.emission == EMIT_THROTTLE:
            if not entry.flags & WINDOW_CHANGED:
                entry.flags |= WINDOW_CHANGED
                self.file_as(slot, LANE_CHANGED, 0, entry.id)
                if self.throttled_until == INT64_MAX:
                    self.throttled_until = saturated(self.clock.now_ms(), self.throttle_ms)
            return 0
        if self.windower.full > 0:
            return 0
        if watermark < entry.last:
            entry.flags &= ~<int32_t>WINDOW_ON_TIME
            if entry.flags & WINDOW_DROPS:
                self.file(slot, entry, LANE_DUE)
            return 0
        if not PLANTED("on-time-once-only"):
            self.show_change(slot, entry, row)
        entry.flags |= WINDOW_ON_TIME
        if not entry.flags & WINDOW_DROPS:
            self.file(slot, entry, LANE_DROP)
        return 0

    # Sessions ----------------------------------------------------------------------------------------------------

    cdef bint near(
        self, KeyWindows* windows, int64_t time, int64_t last, int64_t watermark, int64_t* first, int64_t* behind
    ) noexcept nogil:
        """Whether there are open sessions that the record belongs to: those from `first` on, in front of `behind`."""
        cdef int64_t i = self.field.place_of(windows, time)
        first[0] = behind[0] = i
        if i > 0 and self.field.at(windows, i - 1).last >= time + PLANTED("session-gap-exclusive") \
                and self.windower.is_open(self.field.at(windows, i - 1).last, watermark):
            first[0] = i - 1
        if i < windows.n and self.field.at(windows, i).start <= last and self.windower.is_open(self.field.at(windows, i).last, watermark):
            behind[0] = i + 1
        return first[0] < behind[0]

    cdef int take_session(self, Batch* batch, int32_t row, int64_t slot, KeyWindows* windows, int64_t watermark) except -1 nogil:
        cdef Wanted* wanted = &self.windower.wanted[0]
        cdef int64_t first, behind, i, start = wanted.start, last = wanted.last
        cdef WindowEntry* into
        cdef WindowEntry* entry
        if not self.near(windows, wanted.id, last, watermark, &first, &behind):
            if not self.windower.is_open(last, watermark):
                self.late_refusals += 1
                return self.refuse_late(row)
            if self.by_row:
                self.need_columns(batch)
            self.change_key(slot, windows)
            into = self.open_window(slot, windows, first, wanted, watermark)
        else:
            if self.by_row:
                self.need_columns(batch)
            self.change_key(slot, windows)
            for i in range(first, behind):
                start = min(start, self.field.at(windows, i).start)
                last = max(last, self.field.at(windows, i).last)
            for i in range(first, behind):
                entry = self.field.at(windows, i)
                if entry.flags & WINDOW_SHOWN and (entry.start != start or entry.last != last):
                    self.show(slot, entry, row, CHANGE_WITHDRAW)
                    if not PLANTED("session-withdrawn-twice"):
                        entry.flags &= ~<int32_t>WINDOW_SHOWN
            if behind - first > 1:
                if windows.pending == self.batch_number:
                    self.add_pending()
                if not PLANTED("session-merge-forgotten"):
                    self.contents.merge(contents_of(self.field.at(windows, first)), contents_of(self.field.at(windows, first + 1)))
                self.field.remove(windows, first + 1)
            into = self.field.at(windows, first)
            self.grow_session(slot, windows, into, start, last, watermark)
        self.add_record(into, windows, batch, row)
        return self.after_change(slot, windows, into, row, watermark)

    cdef int grow_session(
        self, int64_t slot, KeyWindows* windows, WindowEntry* into, int64_t start, int64_t last, int64_t watermark
    ) except -1 nogil:
        cdef bint begins_earlier = start < into.start
        into.id = into.start = start
        into.last = last
        if begins_earlier:
            # The row of the index that says so names another start.
            into.flags &= ~<int32_t>(0 if PLANTED("throttle-merge-forgotten") else WINDOW_CHANGED)
            self.file(slot, into, LANE_DUE)
        return 0

    cdef int close_window(self, KeyWindows* windows, int64_t i) except -1 nogil:
        self.closed += 1
        return self.field.remove(windows, i)

    # The index of what is due --------------------------------------------------------------------------------------

    cdef int64_t file(self, int64_t slot, WindowEntry* entry, int lane) except -1 nogil:
        entry.filed = entry.last
        if lane == LANE_DROP:
            entry.flags |= WINDOW_DROPS
        else:
            entry.flags &= ~<int32_t>WINDOW_DROPS
        return self.file_as(slot, lane, entry.last, entry.id)

    cdef int64_t file_as(self, int64_t slot, int lane, int64_t time, int64_t id) except -1 nogil:
        cdef int64_t size, row
        cdef int64_t* more
        if self.slots.on and not self.as_rows and lane != LANE_CHANGED:
            self.slots.add(lane, time, id, slot)
            return 0
        size = self.tail_of(slot, id)
        row = self.deadlines.add(lane, time, self.tail, size, self.lookup.table.header(slot).shard)
        if self.careful:
            if self.n_filed == self.filed_capacity:
                more = <int64_t*>realloc(self.filed, (2 * self.n_filed + 8) * sizeof(int64_t))
                if more == NULL:
                    no_memory()
                self.filed = more
                self.filed_capacity = 2 * self.n_filed + 8
            self.filed[self.n_filed] = row
            self.n_filed += 1
        return row

    cdef int unfile(self, int64_t slot, WindowEntry* entry) except -1 nogil:
        cdef int lane = LANE_DROP if entry.flags & WINDOW_DROPS else LANE_DUE
        cdef int64_t size, row = -1
        if self.deadlines.count(lane) > 0:
            size = self.tail_of(slot, entry.id)
            row = self.deadlines.find(lane, entry.filed, self.tail, size, self.lookup.table.header(slot).shard)
        if row >= 0:
            return self.deadlines.drop(row)
        entry.filed = INT64_MAX
        return self.slots.give_up(lane)

    cdef int64_t tail_of(self, int64_t slot, int64_t id) except -1 nogil:
        cdef const RowHeader* header = self.lookup.table.header(slot)
        cdef int64_t size = ID_BYTES + header.key_size
        cdef char* more
        if size > self.tail_capacity:
            more = <char*>realloc(self.tail, 2 * size)
            if more == NULL:
                no_memory()
            self.tail = more
            self.tail_capacity = 2 * size
        put_sorted(self.tail, id)
        memcpy(self.tail + ID_BYTES, header.key, header.key_size)
        return size
