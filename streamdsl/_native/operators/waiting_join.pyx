"""See waiting_join.pxd."""
from libc.stdint cimport INT64_MAX, int64_t

from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, deadline_in
from streamdsl._native.state.key_list cimport keys_clear, keys_free, keys_push
from streamdsl._native.state.row_table cimport RowHeader

from streamdsl._native.operators.declaration import Declaration, OwnTable


cdef class WaitingJoinOperator(JoinOperator):
    """Base."""

    def __init__(self, spec, KeyLookup lookup not None):
        JoinOperator.__init__(self, spec, lookup)
        self.field = TimedRowsField(spec.name, [side.layout for side in spec.sides])

    def __dealloc__(self):
        keys_free(&self.wanted)

    def declare(self):
        return Declaration(tables=(OwnTable("windows", "lane,time,({key})"),), deadlines=True)

    def open(self, context):
        self.lookup.add_field(self.field)
        self.deadlines = Deadlines(context.tables[0], 1, 0, "deadlines")

    def restored(self):
        """Note the deadlines that stand in the table, once it has been loaded."""
        if not PLANTED("join-deadlines-not-restored"):
            self.deadlines.rebuild()

    cdef int note_due(self, int64_t time, int64_t slot) except -1 nogil:
        cdef const RowHeader* header = self.lookup.table.header(slot)
        self.deadlines.add(0, time, header.key, header.key_size, header.shard)
        return 0

    cdef int emit_due(self, int64_t n) except -1 nogil:
        return 0

    cdef int release(self, int64_t slot, int64_t deadline) except -1 nogil:
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        if watermark <= self.watermark:          # both ports tell of it
            return 0
        CHECK(not self.closing, "time stands still while rows leave")
        self.watermark = watermark
        self.closing = self.deadlines.first(0) <= watermark and (watermark < INT64_MAX or self.deadlines.table.total() > 0)
        return 0 if self.closing else self.pass_on()

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int64_t i, slot, n = self.deadlines.take_due(0, self.watermark, most)
        cdef RowHeader* header
        if n == 0:
            self.closing = False
            self.pass_on()
            return 0
        keys_clear(&self.wanted)
        for i in range(n):
            header = self.deadlines.table.header(self.deadlines.due[i])
            keys_push(&self.wanted, header.key + DEADLINE_BYTES, header.key_size - DEADLINE_BYTES, NULL, 0)
        self.lookup.table.warm_up_keys(self.wanted.values.data, self.wanted.offsets, self.wanted.n)
        self.emit_due(n)                     # before the bytes go
        for i in range(n):
            header = self.deadlines.table.header(self.deadlines.due[i])
            slot = self.lookup.table.find_in(header.key + DEADLINE_BYTES, header.key_size - DEADLINE_BYTES, header.shard)
            if slot >= 0:
                self.lookup.table.touch(slot)
                self.release(slot, deadline_in(header.key))
                if self.lookup.table.empty(slot):
                    self.lookup.table.remove(slot)
            self.deadlines.remove(self.deadlines.due[i])
        self.end_batch()
        return n

    def metrics(self):
        return {**JoinOperator.metrics(self), "deadlines": self.deadlines.table.total()}
