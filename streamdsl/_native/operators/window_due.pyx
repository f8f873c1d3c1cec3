"""See window_due.pxd.

A window that grows is not filed anew in the index each time: its row there names a moment that is not behind its end. When that
comes, the window is filed under the end that it has by then. A row of the index whose window is gone, or is filed elsewhere, is
dropped when it is due.
"""


from libc.stdint cimport INT64_MAX, INT64_MIN, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from streamdsl._native.aggregates.accumulators cimport EMIT
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.refusals cimport reason_of_raised
from streamdsl._native.operators.window_records cimport EMIT_CLOSE, EMIT_ON_TIME, EMIT_THROTTLE, LANE_DROP, LANE_DUE
from streamdsl._native.state.deadline_heap cimport SlotDeadlineList
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, deadline_in, sorted_in
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.key_list cimport keys_clear, keys_push
from streamdsl._native.state.row_table cimport ROW_LIVE, RowHeader
from streamdsl._native.windows.accumulated cimport AccumulatedContents
from streamdsl._native.windows.window_list cimport WINDOW_CHANGED, WINDOW_CLOSED, WINDOW_DROPS, WINDOW_ON_TIME, contents_of
from streamdsl._native.windows.windower cimport saturated

cdef enum:
    AHEAD = 8
    HEAD_BYTES = 17            # of the key of a row of the index, in front of the user's: lane, time, id

ctypedef int (*ShowLast)(WindowDue operator, int64_t slot, WindowEntry* entry) noexcept nogil


cdef int shown_last(WindowDue operator, int64_t slot, WindowEntry* entry) except -1 nogil:
    return operator.show_change(slot, entry, -1)


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for windows")


cdef class WindowDue(WindowRecords):
    """Base of `WindowOperator`."""

    def __dealloc__(self):
        free(self.due)
        free(self.key_slots)

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
        self.as_rows = True                  # to stand in order with the others
        self.find_due(lane, n)
        self.as_rows = False
        self.begin_closing(n)
        for i in range(n):
            if i + AHEAD < n:
                self.fetch_due(i + AHEAD)
            if self.due[i].row < 0:
                continue
            self.deadlines.remove(self.due[i].row)
            windows = self.windows_of(self.due[i].slot)
            self.lookup.table.touch(self.due[i].slot)
            self.act(lane, self.due[i].slot, windows, self.field.place_of(windows, self.due[i].id))
        return self.end_closing(n)

    cdef int begin_closing(self, int64_t n) except -1 nogil:
        self.batch = NULL
        self.n_shown = 0
        self.most_shown = max(n, <int64_t>1)
        return self.contents.open(NULL, self.most_shown, 0)

    cdef int end_closing(self, int64_t n) except -1 nogil:
        cdef int64_t shown = self.n_shown
        self.send_shown()
        self.forget_keys(n)
        if self.careful:
            with gil:
                self.refusals.send(self.letters_output, NULL)
        return self.end_batch() if shown > 0 else 0

    # What is due and has no row in the index -------------------------------------------------------------------------

    cdef int64_t find_slots(self, int lane, int64_t limit, int64_t most) except -1 nogil:
        cdef SlotDeadlineList* ready = &self.slots.lane[lane].ready
        cdef int64_t i, kept, n
        cdef SlotDeadline item
        while self.slots.lane[lane].count > 0 and self.slots.first(lane) <= limit:
            kept = self.slots.gather(lane, limit, most)
            n = ready.n
            if self.straight and lane == LANE_DUE:
                kept = n                     # such windows neither grow nor close before
            for i in range(kept, n):
                if i + 2 * AHEAD < n:
                    self.fetch_key(ready.at[i + 2 * AHEAD].slot)
                item = ready.at[i]
                if self.awaited(lane, &item):
                    ready.at[kept] = item
                    kept += 1
            ready.n = kept
            self.slots.sort(lane)
            n = self.slots.piece(lane, most, self.one_window)
            if n > 0:                        # else a window that has grown comes first
                return n
        return 0

    cdef bint awaited(self, int lane, SlotDeadline* item) except -1 nogil:
        cdef WindowEntry* entry = self.field.find(self.windows_of(item.slot), item.id)
        if entry == NULL or entry.filed != item.time or (entry.flags & WINDOW_DROPS != 0) != (lane == LANE_DROP):
            self.slots.over(lane, item)
            return False
        if entry.last > item.time:
            self.lookup.table.touch(item.slot)
            self.slots.over(lane, item)
            self.file(item.slot, entry, lane)
            return False
        return True

    cdef bint is_due(self, int lane, KeyWindows* windows, SlotDeadline* item) except -1 nogil:
        cdef WindowEntry* entry = self.field.find(windows, item.id)
        return entry != NULL and entry.filed == item.time and (entry.flags & WINDOW_DROPS != 0) == (lane == LANE_DROP)

    cdef int close_slots(self, int lane, int64_t n) except -1 nogil:
        cdef SlotDeadlineList* ready = &self.slots.lane[lane].ready
        cdef int64_t i
        cdef KeyWindows* windows
        cdef SlotDeadline item
        self.reserve_due(n)
        self.begin_closing(n)
        if self.straight and lane == LANE_DUE and not PLANTED("window-closed-in-its-grace"):
            return self.close_straight(n)
        for i in range(n):
            if i + 2 * AHEAD < n:
                self.fetch_key(ready.at[ready.first + 2 * AHEAD].slot)
            if i + AHEAD < n:
                self.fetch_windows(self.windows_of(ready.at[ready.first + AHEAD].slot))
            item = ready.at[ready.first]
            ready.first += 1
            self.key_slots[i] = item.slot
            windows = self.windows_of(item.slot)
            self.slots.over(lane, &item)
            if self.is_due(lane, windows, &item):
                self.lookup.table.touch(item.slot)
                self.act(lane, item.slot, windows, self.field.place_of(windows, item.id))
        return self.end_closing(n)

    cdef int close_straight(self, int64_t n) except -1 nogil:
        # Aggregate by aggregate; no window goes before the results are there, since others of its key would move. Most keys have
        # no other, so that it stands in the row.
        cdef SlotDeadlineList* ready = &self.slots.lane[<int>LANE_DUE].ready
        cdef int64_t i, shown = 0
        cdef KeyWindows* windows
        cdef WindowEntry* entry
        cdef SlotDeadline item
        self.reserve(n)
        self.reserve_shown(n)
        for i in range(n):
            if i + 2 * AHEAD < n:
                self.fetch_key(ready.at[ready.first + 2 * AHEAD].slot)
            item = ready.at[ready.first]
            ready.first += 1
            self.key_slots[i] = item.slot
            self.slots.over(LANE_DUE, &item)
            entry = self.field.find(self.windows_of(item.slot), item.id)
            if entry == NULL or entry.filed != item.time:
                continue
            self.lookup.table.touch(item.slot)
            self.states[shown] = contents_of(entry)
            self.put_shown(shown, item.slot, entry)
            self.due[shown].slot, self.due[shown].id = item.slot, item.id
            shown += 1
        (<AccumulatedContents>self.contents).accumulators.run(self.states, NULL, shown, EMIT)
        for i in range(shown):
            windows = self.windows_of(self.due[i].slot)
            self.close_window(windows, self.field.place_of(windows, self.due[i].id))
        self.n_shown = shown
        return self.end_closing(n)

    # Rows of the index that are due -----------------------------------------------------------------------------------

    cdef void fetch_due(self, int64_t i) noexcept nogil:
        """Have in the cache what closing the window touches, while those in front of it are closed."""
        cdef KeyWindows* windows = self.windows_of(self.due[i].slot)
        cdef uint64_t at
        if self.due[i].row >= 0:
            at = <uint32_t>self.deadlines.table.header(self.due[i].row).hash
            prefetch(&self.deadlines.table.index.entries[at & self.deadlines.table.index.mask])
        self.fetch_windows(windows)

    cdef int forget_keys(self, int64_t n) except -1 nogil:
        """Remove the rows of keys of which nothing is left: keys that never come again must not stay."""
        cdef int64_t i, slot
        cdef uint64_t at
        for i in range(n):
            if i + 4 * AHEAD < n:
                prefetch(self.lookup.table.header(self.key_slots[i + 4 * AHEAD]))
            if i + 2 * AHEAD < n:
                at = <uint32_t>self.lookup.table.header(self.key_slots[i + 2 * AHEAD]).hash & self.lookup.table.index.mask
                prefetch(&self.lookup.table.index.entries[at])
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
