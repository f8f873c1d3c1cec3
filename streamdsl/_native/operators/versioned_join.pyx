"""See versioned_join.pxd."""
from libc.stdint cimport INT64_MAX

from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, i64, is_valid
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.join cimport LEFT, RIGHT, JoinPort
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.table cimport says_removed
from streamdsl._native.rows.timed_rows cimport TimedRow, rows_below
from streamdsl._native.windows.assign cimport saturating_subtract


cdef class VersionedJoinOperator(JoinOperator):
    """The left side is the stream, the right one the rows of the table, in whatever order of time."""

    def __init__(self, spec, KeyLookup lookup not None):
        JoinOperator.__init__(self, spec, lookup)
        self.keeps = spec.how == "left"
        self.removed = spec.removed
        self.keep_ms = spec.keep_ms
        self.field = TimedRowsField(spec.name, [spec.sides[RIGHT].layout], "versions")

    def open(self, context):
        self.lookup.add_field(self.field)

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil:
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int32_t row
        cdef TimedRows* rows
        for row in range(batch.n):
            rows = <TimedRows*>(self.lookup.table.row(slots[row]) + self.field.offset)
            if port.side == LEFT:
                self.look(batch, row, rows)
                continue
            self.lookup.table.touch(slots[row])
            self.put(batch, row, rows)
            self.purge(rows, self.lookup.lateness_watermark(slots[row]))
        return self.flush_pairs(LEFT, batch)

    cdef int look(self, Batch* batch, int32_t row, TimedRows* rows) except -1 nogil:
        cdef int64_t time = i64(&batch.sys[SYS_TIME])[row]
        cdef int32_t at = rows.n if time == INT64_MAX else rows_below(rows, time + 1 + 40 * PLANTED("version-of-later"))
        cdef TimedRow* found = NULL if at == 0 else &rows.rows[rows.head + at - 1]
        if at == 0 and rows.n > 0:
            self.expired += 1
        if found != NULL and not found.marked:
            return self.add_pair(LEFT, batch, row, found.data, found.size, time)
        return self.add_pair(LEFT, batch, row, NULL, 0, time) if self.keeps else 0

    cdef int put(self, Batch* batch, int32_t row, TimedRows* rows) except -1 nogil:
        """Take a version; one of the same time that was there is behind it."""
        cdef int i, said = says_removed(batch, self.removed, row)
        if said < 0:
            said = self.sides[RIGHT].width > 0       # the key's columns are not among them
            for i in range(self.sides[RIGHT].width):
                said = said and not is_valid(&batch.columns[self.sides[RIGHT].columns[i]], row)
        self.serialise(RIGHT, batch, row)
        return self.field.insert(rows, i64(&batch.sys[SYS_TIME])[row], self.scratch.data, 0 if said else self.scratch.used, said)

    cdef int purge(self, TimedRows* rows, int64_t watermark) except -1 nogil:
        # The last version at the bound or before it still holds there. The last one of all always stays.
        cdef int32_t n = 0
        cdef int64_t bound = saturating_subtract(watermark, self.keep_ms)
        while n + 1 < rows.n and rows.rows[rows.head + n + 1].time <= bound:
            n += 1
        if n > 0:
            self.field.drop_first(rows, n)
        return 0

    def metrics(self):
        return {**JoinOperator.metrics(self), "expired": self.expired}
