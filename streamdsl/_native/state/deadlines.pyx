"""See deadlines.pxd.

Hot rows stand in a heap that compares times alone: many rows share one, and those that are due together are sorted by key then.
Of cold rows little is known (cold_deadlines.pxd): before a row is taken, the cold ones that could come before it are read, a few
at a time. What is due next is held in memory until it has been removed; other rows may become cold between two pieces.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport INT64_MAX, INT64_MIN, uint32_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcpy, memmove

from streamdsl._native.includes.checked cimport CHECKED_BUILD, PLANTED
from streamdsl._native.state.cold_deadlines cimport (
    cold_add, cold_first, cold_free, cold_init, cold_memory, cold_precedes, cold_raise, cold_remove, cold_start,
)
from streamdsl._native.state.cold_scan cimport FILED, ColdScan, open_scan
from streamdsl._native.state.deadline_heap cimport heap_pop, heap_push
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, big_endian, deadline_in, key_order, put_deadline
from streamdsl._native.state.key_hash cimport hash_bytes, prefetch
from streamdsl._native.state.row_table cimport ROW_GONE, ROW_LIVE, ROW_RECENT, ROW_STORED

from streamdsl.errors import InternalError, StateError

cdef enum:
    READ_AHEAD = 256           # cold rows that are read at least: to open a scan costs more than a few hundred rows,
    MOST_READ = 16384          # and more of them where there is room: one
    BYTES_READ = 4096          # for so many bytes of the limit
    AHEAD = 8                  # rows whose keys are fetched before they are looked at
    READ_FEW = 3               # the same in the checked build


cdef struct SortedRow:
    int64_t time
    uint64_t head              # the 16 bytes behind the time, as numbers: most keys differ there
    uint64_t next
    int64_t slot
    const RowHeader* header


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for deadlines")


cdef int damaged_key(Deadlines deadlines) except -1 nogil:
    with gil:
        raise StateError(f"table {deadlines.table.name!r} holds something that is not of its {deadlines.what}",
                         remedy="the checkpoint is damaged: restore an older one")


cdef int by_key(const void* left, const void* right) noexcept nogil:
    cdef const SortedRow* a = <const SortedRow*>left
    cdef const SortedRow* b = <const SortedRow*>right
    if a.time != b.time:
        return -1 if a.time < b.time else 1
    if a.head != b.head:
        return -1 if a.head < b.head else 1
    if a.next != b.next:
        return -1 if a.next < b.next else 1
    return key_order(a.header.key, a.header.key_size, b.header.key, b.header.key_size)


cdef uint64_t number_at(const RowHeader* header, int64_t offset) noexcept nogil:
    cdef char[8] padded
    cdef int64_t left = header.key_size - offset
    if left >= 8:
        return big_endian(header.key + offset)
    (<uint64_t*>padded)[0] = 0
    if left > 0:
        memcpy(padded, header.key + offset, left)
    return big_endian(padded)


cdef class Deadlines(ColdListener):
    """`table` belongs to the index alone, as does its listener; `tail_bytes` of a key stand between its deadline and the user's key."""

    def __init__(self, KeyTable table not None, int lanes, int tail_bytes, str what not None):
        cdef int lane
        if not 0 < lanes <= MOST_LANES:
            raise InternalError(f"{lanes} lanes of deadlines")
        self.table = table
        self.lanes = lanes
        self.what = what
        self.reading = -1
        self.read_ahead = READ_AHEAD
        table.prefix = DEADLINE_BYTES + tail_bytes
        table.evictable = True
        table.listener = self
        for lane in range(lanes):
            cold_init(&self.lane[lane].cold)

    def __dealloc__(self):
        cdef int lane
        for lane in range(MOST_LANES):
            free(self.lane[lane].heap.at)
            free(self.lane[lane].held.at)
            free(self.lane[lane].read.at)
            cold_free(&self.lane[lane].cold)
        free(self.due)
        free(self.scratch)

    cdef char* key_of(self, int lane, int64_t time, const char* tail, int64_t size) except NULL nogil:
        cdef char* more
        if DEADLINE_BYTES + size > self.scratch_capacity:
            more = <char*>realloc(self.scratch, 2 * (DEADLINE_BYTES + size))
            if more == NULL:
                no_memory()
            self.scratch = more
            self.scratch_capacity = 2 * (DEADLINE_BYTES + size)
        put_deadline(self.scratch, lane, time)
        memcpy(self.scratch + DEADLINE_BYTES, tail, size)
        return self.scratch

    cdef int64_t find(self, int lane, int64_t time, const char* tail, int64_t size, int32_t shard) except -1 nogil:
        return self.table.find_in(self.key_of(lane, time, tail, size), <int32_t>(DEADLINE_BYTES + size), shard)

    cdef int64_t add(self, int lane, int64_t time, const char* tail, int64_t size, int32_t shard) except -1 nogil:
        # What find and insert do one after another, with one look.
        cdef char* key = self.key_of(lane, time, tail, size)
        cdef int32_t key_size = <int32_t>(DEADLINE_BYTES + size)
        cdef uint64_t hash = hash_bytes(key, key_size, self.table.seed)
        cdef int64_t slot = self.table.find_hashed(key, key_size, hash)
        if slot < 0 and self.table.may_be_cold(hash):
            slot = self.table.fetch(key, key_size, shard)
            if slot >= 0:
                return slot
        if slot < 0:
            slot = self.table.place(key, key_size, hash, shard, True)
        elif self.table.header(slot).flags & ROW_GONE:
            self.table.revive(slot)
        else:
            self.table.header(slot).flags |= ROW_RECENT
            return slot
        self.note(slot)
        return slot

    cdef int bury(self, const char* key, int32_t size, int32_t shard) except -1 nogil:
        cdef uint64_t hash = hash_bytes(key, size, self.table.seed)
        cdef int64_t slot = self.table.find_hashed(key, size, hash)
        cdef bint here = slot >= 0
        if not here:
            slot = self.table.place(key, size, hash, shard, True)
        self.table.header(slot).flags |= ROW_STORED
        return 0 if here else self.table.remove(slot)

    cdef int note(self, int64_t slot) except -1 nogil:
        self.lane[<unsigned char>self.table.header(slot).key[0]].rows += 1
        return self.stand(slot)

    cdef int stand(self, int64_t slot) except -1 nogil:
        cdef const RowHeader* header = self.table.header(slot)
        cdef Lane* lane = &self.lane[<unsigned char>header.key[0]]
        # What has gone cold, or is gone, stays in the heap: no more of that than of what is hot.
        if lane.heap.n > 2 * self.table.count + 64:
            return self.rebuild()
        return self.push(lane, deadline_in(header.key), slot)

    cdef int drop(self, int64_t slot) except -1 nogil:
        cdef const RowHeader* header = self.table.header(slot)
        cdef Lane* lane = &self.lane[<unsigned char>header.key[0]]
        if header.held:
            self.forget(&lane.held, slot)
            self.forget(&lane.read, slot)
        return self.remove(slot)

    cdef int remove(self, int64_t slot) except -1 nogil:
        self.lane[<unsigned char>self.table.header(slot).key[0]].rows -= 1
        return self.table.remove(slot)

    cdef int64_t count(self, int lane) noexcept nogil:
        return self.lane[lane].rows

    cdef void forget(self, SlotRun* run, int64_t slot) noexcept nogil:
        cdef int64_t i
        for i in range(run.first, run.n):
            if run.at[i] == slot:
                memmove(run.at + run.first + 1, run.at + run.first, (i - run.first) * sizeof(int64_t))
                run.first += 1
                return

    cdef int64_t first(self, int lane) noexcept nogil:
        cdef Lane* of = &self.lane[lane]
        cdef int64_t time = cold_first(&of.cold)
        if of.held.first < of.held.n:
            time = min(time, deadline_in(self.table.header(of.held.at[of.held.first]).key))
        if of.read.first < of.read.n:
            time = min(time, deadline_in(self.table.header(of.read.at[of.read.first]).key))
        while of.heap.n > 0 and not self.stands(lane, &of.heap.at[0]):
            heap_pop(&of.heap)
        return min(time, of.heap.at[0].time) if of.heap.n > 0 else time

    # What is due ------------------------------------------------------------------------------------------------

    cdef int64_t take_due(self, int lane, int64_t limit, int64_t most) except -1 nogil:
        cdef Lane* of = &self.lane[lane]
        cdef int64_t n
        while True:
            self.gather(lane, limit, most)
            n = self.merge_runs(of, most)
            if n > 0 or of.cold.n == 0 or cold_first(&of.cold) > limit:
                return n
            self.read_cold(lane, limit, most)

    cdef int64_t take_earlier(self, const char* key, int64_t size) except? -1 nogil:
        cdef Lane* of = &self.lane[<unsigned char>key[0]]
        cdef const RowHeader* header
        if of.heap.n > 0 and of.heap.at[0].time <= deadline_in(key):
            self.gather(<unsigned char>key[0], deadline_in(key), 1)
        if of.held.first == of.held.n:
            return -1
        header = self.table.header(of.held.at[of.held.first])
        if key_order(header.key, header.key_size, key, size) >= 0:
            return -1
        of.held.first += 1
        return of.held.at[of.held.first - 1]

    cdef int put_back(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.table.header(slot)
        header.held = 0
        header.flags |= ROW_RECENT
        return self.push(&self.lane[<unsigned char>header.key[0]], deadline_in(header.key), slot)

    cdef int gather(self, int lane, int64_t limit, int64_t most) except -1 nogil:
        """Have so many of the hot rows in `held` that are due, if there are, and all of the times that are in it."""
        cdef Lane* of = &self.lane[lane]
        cdef SlotRun* held = &of.held
        cdef int64_t first
        cdef bint behind = False
        cdef SlotDeadline top
        if held.first == held.n:
            held.first = held.n = 0
            of.covered = INT64_MIN
        first = held.n
        while of.heap.n > 0 and of.heap.at[0].time <= limit and (held.n - held.first < most or of.heap.at[0].time <= of.covered):
            top = of.heap.at[0]
            heap_pop(&of.heap)
            if not self.stands(lane, &top):
                continue
            if held.n > held.first and top.time <= of.covered:
                behind = behind or first > held.first    # it has come since, and stands among those that were sorted before
            of.covered = max(of.covered, top.time)
            self.table.header(top.slot).held = 1
            self.table.header(top.slot).flags |= ROW_RECENT          # should it stand in the evictor's queue: it is wanted
            self.keep(held, top.slot)
        if held.n > first:
            self.sort_run(held, held.first if behind else first)
        return 0

    cdef int64_t merge_runs(self, Lane* lane, int64_t most) except -1 nogil:
        """Take from both runs what no cold row comes before."""
        cdef int64_t n = 0, slot
        cdef bint from_read
        cdef const RowHeader* header
        cdef int64_t* more
        if self.due_capacity < most:
            most = min(most, (lane.held.n - lane.held.first) + (lane.read.n - lane.read.first))
        if self.due_capacity < most:
            more = <int64_t*>realloc(self.due, 2 * most * sizeof(int64_t))
            if more == NULL:
                no_memory()
            self.due = more
            self.due_capacity = 2 * most
        while n < most and (lane.held.first < lane.held.n or lane.read.first < lane.read.n):
            from_read = lane.held.first == lane.held.n or (
                lane.read.first < lane.read.n and self.order(lane.read.at[lane.read.first], lane.held.at[lane.held.first]) < 0)
            slot = lane.read.at[lane.read.first] if from_read else lane.held.at[lane.held.first]
            if lane.cold.n > 0:
                header = self.table.header(slot)
                if cold_precedes(&lane.cold, header.key, header.key_size):
                    break
            self.due[n] = slot
            n += 1
            if from_read:
                lane.read.first += 1
            else:
                lane.held.first += 1
        return n

    cdef int read_cold(self, int lane, int64_t limit, int64_t most) except -1 nogil:
        """Bring the next cold rows back, about half as many as are wanted: the others are in memory already."""
        cdef Lane* of = &self.lane[lane]
        cdef char[DEADLINE_BYTES] end
        cdef const RowHeader* last = NULL
        cdef int64_t wanted = max(most >> 1, <int64_t>READ_FEW if CHECKED_BUILD else self.read_ahead)
        cdef const char* bound = NULL
        cdef int64_t bound_size = 0
        cdef bint exclusive = False
        cdef int64_t before = of.read.n - of.read.first
        if of.read.first > 0:
            memmove(of.read.at, of.read.at + of.read.first, before * sizeof(int64_t))
        of.read.first, of.read.n = 0, before
        if of.held.n - of.held.first >= wanted:
            last = self.table.header(of.held.at[of.held.first + wanted - 1])
            bound, bound_size = last.key, last.key_size
        elif limit < INT64_MAX:
            # What an empty key is filed under is its deadline alone, and equals the bound: it is not due.
            put_deadline(end, lane, limit + 1)
            bound, bound_size = end, DEADLINE_BYTES
            exclusive = True
        with gil:
            self.read_rows(lane, wanted, bound, bound_size, exclusive)
        # Those that had been read before may stand behind: others have become cold since.
        return self.sort_run(&of.read, 0) if before > 0 else 0

    cdef int read_rows(self, int lane, int64_t wanted, const char* bound, int64_t bound_size, bint exclusive) except -1:
        cdef Lane* of = &self.lane[lane]
        cdef ColdScan scan = open_scan(self.table, bytes((lane,)), cold_start(&of.cold, lane))
        self.reading = lane
        try:
            scan.read(wanted, bound, bound_size, exclusive)
        finally:
            self.reading = -1
        if scan.next_key is not None:
            cold_raise(&of.cold, PyBytes_AS_STRING(scan.next_key) + FILED, len(scan.next_key) - FILED)
        elif of.cold.n > 0:
            raise StateError(f"the database has lost {of.cold.n} {self.what} of table {self.table.name!r}",
                             remedy="start again from the last checkpoint")
        return 0

    cdef int keep(self, SlotRun* run, int64_t slot) except -1 nogil:
        cdef int64_t* more
        if run.n == run.capacity:
            more = <int64_t*>realloc(run.at, (2 * run.n + 64) * sizeof(int64_t))
            if more == NULL:
                no_memory()
            run.at = more
            run.capacity = 2 * run.n + 64
        run.at[run.n] = slot
        run.n += 1
        return 0

    cdef int sort_run(self, SlotRun* run, int64_t first) except -1 nogil:
        cdef int64_t i, n = run.n - first
        cdef SortedRow* rows
        cdef const RowHeader* header
        if n < 2 or PLANTED("deadlines-unsorted"):
            return 0
        rows = <SortedRow*>realloc(NULL, n * sizeof(SortedRow))
        if rows == NULL:
            no_memory()
        for i in range(n):
            if i + AHEAD < n:
                prefetch(self.table.header(run.at[first + i + AHEAD]).key)
            header = self.table.header(run.at[first + i])
            rows[i].slot = run.at[first + i]
            rows[i].header = header
            rows[i].time = deadline_in(header.key)
            rows[i].head = number_at(header, DEADLINE_BYTES)
            rows[i].next = number_at(header, DEADLINE_BYTES + 8)
        qsort(rows, n, sizeof(SortedRow), by_key)
        for i in range(n):
            run.at[first + i] = rows[i].slot
        free(rows)
        return 0

    cdef int order(self, int64_t left, int64_t right) noexcept nogil:
        cdef const RowHeader* a = self.table.header(left)
        cdef const RowHeader* b = self.table.header(right)
        return key_order(a.key, a.key_size, b.key, b.key_size)

    # Cold rows --------------------------------------------------------------------------------------------------

    cdef int on_cold(self, const RowHeader* header) except -1 nogil:
        if header.key_size < DEADLINE_BYTES or <unsigned char>header.key[0] >= self.lanes:
            damaged_key(self)
        return cold_add(&self.lane[<unsigned char>header.key[0]].cold, header.key, header.key_size)

    cdef int on_hot(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.table.header(slot)
        cdef int lane = <unsigned char>header.key[0]
        cold_remove(&self.lane[lane].cold, header.key, header.key_size)
        if lane != self.reading:
            return self.stand(slot)
        header.held = 1
        return self.keep(&self.lane[lane].read, slot)    # they come in the order of their keys

    cdef int on_cleared(self) except -1 nogil:
        cdef int lane
        for lane in range(self.lanes):
            self.lane[lane].heap.n = self.lane[lane].held.n = self.lane[lane].held.first = 0
            self.lane[lane].read.n = self.lane[lane].read.first = 0
        return 0 if self.slots is None else self.slots.on_cleared()

    def beside(self):
        """Return how many deadlines are no rows."""
        return 0 if self.slots is None else self.slots.beside()

    cdef int on_begin(self) except -1 nogil:
        return 0 if self.slots is None else self.slots.on_begin()

    cdef int64_t on_drain(self, int64_t most) except -1 nogil:
        return 0 if self.slots is None else self.slots.on_drain(most)

    cdef bint behind(self) noexcept nogil:
        return self.slots is not None and self.slots.behind()

    cdef int on_pressure(self) except -1 nogil:
        return 0 if self.slots is None else self.slots.on_pressure()

    cdef int on_limit(self, int64_t limit) except -1:
        self.read_ahead = max(<int64_t>READ_AHEAD, min(limit // BYTES_READ, <int64_t>MOST_READ))
        return 0

    cdef int64_t memory(self) noexcept nogil:
        cdef int64_t size = self.due_capacity * sizeof(int64_t) + (0 if self.slots is None else self.slots.memory())
        cdef int lane
        for lane in range(self.lanes):
            size += (self.lane[lane].heap.capacity * sizeof(SlotDeadline) + cold_memory(&self.lane[lane].cold)
                     + (self.lane[lane].held.capacity + self.lane[lane].read.capacity) * sizeof(int64_t))
        return size

    # The heaps --------------------------------------------------------------------------------------------------

    cdef bint stands(self, int lane, SlotDeadline* entry) noexcept nogil:
        """Whether the entry's row is in memory and waits; a slot may have got another row since."""
        cdef const RowHeader* header
        if entry.slot >= self.table.used:
            return False
        header = self.table.header(entry.slot)
        return (header.flags & ROW_LIVE and not header.held and <unsigned char>header.key[0] == lane
                and deadline_in(header.key) == entry.time)

    cdef int rebuild(self) except -1 nogil:
        cdef int64_t slot = self.table.first_slot(0)
        cdef int lane
        cdef RowHeader* header
        for lane in range(self.lanes):
            self.lane[lane].heap.n = 0
            self.lane[lane].rows = self.lane[lane].cold.n
        while slot >= 0:
            header = self.table.header(slot)
            if header.key_size < self.table.prefix or <unsigned char>header.key[0] >= self.lanes:
                damaged_key(self)
            self.lane[<unsigned char>header.key[0]].rows += 1
            if not header.held:
                self.push(&self.lane[<unsigned char>header.key[0]], deadline_in(header.key), slot)
            slot = self.table.first_slot(slot + 1)
        return 0

    cdef int push(self, Lane* lane, int64_t time, int64_t slot) except -1 nogil:
        cdef SlotDeadline entry
        entry.time, entry.id, entry.slot, entry.stored = time, 0, <uint32_t>slot, 0
        return heap_push(&lane.heap, &entry)
