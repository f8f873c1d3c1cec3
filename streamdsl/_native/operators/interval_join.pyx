"""See interval_join.pxd.

A row meets what waits of the other side, then waits itself until the watermark says that no row can match it any more. When that
is stands in an index of deadlines by time and key. Rows that come out unmatched have one to the millisecond, so they come out in
order of time; others share one by key, which costs less.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN

from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, i64
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.join cimport LEFT, RIGHT, JoinPort
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.rows.timed_rows cimport TimedRow, rows_below
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.windows.assign cimport floor_mod, saturating_add, saturating_subtract, since_start

cdef enum:
    STEPS = 2                # deadlines of a key while one row of it waits, where rows need not come out: they stay half as long again
    FAR = 16                 # rows ahead of which the key's row is fetched,
    NEAR = 8                 # and what it points at


cdef inline int64_t stepped(int64_t over, int64_t step) noexcept nogil:
    # As late as the next step: nothing matches a row that is over.
    return saturating_add(over, step - 1 - floor_mod(saturating_subtract(over, 1), step))


cdef class IntervalJoinOperator(WaitingJoinOperator):
    def __init__(self, spec, KeyLookup lookup not None):
        WaitingJoinOperator.__init__(self, spec, lookup)
        self.bounded = spec.before_ms is not None
        self.before = spec.before_ms if self.bounded else INT64_MAX
        self.after = spec.after_ms if self.bounded else INT64_MAX
        self.grace = spec.grace_ms
        self.reach[LEFT] = self.after
        self.reach[RIGHT] = self.before
        self.keeps[LEFT] = spec.how in ("left", "outer")
        self.keeps[RIGHT] = spec.how in ("right", "outer")
        self.sorts = self.keeps[LEFT] or self.keeps[RIGHT]
        self.window_ms, self.offset_ms = spec.window_ms, spec.offset_ms
        self.step = max(1, min(spec.before_ms + spec.after_ms + spec.grace_ms, 1 << 60) // STEPS) if self.bounded else 1

    cdef int64_t last_moment(self, int64_t time) noexcept nogil:
        cdef int64_t since = since_start(time, self.window_ms, self.offset_ms)
        return saturating_add(saturating_subtract(time, since), self.window_ms - 1)

    cdef bint is_late(self, int64_t time, int64_t watermark) noexcept nogil:
        cdef int64_t last = time if self.window_ms == 0 else self.last_moment(time)
        if not self.bounded:
            return False
        return saturating_add(last, self.grace) + PLANTED("join-takes-late-row") <= watermark

    cdef int64_t over(self, int side, int64_t time) noexcept nogil:
        if not self.bounded:
            return INT64_MAX
        if self.window_ms > 0:
            return saturating_add(self.last_moment(time), self.grace)
        return saturating_add(saturating_add(time, self.reach[side]), self.grace)

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil:
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int side = port.side
        cdef int64_t watermark, over
        cdef int32_t row
        cdef TimedRows* rows
        cdef bint matched
        for row in range(batch.n):
            if row + FAR < batch.n:
                self.lookup.table.prefetch_row(slots[row + FAR])
                rows = <TimedRows*>(self.lookup.table.row(slots[row + NEAR]) + self.field.offset)
                prefetch(rows[1 - side].rows + rows[1 - side].head)
                if rows[side].rows != NULL:
                    prefetch(rows[side].rows + rows[side].head + rows[side].n - 1)      # the last one, and behind it
                    prefetch(rows[side].rows + rows[side].head + rows[side].n + 1)
            watermark = self.lookup.lateness_watermark(slots[row])
            if self.is_late(times[row], watermark):
                self.note_late(port, batch, row, watermark)
                continue
            self.lookup.table.touch(slots[row])
            rows = <TimedRows*>(self.lookup.table.row(slots[row]) + self.field.offset)
            matched = self.match(side, batch, row, times[row], rows + (1 - side))
            over = self.over(side, times[row])
            if self.bounded and over <= watermark:
                if self.keeps[side] and not matched:
                    self.add_pair(side, batch, row, NULL, 0, times[row])
                continue
            self.serialise(side, batch, row)
            self.field.insert(rows + side, times[row], self.scratch.data, self.scratch.used, matched or PLANTED("join-unmatched-never"))
            if self.keeps[side]:
                self.note_due(over, slots[row])
            elif self.bounded:
                self.note_room(rows, over, slots[row])
        self.flush_pairs(side, batch)
        return self.keep_up()

    cdef bint match(self, int side, Batch* batch, int32_t row, int64_t time, TimedRows* other) except -1 nogil:
        cdef int64_t first = INT64_MIN, last = INT64_MAX
        cdef int32_t at, begin
        cdef int64_t before = self.before - PLANTED("join-before-exclusive"), after = self.after + PLANTED("join-after-too-long")
        cdef TimedRow* kept
        if self.window_ms > 0:
            last = self.last_moment(time)
            first = saturating_subtract(last, self.window_ms - 1)
        elif self.bounded:
            first = saturating_subtract(time, before if side == LEFT else after)
            last = saturating_add(time, after if side == LEFT else before)
        begin = at = rows_below(other, first)
        while at < other.n and other.rows[other.head + at].time <= last:
            kept = &other.rows[other.head + at]
            kept.marked = not PLANTED("join-match-forgotten")
            self.add_pair(side, batch, row, kept.data, kept.size, max(time, kept.time))
            at += 1
        return at > begin

    cdef int note_room(self, TimedRows* rows, int64_t over, int64_t slot) except -1 nogil:
        """Have rows that need not come out leave: a key has one deadline for them, and notes the next when it has come."""
        over = stepped(over, self.step)
        if rows.noted == self.listed.round and rows.due <= over:
            return 0
        rows.noted = self.listed.round
        rows.due = over
        return self.note_due(over, slot)

    cdef int emit_due(self, int64_t n) except -1 nogil:
        cdef int64_t i, slot, deadline
        cdef int32_t k
        cdef int side
        cdef TimedRows* rows
        cdef TimedRow* row
        if not self.keeps[LEFT] and not self.keeps[RIGHT]:
            return 0
        for i in range(n):
            if self.again(i):
                continue
            deadline = self.times[i]
            slot = self.slots[i]
            for side in range(2 if slot >= 0 else 0):
                rows = <TimedRows*>(self.lookup.table.row(slot) + self.field.offset) + side
                if not self.keeps[side]:
                    continue
                for k in range(rows.n):
                    row = &rows.rows[rows.head + k]
                    if self.over(side, row.time) > deadline:
                        break
                    # Rows of an earlier deadline among the `n` have been told by it.
                    if row.marked or (self.over(side, row.time) < deadline and not PLANTED("join-unmatched-twice")):
                        continue
                    if side == LEFT:
                        self.add_kept(row.data, row.size, NULL, 0, row.time)
                    else:
                        self.add_kept(NULL, 0, row.data, row.size, row.time)
        return self.flush_pairs(LEFT, NULL)

    cdef int release(self, int64_t slot, int64_t deadline) except -1 nogil:
        cdef int side
        cdef int32_t n
        cdef TimedRows* both = <TimedRows*>(self.lookup.table.row(slot) + self.field.offset)
        cdef TimedRows* rows
        if both.noted and both.due <= deadline:
            both.noted = 0
        for side in range(2):
            rows = both + side
            n = 0
            # Rows that come out have deadlines of their own; the others go as soon as they can.
            while (n < rows.n and self.over(side, rows.rows[rows.head + n].time) - PLANTED("join-row-freed-early")
                    <= (deadline if self.keeps[side] else self.watermark)):
                n += 1
            self.field.drop_first(rows, n)
            if rows.n > 0 and self.bounded and not self.keeps[side] and not PLANTED("join-room-noted-once"):
                self.note_room(both, self.over(side, rows.rows[rows.head].time), slot)
        return 0

    cdef void note_useless(self) noexcept nogil:
        cdef int side
        cdef int64_t until = saturating_subtract(self.watermark, self.grace)
        if self.sorts or not self.bounded:
            return
        for side in range(2):
            if until == INT64_MAX:
                self.field.useless_until[side] = INT64_MAX
            elif self.window_ms > 0:         # all before the window that holds the next moment
                self.field.useless_until[side] = saturating_subtract(until, since_start(until + 1, self.window_ms, self.offset_ms))
            else:
                self.field.useless_until[side] = saturating_subtract(until, self.reach[side])

    cdef int note_all(self) except -1 nogil:
        cdef int64_t slot = self.lookup.table.first_slot(0)
        cdef int side
        cdef TimedRows* both
        while slot >= 0 and self.bounded:
            both = <TimedRows*>(self.lookup.table.row(slot) + self.field.offset)
            for side in range(2):
                if both[side].n > 0:
                    self.note_room(both, self.over(side, both[side].rows[both[side].head].time), slot)
            slot = self.lookup.table.first_slot(slot + 1)
        return 0

    cdef int64_t passing(self) noexcept nogil:
        # Rows that wait to come out unmatched keep their time; late rows within the grace may still match.
        cdef int64_t held = 0
        if not self.bounded:
            return INT64_MIN if self.keeps[LEFT] or self.keeps[RIGHT] else self.watermark
        if self.window_ms > 0:               # a row behind W is taken while its window is open
            held = self.window_ms - 1
        if self.keeps[LEFT]:
            held = max(held, self.after)
        if self.keeps[RIGHT]:
            held = max(held, self.before)
        if PLANTED("join-passes-time-on"):
            return self.watermark
        return saturating_subtract(self.watermark, saturating_add(held, self.grace))
