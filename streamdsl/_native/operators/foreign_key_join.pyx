"""See foreign_key_join.pxd.

Changes of the left table come as rows that are taken out and rows that are put in, each to the task of the key that it names. So
the two halves of one change may meet two tasks, and reach whoever puts the output together in either order. They carry the version
of the left row, by which the later one counts (`TableOperator.version`).
"""
from streamdsl._native.aggregates.packed_row cimport packed_same
from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, i64
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.changes_join cimport ADD, REPLACE, WITHDRAW
from streamdsl._native.operators.join cimport LEFT, RIGHT, JoinPort
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.rows.timed_rows cimport TimedRow, rows_below


cdef class ForeignKeyJoinOperator(ChangesJoinOperator):
    def __init__(self, spec, KeyLookup lookup not None):
        ChangesJoinOperator.__init__(self, spec, lookup)
        self.version, self.n_keys = spec.version, spec.n_keys
        self.field = TimedRowsField(spec.name, [side.layout for side in spec.sides], "foreign keys")

    def open(self, context):
        self.lookup.add_field(self.field)

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil:
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int32_t row
        cdef int64_t time
        cdef TimedRows* left
        self.cause = batch
        for row in range(batch.n):
            self.cause_row = row
            time = i64(&batch.sys[SYS_TIME])[row]
            self.lookup.table.touch(slots[row])
            left = <TimedRows*>(self.lookup.table.row(slots[row]) + self.field.offset)
            if port.side == LEFT:
                self.take_left(batch, row, time, left)
            else:
                self.take_right(batch, row, time, left)
        return self.send()

    cdef int take_unkeyed(self, JoinPort port, Batch* batch) except -1 nogil:
        """Rows of the left side that name nothing."""
        cdef int32_t row
        self.cause = batch
        for row in range(batch.n):
            self.cause_row = row
            self.serialise(LEFT, batch, row)
            self.note(WITHDRAW if self.removes(LEFT, batch, row) else ADD, self.scratch.data, self.scratch.used, NULL, 0,
                      i64(&batch.sys[SYS_TIME])[row])
        return self.send()

    cdef int take_left(self, Batch* batch, int32_t row, int64_t time, TimedRows* left) except -1 nogil:
        cdef TimedRows* right = left + 1
        cdef TimedRow* held = right.rows + right.head
        cdef bint shown = right.n > 0 or self.keeps[LEFT]
        cdef bint removes = self.removes(LEFT, batch, row)
        cdef int64_t version = i64(&batch.columns[self.version])[row]
        cdef int32_t at
        self.serialise(LEFT, batch, row)
        if removes:
            at = self.place(left, version)
            if at < 0:
                return 0
            self.field.drop_one(left, at)
        else:
            self.field.insert(left, version, self.scratch.data, self.scratch.used, 0)
        if not shown:
            return 0
        return self.note(WITHDRAW if removes else ADD, self.scratch.data, self.scratch.used,
                         held.data if right.n > 0 else NULL, held.size if right.n > 0 else 0, time)

    cdef int take_right(self, Batch* batch, int32_t row, int64_t time, TimedRows* left) except -1 nogil:
        cdef TimedRows* right = left + 1
        cdef TimedRow* one
        cdef TimedRow held
        cdef int32_t i
        cdef bint removes = self.removes(RIGHT, batch, row), was_there = right.n > 0
        if (removes and not was_there) or (removes and PLANTED("named-row-not-withdrawn")):
            return 0
        if was_there:
            held = right.rows[right.head]
        self.serialise(RIGHT, batch, row)
        for i in range(left.n):
            one = &left.rows[left.head + i]
            if not removes:
                self.note(REPLACE if was_there or self.keeps[LEFT] else ADD, one.data, one.size, self.scratch.data, self.scratch.used, time)
            elif self.keeps[LEFT]:
                self.note(REPLACE, one.data, one.size, NULL, 0, time)
            else:
                self.note(WITHDRAW, one.data, one.size, held.data, held.size, time)
        self.field.drop_first(right, right.n)
        return 0 if removes else self.field.insert(right, 0, self.scratch.data, self.scratch.used, 0)

    cdef int32_t place(self, const TimedRows* left, int64_t version) except? -2 nogil:
        # Tasks number their rows by themselves: two keys may have rows of one version.
        cdef int32_t at = rows_below(left, version)
        cdef const TimedRow* one
        while at < left.n and left.rows[left.head + at].time == version:
            one = &left.rows[left.head + at]
            if packed_same(&self.sides[LEFT].format, one.data, one.size, self.scratch.data, self.scratch.used, self.n_keys):
                return at
            at += 1
        return -1
