"""See waiting_join.pxd."""
from libc.stdint cimport INT64_MAX, int64_t, uint32_t
from libc.stdlib cimport free, realloc

from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.rows.timed_rows cimport TimedRows
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, deadline_in
from streamdsl._native.state.key_hash cimport hash_bytes, prefetch
from streamdsl._native.state.key_index cimport KeyIndex
from streamdsl._native.state.key_list cimport keys_clear, keys_free, keys_push
from streamdsl._native.state.row_table cimport ROW_LIVE, RowHeader

from streamdsl._native.operators.declaration import Declaration, OwnTable

cdef enum:
    FAR = 16                 # deadlines ahead of which the key's row is fetched,
    NEAR = 8                 # and what it points at


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for a join")


cdef class WaitingJoinOperator(JoinOperator):
    """Base."""

    def __init__(self, spec, KeyLookup lookup not None):
        JoinOperator.__init__(self, spec, lookup)
        self.field = TimedRowsField(spec.name, [side.layout for side in spec.sides])

    def __dealloc__(self):
        keys_free(&self.wanted)
        free(self.slots)

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

    cdef int find_due(self, int64_t n) except -1 nogil:
        """Have the slots of the keys of the first n deadlines in `slots`."""
        cdef int64_t i
        cdef RowHeader* header
        cdef KeyIndex* index = &self.lookup.table.index
        cdef uint32_t hash
        cdef void* more
        if n > self.capacity:
            more = realloc(self.slots, 2 * n * sizeof(int64_t))
            if more == NULL:
                no_memory()
            self.slots = <int64_t*>more
            self.capacity = 2 * n
        keys_clear(&self.wanted)
        for i in range(n):
            header = self.deadlines.table.header(self.deadlines.due[i])
            keys_push(&self.wanted, header.key + DEADLINE_BYTES, header.key_size - DEADLINE_BYTES, NULL, 0)
            hash = <uint32_t>hash_bytes(header.key + DEADLINE_BYTES, header.key_size - DEADLINE_BYTES, self.lookup.table.seed)
            prefetch(&index.entries[hash & index.mask])
        self.lookup.table.warm_up_keys(self.wanted.values.data, self.wanted.offsets, n)
        for i in range(n):
            header = self.deadlines.table.header(self.deadlines.due[i])
            self.slots[i] = self.lookup.table.find_in(header.key + DEADLINE_BYTES, header.key_size - DEADLINE_BYTES, header.shard)
        return 0

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int64_t i, slot, n = self.deadlines.take_due(0, self.watermark, most)
        cdef RowHeader* header
        cdef TimedRows* rows
        if n == 0:
            self.closing = False
            self.pass_on()
            return 0
        self.find_due(n)
        self.emit_due(n)                     # before the bytes go
        for i in range(n):
            if i + FAR < n and self.slots[i + FAR] >= 0:
                prefetch(self.lookup.table.row(self.slots[i + FAR]) + self.field.offset)
            if i + NEAR < n and self.slots[i + NEAR] >= 0:
                rows = <TimedRows*>(self.lookup.table.row(self.slots[i + NEAR]) + self.field.offset)
                prefetch(rows.rows + rows.head)
                prefetch(rows[1].rows + rows[1].head)
            header = self.deadlines.table.header(self.deadlines.due[i])
            slot = self.slots[i]
            # Two deadlines of one key may come together: the first one may have removed it.
            if slot >= 0 and self.lookup.table.header(slot).flags & ROW_LIVE:
                self.lookup.table.touch(slot)
                self.release(slot, deadline_in(header.key))
                if self.lookup.table.empty(slot):
                    self.lookup.table.remove(slot)
            self.deadlines.remove(self.deadlines.due[i])
        self.end_batch()
        return n

    def metrics(self):
        return {**JoinOperator.metrics(self), "deadlines": self.deadlines.table.total()}
