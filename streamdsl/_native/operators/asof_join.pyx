"""See asof_join.pxd.

A left row waits until the watermark has reached its time: all right rows up to it are there then. Of the right rows those are
kept that may still be the latest at some time: all above the watermark, and the last one at or below it.
"""
from libc.stdint cimport INT64_MAX

from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, Batch, i64
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.join cimport LEFT, JoinPort
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.rows.timed_rows cimport fetch_first, rows_below
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.windows.assign cimport saturating_add, saturating_subtract

cdef enum:
    FAR = 16                 # rows ahead of which the key's row is fetched,
    NEAR = 8                 # and what it points at,
    NEXT = 4                 # and what that points at


cdef class AsOfJoinOperator(WaitingJoinOperator):
    def __init__(self, spec, KeyLookup lookup not None):
        WaitingJoinOperator.__init__(self, spec, lookup)
        self.bounded = spec.tolerance_ms is not None
        self.tolerance = spec.tolerance_ms if self.bounded else INT64_MAX
        self.exact = spec.allow_exact
        self.keeps = spec.how == "left"
        self.sorts = True

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil:
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int side = port.side
        cdef int64_t watermark
        cdef int32_t row
        cdef TimedRows* rows
        for row in range(batch.n):
            if row + FAR < batch.n:
                prefetch(self.lookup.table.row(slots[row + FAR]) + self.field.offset)
                rows = <TimedRows*>(self.lookup.table.row(slots[row + NEAR]) + self.field.offset) + side
                prefetch(rows.rows + rows.head + rows.n)
            if side == LEFT:
                watermark = self.lookup.lateness_watermark(slots[row])
                if times[row] <= watermark:
                    self.note_late(port, batch, row, watermark)
                    continue
            self.lookup.table.touch(slots[row])
            rows = <TimedRows*>(self.lookup.table.row(slots[row]) + self.field.offset) + side
            self.serialise(side, batch, row)
            self.field.insert(rows, times[row], self.scratch.data, self.scratch.used, False)
            if side == LEFT:
                self.note_due(times[row], slots[row])
                continue
            self.field.drop_first(rows, self.of_no_use(rows))
            if self.bounded and rows.n > 0:
                self.note_due(saturating_add(times[row], self.tolerance), slots[row])
        return 0

    cdef TimedRow* latest(self, TimedRows* right, int64_t time) noexcept nogil:
        cdef int32_t n
        cdef TimedRow* row
        if not self.exact:
            n = rows_below(right, time)
        else:
            n = right.n if time == INT64_MAX else rows_below(right, time + 1 + PLANTED("asof-takes-later-row"))
        if n == 0:
            return NULL
        row = &right.rows[right.head + n - 1]
        if self.bounded and row.time < saturating_subtract(time, self.tolerance) + PLANTED("asof-tolerance-exclusive"):
            return NULL
        return row

    cdef int32_t of_no_use(self, TimedRows* right) noexcept nogil:
        # Rows that wait are above the watermark: of the rows at or below it the last one hides the others.
        cdef int32_t n
        if self.watermark == INT64_MAX:
            return right.n
        n = rows_below(right, self.watermark + 1)
        if n > 0 and self.bounded and right.rows[right.head + n - 1].time <= saturating_subtract(self.watermark, self.tolerance):
            return n
        return n if PLANTED("asof-latest-freed") else max(n - 1, 0)

    cdef int emit_due(self, int64_t n) except -1 nogil:
        cdef int64_t i, slot, deadline
        cdef int32_t k
        cdef TimedRows* left
        cdef TimedRow* row
        cdef TimedRow* found
        for i in range(n):
            if i + FAR < n and self.slots[i + FAR] >= 0:
                prefetch(self.lookup.table.row(self.slots[i + FAR]) + self.field.offset)
            if i + NEAR < n and self.slots[i + NEAR] >= 0:
                left = <TimedRows*>(self.lookup.table.row(self.slots[i + NEAR]) + self.field.offset)
                prefetch(left.rows + left.head)
                prefetch(left[1].rows + left[1].head)
            if i + NEXT < n and self.slots[i + NEXT] >= 0:
                left = <TimedRows*>(self.lookup.table.row(self.slots[i + NEXT]) + self.field.offset)
                fetch_first(left)
                fetch_first(left + 1)
            if self.again(i):
                continue
            deadline = self.times[i]
            slot = self.slots[i]
            if slot < 0:
                continue
            left = <TimedRows*>(self.lookup.table.row(slot) + self.field.offset)
            for k in range(rows_below(left, deadline), left.n):
                row = &left.rows[left.head + k]
                if row.time > deadline:
                    break
                found = self.latest(left + 1, row.time)
                if found != NULL:
                    self.add_kept(row.data, row.size, found.data, found.size, row.time)
                elif self.keeps:
                    self.add_kept(row.data, row.size, NULL, 0, row.time)
        return self.flush_pairs(LEFT, NULL)

    cdef int release(self, int64_t slot, int64_t deadline) except -1 nogil:
        cdef TimedRows* left = <TimedRows*>(self.lookup.table.row(slot) + self.field.offset)
        self.field.drop_first(left, left.n if deadline == INT64_MAX else rows_below(left, deadline + 1))
        # As long as rows wait that are due already, they need what was the latest then.
        if left.n == 0 or left.rows[left.head].time > self.watermark:
            self.field.drop_first(left + 1, self.of_no_use(left + 1))
        return 0
