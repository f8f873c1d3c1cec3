"""See pane_window.pxd.

A record is added to its pane alone. Windows close one after another, so a window is a queue of panes that gives up its first
ones and gets new ones behind: two stacks. The panes in front are *summed*: each holds what it and the summed ones behind it add
up to. Those behind them are in the *total*, of which a key has one; the last ones, behind these, in neither. A window is the
first summed pane and the total: two copies, however many panes it has. When no summed pane is left, those in the total are
summed, each once. So a pane is merged a few times in all.

A pane keeps a sum of integers or decimals in more bits than its column has. Once a pane is so large that the sum of a window may
not fit, each record is checked: the first one with which a window's sum is too large fails.

A key has one row in the index: the next of its windows that holds a record. The key's number (`WindowField.seen`) is that window's.
"""
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, Batch, i64
from streamdsl._native.operators.process_context cimport KeyReader
from streamdsl._native.operators.window_records cimport LANE_DUE
from streamdsl._native.rows.row cimport timestamp_value
from streamdsl._native.state.deadline_heap cimport SlotDeadline
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, sorted_in
from streamdsl._native.state.key_hash cimport CACHE_LINE, prefetch
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.windows.accumulated cimport AccumulatedContents
from streamdsl._native.windows.assign cimport since_start
from streamdsl._native.windows.panes cimport PANE_IN_TOTAL, PANE_SUMMED
from streamdsl._native.windows.window_list cimport contents_of

from dataclasses import replace


cdef enum:
    FAR = 0x3FFFFFFFFFFFFFFF   # ms from the epoch

#: Of these the exact ones are taken: what windows are does not depend on how panes were put together.
SUMS = frozenset(["sum", "mean", "var", "std"])


cdef class PaneWindowOperator(WindowOperator):
    """As `WindowOperator`, for windows of which each moment is in many."""

    def __init__(self, spec, lookup not None, arguments=None):
        WindowOperator.__init__(self, spec, lookup, arguments)
        self.panes = Panes(spec.window)
        self.one_window = True

    def __dealloc__(self):
        free(self.made)
        free(self.copied)

    def contents_made(self):
        """Return what is in a pane."""
        cdef AccumulatedContents inner
        aggregates = [replace(one, retracts=one.kind in SUMS) for one in self.spec.aggregates]
        inner = AccumulatedContents(self.name, aggregates, self.lookup.table.arena)
        if inner.accumulators.watch(self.panes.count):
            self.sums = inner.accumulators
        self.made = <char*>calloc(1, sizeof(WindowEntry) + inner.size)
        self.copied = <char*>calloc(1, inner.size + 8)
        if self.made == NULL or self.copied == NULL:
            raise MemoryError("no memory left for windows")
        return inner

    def field_made(self, str name):
        """Return the field of the rows that holds the panes."""
        self.pane_field = PaneField(name, self.contents)
        return self.pane_field

    # A record ----------------------------------------------------------------------------------------------------

    cdef bint would_take(self, int64_t slot, int64_t time) noexcept nogil:
        return self.windower.is_open(self.panes.last_of(self.panes.last_window(time)), self.lookup.lateness_watermark(slot))

    cdef int find_place(self, int64_t time) noexcept nogil:
        cdef PanePlace* place = &self.place
        cdef int64_t since = since_start(time, self.panes.every_ms, self.panes.offset_ms) % self.panes.pane_ms
        place.start, place.end = time - since, time - since + self.panes.pane_ms
        if not -<int64_t>FAR < time < <int64_t>FAR:          # its bounds need not be times
            place.start = place.end = time
        place.pane = self.panes.pane_at(time)
        place.last = self.panes.last_window(time)
        place.first = place.last - self.panes.windows_at(time) + 1
        place.first_ends = self.panes.last_of(place.first)
        return 0

    cdef int take_record(self, Batch* batch, int32_t row) except -1 nogil:
        cdef int64_t slot = i64(&batch.sys[SYS_SLOT])[row], time = i64(&batch.sys[SYS_TIME])[row]
        cdef KeyWindows* windows = self.windows_of(slot)
        cdef int64_t watermark = self.lookup.lateness_watermark(slot)
        cdef int64_t first, i
        cdef WindowEntry* entry
        if time < self.windower.lowest:
            return self.refuse_early(batch, row, watermark)
        if not self.place.start <= time < self.place.end:
            self.find_place(time)
        first = self.place.first
        if not self.windower.is_open(self.place.first_ends, watermark):
            while first <= self.place.last and not self.windower.is_open(self.panes.last_of(first), watermark):
                self.late_refusals += 1
                first += 1
        if first > self.place.last:
            return self.refuse_late(row)
        self.change_key(slot, windows)
        self.take_panes(slot, windows, first)
        entry = self.pane_of(windows, self.place.pane)
        if entry.flags & PANE_SUMMED:        # all in front of it hold it, too
            for i in range(self.field.place_of(windows, entry.id)):
                self.add_to(batch, row, contents_of(self.field.at(windows, i)))
        elif entry.flags & PANE_IN_TOTAL:
            self.add_to(batch, row, self.pane_field.total(windows))
        self.add_to(batch, row, contents_of(entry))
        windows.pending = self.batch_number
        return 0

    cdef int add_pending(self) except -1 nogil:
        cdef int64_t n = self.n_pairs
        WindowOperator.add_pending(self)
        if n > 0 and self.sums is not None and (self.watching or self.sums.exceeded()):
            self.watching = True
            self.look_for_overflow(n)
        return 0

    # A sum that does not fit ----------------------------------------------------------------------------------------

    cdef int look_for_overflow(self, int64_t n) except -1 nogil:
        cdef int64_t i
        for i in range(n - 1, -1, -1):
            self.sums.change_watched(self.states[i], self.rows[i], -1)
        for i in range(n):
            self.sums.change_watched(self.states[i], self.rows[i], 1)
            if i + 1 == n or self.rows[i + 1] != self.rows[i]:
                self.check_windows(self.rows[i])
        return 0

    cdef int check_windows(self, int32_t row) except -1 nogil:
        cdef int64_t slot = i64(&self.batch.sys[SYS_SLOT])[row], time = i64(&self.batch.sys[SYS_TIME])[row], window
        cdef int k
        cdef KeyWindows* windows = self.windows_of(slot)
        cdef int64_t watermark = self.lookup.lateness_watermark(slot)
        if not self.place.start <= time < self.place.end:
            self.find_place(time)
        for window in range(self.place.first, self.place.last + 1):
            if self.windower.is_open(self.panes.last_of(window), watermark):
                for k in range(self.sums.n_states):
                    if (<Accumulator>self.sums.states[k]).watched:
                        (<Accumulator>self.sums.states[k]).row = row
                        self.check_window(<Accumulator>self.sums.states[k], windows, window)
        return 0

    cdef int check_window(self, Accumulator sum, KeyWindows* windows, int64_t window) except -1 nogil:
        cdef char* total = contents_of(<WindowEntry*>self.made)
        cdef int64_t i, end = self.panes.place_in(self.field, windows, window, self.panes.count)
        cdef bint summed = False
        cdef WindowEntry* pane
        memset(total, 0, sum.size)
        for i in range(self.panes.place_in(self.field, windows, window, 0), end):
            pane = self.field.at(windows, i)
            if not (pane.flags & PANE_SUMMED and summed):        # the first summed one holds the others
                memcpy(self.copied, contents_of(pane) + sum.offset, sum.size)
                sum.merge(total, self.copied)
            summed = summed or pane.flags & PANE_SUMMED != 0
        return 0 if sum.fits(total) else sum.fail_too_large()

    cdef int take_panes(self, int64_t slot, KeyWindows* windows, int64_t window) except -1 nogil:
        if windows.n > 0 and self.field.seen(windows)[0] <= window:
            return 0
        self.field.seen(windows)[0] = window
        self.file_as(slot, LANE_DUE, self.panes.last_of(window), window)
        return 0

    cdef WindowEntry* pane_of(self, KeyWindows* windows, int64_t pane) except NULL nogil:
        cdef int64_t i
        cdef WindowEntry* entry
        if windows.n > 0 and self.field.at(windows, windows.n - 1).id == pane:
            return self.field.at(windows, windows.n - 1)
        i = self.field.place_of(windows, pane)
        if i < windows.n and self.field.at(windows, i).id == pane:
            return self.field.at(windows, i)
        if windows.pending == self.batch_number and not self.field.stays(windows, i):
            self.add_pending()
        entry = self.field.insert(windows, i)
        entry.id = pane
        if i + 1 < windows.n and self.field.at(windows, i + 1).flags & PANE_SUMMED:
            entry.flags = PANE_SUMMED
            if windows.pending == self.batch_number:
                self.add_pending()
            self.contents.copy(contents_of(entry), contents_of(self.field.at(windows, i + 1)))
        elif i + 1 < windows.n:
            entry.flags = self.field.at(windows, i + 1).flags & PANE_IN_TOTAL        # to which it adds nothing yet
        return entry

    # Windows -----------------------------------------------------------------------------------------------------

    cdef void fetch_windows(self, KeyWindows* windows) noexcept nogil:
        """Have in the cache what closing a window touches: the first two panes, the last two, the total."""
        cdef int64_t at = 0
        cdef char* first
        cdef char* last
        if windows.block == NULL:
            return
        first, last = <char*>self.field.at(windows, 0), <char*>self.field.at(windows, windows.n - 1)
        prefetch(last + CACHE_LINE)
        while at <= self.field.stride:
            prefetch(first + at)
            prefetch(last - at)
            prefetch(self.pane_field.total(windows) + min(at, self.contents.size))
            at += CACHE_LINE

    cdef void fetch_latest(self, KeyWindows* windows) noexcept nogil:
        """Have the last pane in the cache: most records come in order."""
        cdef int64_t at = 0
        if windows.block != NULL:
            while at < self.field.stride:
                prefetch(<char*>self.field.at(windows, windows.n - 1) + at)
                at += CACHE_LINE

    cdef int add_copy(self, char* into, char* source) except -1 nogil:
        return (<AccumulatedContents>self.contents).add_copy(into, source, self.copied)

    cdef int gather(self, KeyWindows* windows, int64_t n) except -1 nogil:
        cdef int64_t i = n
        cdef WindowEntry* entry
        if not self.field.at(windows, 0).flags & PANE_SUMMED:
            return self.sum_up(windows, n)
        while not self.field.at(windows, i - 1).flags & (PANE_SUMMED | PANE_IN_TOTAL):
            i -= 1
        if i > 0 and not self.field.at(windows, i - 1).flags & PANE_IN_TOTAL:
            self.pane_field.clear_total(windows)
        for i in range(i, n):
            entry = self.field.at(windows, i)
            entry.flags |= PANE_IN_TOTAL
            self.add_copy(self.pane_field.total(windows), contents_of(entry))
        return 0

    cdef int sum_up(self, KeyWindows* windows, int64_t n) except -1 nogil:
        cdef int64_t i
        cdef WindowEntry* entry
        self.pane_field.clear_total(windows)
        for i in range(n - 1, -1, -1):
            entry = self.field.at(windows, i)
            entry.flags = PANE_SUMMED
            if i + 1 < n:
                self.add_copy(contents_of(entry), contents_of(self.field.at(windows, i + 1)))
        return 0

    cdef int64_t following(self, KeyWindows* windows, int64_t window) noexcept nogil:
        cdef int64_t i = self.panes.place_in(self.field, windows, window, self.panes.step)
        if i == windows.n:
            return window
        return max(window + 1, self.panes.first_with(self.field.at(windows, i).id))

    cdef int find_due(self, int lane, int64_t n) except -1 nogil:
        cdef int64_t i, next, row, later = -1
        cdef KeyWindows* windows
        self.look_up_due(n)
        for i in range(n):
            row = self.deadlines.due[i]
            windows = self.windows_of(self.key_slots[i])
            self.due[i].slot = self.key_slots[i]
            self.due[i].id = sorted_in(self.deadlines.table.header(row).key + DEADLINE_BYTES)
            self.due[i].row = -1
            next = self.field.seen(windows)[0] if windows.n == 0 else self.following(windows, self.field.seen(windows)[0])
            if windows.n == 0 or (self.due[i].id != self.field.seen(windows)[0] and self.due[i].id != next):
                self.deadlines.remove(row)
                continue
            if self.due[i].id != self.field.seen(windows)[0]:           # its turn comes when the one before it has been closed
                self.deadlines.put_back(row)
                continue
            self.due[i].row = row
            if next > self.field.seen(windows)[0]:
                row = self.file_as(self.key_slots[i], LANE_DUE, self.panes.last_of(next), next)
                if later < 0 or self.deadlines.order(row, later) < 0:
                    later = row
        self.put_behind(n, later)
        return 0

    cdef bint awaited(self, int lane, SlotDeadline* item) except -1 nogil:
        cdef KeyWindows* windows = self.windows_of(item.slot)
        if windows.n > 0 and item.id >= self.field.seen(windows)[0]:
            return True
        self.slots.over(lane, item)
        return False

    cdef bint is_due(self, int lane, KeyWindows* windows, SlotDeadline* item) except -1 nogil:
        cdef int64_t next
        if windows.n == 0 or item.id != self.field.seen(windows)[0]:
            return False
        next = self.following(windows, self.field.seen(windows)[0])
        if next > self.field.seen(windows)[0]:
            self.file_as(item.slot, LANE_DUE, self.panes.last_of(next), next)
        return True

    cdef int act(self, int lane, int64_t slot, KeyWindows* windows, int64_t i) except -1 nogil:
        cdef int64_t window = self.field.seen(windows)[0], leaving
        cdef int64_t next = self.following(windows, window)
        cdef WindowEntry* entry = self.window_made(window)
        self.gather(windows, self.panes.place_in(self.field, windows, window, self.panes.count))
        if not self.pane_field.has_total(windows):   # it is only looked at
            memcpy(contents_of(entry), contents_of(self.field.at(windows, 0)), self.contents.size)
            self.show_change(slot, entry, -1)
        else:
            self.contents.copy(contents_of(entry), contents_of(self.field.at(windows, 0)))
            self.add_copy(contents_of(entry), self.pane_field.total(windows))
            self.show_change(slot, entry, -1)
            self.contents.clear(contents_of(entry))
        self.closed += 1
        leaving = self.panes.place_in(self.field, windows, window, self.panes.step)
        while leaving > 0:
            self.field.remove(windows, 0)
            leaving -= 1
        if windows.n == 0:
            self.pane_field.clear_total(windows)
        self.field.seen(windows)[0] = next if windows.n > 0 else 0
        return 0

    cdef WindowEntry* window_made(self, int64_t window) noexcept nogil:
        cdef WindowEntry* entry = <WindowEntry*>self.made
        memset(self.made, 0, sizeof(WindowEntry) + self.contents.size)
        entry.id, entry.start, entry.last = window, self.panes.start_of(window), self.panes.last_of(window)
        return entry

    # For people --------------------------------------------------------------------------------------------------

    def windows_by_key(self):
        """Return the open windows of each key."""
        cdef KeyTable table = self.lookup.table
        cdef int64_t slot = table.first_slot(0), window
        cdef KeyWindows* windows
        cdef KeyReader reader = KeyReader(self.lookup, self.spec.key_schema)
        by_key = {}
        while slot >= 0:
            windows = self.windows_of(slot)
            window = self.field.seen(windows)[0]
            while windows.n > 0:
                bounds = {"window_start": timestamp_value(self.panes.start_of(window)),
                          "window_end": timestamp_value(self.windower.end_of(self.panes.last_of(window)))}
                by_key.setdefault(reader.key(slot), []).append({**bounds, **self.values_of(slot, window)})
                if self.following(windows, window) == window:
                    break
                window = self.following(windows, window)
            slot = table.first_slot(slot + 1)
        return by_key

    def values_of(self, int64_t slot, int64_t window):
        """Return the aggregates of a window."""
        cdef KeyWindows* windows = self.windows_of(slot)
        cdef WindowEntry* entry = self.window_made(window)
        cdef WindowEntry* pane
        cdef int64_t i
        cdef bint summed = False
        for i in range(windows.n):
            pane = self.field.at(windows, i)
            if not self.panes.has(window, pane.id):
                continue
            if not (pane.flags & PANE_SUMMED and summed):        # the first summed one holds the others
                self.add_copy(contents_of(entry), contents_of(pane))
            summed = summed or pane.flags & PANE_SUMMED != 0
        try:
            return self.aggregates_of([<size_t>contents_of(entry)])[0]
        finally:
            self.contents.clear(contents_of(entry))
