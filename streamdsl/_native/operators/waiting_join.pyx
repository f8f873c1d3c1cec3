"""See waiting_join.pxd."""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint32_t
from libc.stdlib cimport free, realloc

from streamdsl._native.includes.checked cimport CHECK, CHECKED_BUILD, PLANTED
from streamdsl._native.operators.join cimport LEFT, RIGHT
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.rows.timed_rows cimport TimedRows, fetch_first
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, deadline_in
from streamdsl._native.state.key_hash cimport hash_bytes, prefetch
from streamdsl._native.state.key_index cimport KeyIndex
from streamdsl._native.state.key_table cimport KeyTable, database_key
from streamdsl._native.state.cold_scan cimport FILED
from streamdsl._native.state.key_list cimport keys_clear, keys_free, keys_push
from streamdsl._native.state.row_table cimport ROW_LIVE, RowHeader
from streamdsl._native.state.slot_deadlines cimport SlotDeadline, SlotDeadlineList

from streamdsl._native.operators.declaration import Declaration, OwnTable

cdef enum:
    FAR = 16                 # deadlines ahead of which the key's row is fetched,
    NEAR = 8                 # and what it points at,
    NEXT = 4                 # and what that points at
    ID_BYTES = 8             # of the key of a row of the index: the number of a deadline, 0 in joins
    ROW_BYTES = 48           # what `SlotDeadlines` counts for the row of a deadline, beside itself
    LOOKED_AT = 4            # cold rows whenever W rises,
    PACE = 2                 # and for each row that has left,
    SWEEP_ROWS = 64          # as soon as so many have,
    MOST_SWEPT = 2048        # but so many in one go at most,
    MOST_SHARDS = 8          # of so many shards
    FIELD_HEAD = 6           # of a stored field: its number and size
    FIRST_SHIFT = 4          # hardly any two rows have one time: a list for each 16 ms
    HEAD_BYTES = DEADLINE_BYTES + ID_BYTES       # in front of the user's key


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for a join")


cdef class KeyDeadlines(SlotDeadlines):
    """`hints`: a deadline only has rows leave that nobody waits for. Such ones are not stored, and dropped when memory is short."""

    def __init__(self, Deadlines deadlines not None, KeyLookup lookup not None, TimedRowsField field not None, bint hints):
        SlotDeadlines.__init__(self, deadlines, lookup.table, True)
        self.field = field
        self.hints = hints
        self.round = 1
        self.lane[0].shift = FIRST_SHIFT

    cdef int note(self, int64_t time, int64_t slot) except -1 nogil:
        (<TimedRows*>(self.keys.row(slot) + self.field.offset)).listed += 1
        return self.add(0, time, 0, slot)

    cdef int taken(self, int64_t slot) except -1 nogil:
        cdef TimedRows* rows = <TimedRows*>(self.keys.row(slot) + self.field.offset)
        rows.listed -= 1
        CHECK(rows.listed >= 0, "what is taken was noted")
        return 0

    cdef int spill(self, int lane, const SlotDeadline* item) except -1 nogil:
        self.taken(item.slot)
        return SlotDeadlines.spill(self, lane, item)

    cdef int on_pressure(self) except -1 nogil:
        if not self.hints:
            return SlotDeadlines.on_pressure(self)
        self.pressed = True
        if self.on:
            self.on = False
            self.clear()
            self.lane[0].shift = FIRST_SHIFT
        return 0

    cdef int on_begin(self) except -1 nogil:
        if not self.hints:
            return SlotDeadlines.on_begin(self)
        if not self.on and not self.pressed:
            self.on = self.missing = True
            self.round += 1
        self.pressed = False
        return 0

    cdef int64_t memory(self) noexcept nogil:
        cdef int64_t rows = self.lane[0].count * (ROW_BYTES + self.deadlines.table.stride)
        return SlotDeadlines.memory(self) - (rows if self.hints else 0)      # they never become rows


cdef class WaitingJoinOperator(JoinOperator):
    """Base."""

    def __init__(self, spec, KeyLookup lookup not None):
        JoinOperator.__init__(self, spec, lookup)
        self.field = TimedRowsField(spec.name, [side.layout for side in spec.sides], spec.how)
        self.swept_key = b""

    def __dealloc__(self):
        keys_free(&self.wanted)
        free(self.slots)
        free(self.times)

    def declare(self):
        return Declaration(tables=(OwnTable("windows", "lane,time,id,({key})"),), deadlines=True)

    def open(self, context):
        self.lookup.add_field(self.field)
        self.deadlines = Deadlines(context.tables[0], 1, ID_BYTES, "deadlines")
        self.listed = KeyDeadlines(self.deadlines, self.lookup, self.field, not self.sorts)

    def restored(self):
        """Note the deadlines that stand in the table, once it has been loaded."""
        if not PLANTED("join-deadlines-not-restored"):
            self.deadlines.rebuild()
        self.listed.missing = self.listed.hints

    cdef int note_due(self, int64_t time, int64_t slot) except -1 nogil:
        cdef SlotDeadline item
        cdef const RowHeader* header
        cdef int64_t size
        if self.listed.hints:
            return self.listed.add(0, time, 0, slot) if self.listed.on else 0
        if self.listed.on:
            return self.listed.note(time, slot)
        item.time, item.id = time, 0
        header = self.lookup.table.header(slot)
        size = self.listed.tail_of(&item, header)
        self.deadlines.add(0, time, self.listed.tail.data, size, header.shard)
        return 0

    cdef int emit_due(self, int64_t n) except -1 nogil:
        return 0

    cdef int release(self, int64_t slot, int64_t deadline) except -1 nogil:
        return 0

    cdef int64_t first_due(self) noexcept nogil:
        return min(self.deadlines.first(0), self.listed.first(0))

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        if watermark <= self.watermark:          # both ports tell of it
            return 0
        CHECK(not self.closing, "time stands still while rows leave")
        self.watermark = watermark
        self.note_useless()
        if self.listed.missing and self.listed.on:
            self.listed.missing = False
            self.note_all()
        if self.listed.hints and self.lookup.table.total() > self.lookup.table.count:
            self.sweep(LOOKED_AT)
        self.closing = self.first_due() <= watermark and (
            watermark < INT64_MAX or self.deadlines.table.total() > 0 or self.listed.lane[0].count > 0)
        return 0 if self.closing else self.pass_on()

    # What is due -------------------------------------------------------------------------------------------------

    cdef int64_t take_due(self, int64_t most) except -1 nogil:
        # Rows and others are not due side by side: of what was in memory before a restore, or while memory is short, there are rows.
        self.as_rows = self.deadlines.count(0) > 0 and self.deadlines.first(0) <= self.watermark
        if not self.as_rows:
            return self.take_listed(most)
        if self.listed.lane[0].count > 0:
            self.listed.spill_due(0, self.watermark)
        return self.take_rows(most)

    cdef int reserve(self, int64_t n) except -1 nogil:
        cdef void* more
        if n <= self.capacity:
            return 0
        more = realloc(self.slots, 2 * n * sizeof(int64_t))
        if more == NULL:
            no_memory()
        self.slots = <int64_t*>more
        more = realloc(self.times, 2 * n * sizeof(int64_t))
        if more == NULL:
            no_memory()
        self.times = <int64_t*>more
        self.capacity = 2 * n
        return 0

    cdef int64_t take_rows(self, int64_t most) except -1 nogil:
        cdef int64_t i, n = self.deadlines.take_due(0, self.watermark, most)
        cdef RowHeader* header
        cdef KeyIndex* index = &self.lookup.table.index
        cdef uint32_t hash
        self.reserve(n)
        keys_clear(&self.wanted)
        for i in range(n):
            header = self.deadlines.table.header(self.deadlines.due[i])
            keys_push(&self.wanted, header.key + HEAD_BYTES, header.key_size - HEAD_BYTES, NULL, 0)
            hash = <uint32_t>hash_bytes(header.key + HEAD_BYTES, header.key_size - HEAD_BYTES, self.lookup.table.seed)
            prefetch(&index.entries[hash & index.mask])
        self.lookup.table.warm_up_keys(self.wanted.values.data, self.wanted.offsets, n)
        for i in range(n):
            header = self.deadlines.table.header(self.deadlines.due[i])
            self.slots[i] = self.lookup.table.find_in(header.key + HEAD_BYTES, header.key_size - HEAD_BYTES, header.shard)
            self.times[i] = deadline_in(header.key)
        return n

    cdef int64_t take_listed(self, int64_t most) except -1 nogil:
        cdef SlotDeadlineList* ready = &self.listed.lane[0].ready
        cdef int64_t i, n = 0
        while n == 0 and self.listed.lane[0].count > 0 and self.listed.first(0) <= self.watermark:
            self.listed.gather(0, self.watermark, most)
            if self.sorts:
                self.listed.sort(0)
            n = self.listed.piece(0, most, False)        # 0: one that has come since is due before
        self.reserve(n)
        for i in range(n):
            self.slots[i] = ready.at[ready.first].slot
            self.times[i] = ready.at[ready.first].time
            self.listed.over(0, &ready.at[ready.first])
            ready.first += 1
        return n

    cdef inline bint again(self, int64_t i) noexcept nogil:
        return i > 0 and self.slots[i] == self.slots[i - 1] and self.times[i] == self.times[i - 1]

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int64_t i, slot, n = self.take_due(most)
        cdef TimedRows* rows
        if n == 0:
            self.closing = False
            self.pass_on()
            return 0
        self.emit_due(n)                     # before the bytes go
        for i in range(n):
            if i + FAR < n and self.slots[i + FAR] >= 0:
                self.lookup.table.prefetch_row(self.slots[i + FAR])
            if i + NEAR < n and self.slots[i + NEAR] >= 0:
                rows = <TimedRows*>(self.lookup.table.row(self.slots[i + NEAR]) + self.field.offset)
                prefetch(rows.rows + rows.head)
                prefetch(rows[1].rows + rows[1].head)
            if i + NEXT < n and self.slots[i + NEXT] >= 0:
                rows = <TimedRows*>(self.lookup.table.row(self.slots[i + NEXT]) + self.field.offset)
                fetch_first(rows)
                fetch_first(rows + 1)
            slot = self.slots[i]
            # Two deadlines of one key may come together: the first one may have removed it.
            if slot >= 0 and self.lookup.table.header(slot).flags & ROW_LIVE:
                if not self.as_rows and not self.listed.hints:
                    self.listed.taken(slot)
                if not self.listed.hints or self.field.some_useless(self.lookup.table.row(slot) + self.field.offset):
                    self.lookup.table.touch(slot)
                self.release(slot, self.times[i])
                if self.lookup.table.empty(slot):
                    self.lookup.table.remove(slot)
            if self.as_rows:
                self.deadlines.remove(self.deadlines.due[i])
        self.end_batch()
        return n

    # Rows in the database alone -----------------------------------------------------------------------------------

    cdef void note_useless(self) noexcept nogil:
        pass

    cdef int note_all(self) except -1 nogil:
        return 0

    cdef int sweep(self, int64_t n) except -1 nogil:
        if max(self.field.useless_until[LEFT], self.field.useless_until[RIGHT]) == INT64_MIN:
            return 0                         # all are of use
        with gil:
            return self.sweep_rows(n)

    cdef int sweep_rows(self, int64_t n) except -1:
        """Delete those that are of no use any more: the next few in the order of the database, over and over."""
        cdef KeyTable table = self.lookup.table
        cdef const char* data
        cdef int32_t size
        cdef int64_t slot
        cdef int turns = 0
        while n > 0 and turns < MOST_SHARDS:
            if table.any_cold or table.cold_shards[self.swept_shard] > 0:
                turns += 1
                for key, value in table.backend.scan(database_key(self.swept_shard, table.id, b"", 0), self.swept_key):
                    self.swept_key = key
                    n -= 1
                    data = PyBytes_AS_STRING(key)
                    size = <int32_t>(len(key) - FILED)
                    if self.all_useless(value) and table.find_hashed(data + FILED, size, hash_bytes(data + FILED, size, table.seed)) < 0:
                        slot = table.take_back(key, value, not table.any_cold)
                        table.remove(slot)
                    if n == 0:
                        return 0
            elif self.swept_shard == table.shards - 1:
                turns += 1
            self.swept_shard = (self.swept_shard + 1) % table.shards
            self.swept_key = b""
        return 0

    cdef int keep_up(self) except -1 nogil:
        cdef int64_t n = min(self.lookup.table.unchecked, <int64_t>(MOST_SWEPT // PACE))
        if not self.listed.hints or n < (1 if CHECKED_BUILD else SWEEP_ROWS):
            return 0
        self.lookup.table.unchecked -= n
        return self.sweep(PACE * n)

    cdef bint all_useless(self, bytes value) except -1:
        # A stored row has one field only if no other operator keeps something for the key.
        cdef const char* data = PyBytes_AS_STRING(value)
        return (self.lookup.table.n_fields == 1 and len(value) > FIELD_HEAD
                and self.field.stored_useless(data + FIELD_HEAD, len(value) - FIELD_HEAD))

    def metrics(self):
        return {**JoinOperator.metrics(self), "deadlines": self.deadlines.table.total() + self.deadlines.beside()}
