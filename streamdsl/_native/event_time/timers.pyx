"""See timers.pxd.

A timer is a row whose key is all there is, in the order in which timers fire (timer_entry.pxd). Those in memory stand in a heap
as well; of those in the database alone little is known (state/cold_deadlines.pxd). Before one fires, the cold ones that could come
before it are read, in the order of the database, which is the same.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport INT64_MAX, int32_t, uint64_t

from streamdsl._native.event_time.timer_entry cimport (
    CLOCK_EVENT, CLOCK_PROCESSING, CLOCKS, PUT_OFF, timer_entry, timer_of,
)
from streamdsl._native.includes.checked cimport CHECK, CHECKED_BUILD, PLANTED
from streamdsl._native.state.cold_deadlines cimport (
    cold_add, cold_first, cold_free, cold_init, cold_memory, cold_precedes, cold_raise, cold_remove, cold_start, cold_until,
)
from streamdsl._native.state.cold_scan cimport FILED, ColdScan, open_scan
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, deadline_in, put_deadline
from streamdsl._native.state.hash_set cimport hashes_add, hashes_free, hashes_have
from streamdsl._native.state.key_hash cimport hash_bytes
from streamdsl._native.state.row_table cimport ROW_LIVE, RowHeader

from heapq import heapify, heappop, heappush

from streamdsl.errors import StateError

cdef enum:
    READ_AHEAD = 256           # cold timers that are read at least, if so many are due: to open the scans costs more than a few rows
    READ_FEW = 5               # the same in the checked build
    ENTRY_BYTES = 49           # of an entry on Python's heap beside its own: the object's head, its place in the list

EVENT = CLOCK_EVENT
PROCESSING = CLOCK_PROCESSING


cdef int damaged_table(KeyTable table) except -1 nogil:
    with gil:
        raise StateError(f"table {table.name!r} holds something that is not a timer",
                         remedy="the checkpoint is damaged: restore an older one")


cdef bint in_order(list heap) noexcept:
    return len(heap) < 2 or heap[0] <= heap[1]


cdef class TimerService(ColdListener):
    """Timers per key, time and name, on two clocks.

    A timer that is set twice is set once. The heaps may name timers that no longer count: the table says which ones do.

    Parameters
    ----------
    table : KeyTable
        Of its own, without fields.
    """

    def __init__(self, KeyTable table not None):
        cdef int clock
        self.table = table
        table.evictable = True
        table.listener = self
        self.heaps = [[] for _ in range(CLOCKS)]
        for clock in range(CLOCKS):
            self.next_times[clock] = INT64_MAX
            cold_init(&self.cold[clock])

    def __dealloc__(self):
        cdef int clock
        for clock in range(CLOCKS):
            cold_free(&self.cold[clock])
        hashes_free(&self.marks)

    cdef int64_t next_time(self, int clock) noexcept nogil:
        return self.next_times[clock]

    cdef bint any_due(self, int clock, int64_t now) noexcept nogil:
        return self.next_times[clock] <= now and (now < INT64_MAX or self.table.total() > 0)

    cdef int noted(self, int clock) except -1:
        cdef list heap = self.heaps[clock]
        cdef int64_t time = cold_first(&self.cold[clock])
        if heap:
            time = min(time, deadline_in(PyBytes_AS_STRING(<bytes>heap[0])))
        self.next_times[clock] = time
        return 0

    cdef int note_all(self) except -1:
        cdef int clock
        for clock in range(CLOCKS):
            self.noted(clock)
        return 0

    # -- set and cancelled

    def set(self, bytes key not None, int shard, int64_t time, str name not None="", int clock=CLOCK_EVENT):
        """Set a timer for a key of a shard; without effect if it is set already."""
        self.put(timer_entry(clock, time, key, name), shard)

    def cancel(self, bytes key not None, int shard, int64_t time, str name not None="", int clock=CLOCK_EVENT):
        """Cancel a timer; return whether it was set."""
        return self.drop(timer_entry(clock, time, key, name), shard)

    cdef bint put(self, bytes entry, int shard) except -1:
        cdef const char* data = PyBytes_AS_STRING(entry)
        cdef int32_t size = <int32_t>len(entry)
        cdef int clock = <unsigned char>data[0]
        if self.table.find_in(data, size, shard) >= 0:
            return False
        self.table.insert(data, size, shard)
        self.push(entry)
        if deadline_in(data) < self.next_times[clock]:
            self.next_times[clock] = deadline_in(data)
        return True

    cdef bint drop(self, bytes entry, int shard) except -1:
        cdef int64_t slot = self.table.find_in(PyBytes_AS_STRING(entry), <int32_t>len(entry), shard)
        if slot < 0:
            return False
        self.table.remove(slot)
        if self.n_entries > 2 * self.table.count + 64:
            self.rebuild()       # timers that are put off again and again must not pile up in the heap
        return True

    cdef int64_t put_on(self, int clock, int64_t most) except -1:
        cdef list put_off = self.take_due(PUT_OFF + clock, INT64_MAX, most)
        cdef bytes entry
        cdef int64_t slot
        cdef int shard
        for item in put_off:
            entry = <bytes>item
            slot = self.slot_of(entry)
            shard = self.table.header(slot).shard
            self.table.remove(slot)
            if not PLANTED("put-off-timer-lost"):
                self.put(bytes((clock,)) + entry[1:], shard)
        return len(put_off)

    cdef bint put_off(self, bytes entry) except -1:
        cdef int64_t slot = self.slot_of(entry)
        cdef int shard
        if slot < 0:
            return False
        shard = self.table.header(slot).shard
        self.table.remove(slot)
        return self.put(bytes((PUT_OFF + entry[0],)) + entry[1:], shard)

    cdef int64_t slot_of(self, bytes entry) noexcept:
        cdef const char* data = PyBytes_AS_STRING(entry)
        cdef int32_t size = <int32_t>len(entry)
        cdef int64_t slot = self.table.find_hashed(data, size, hash_bytes(data, size, self.table.seed))
        return slot if slot >= 0 and self.table.header(slot).flags & ROW_LIVE else -2

    # -- fired

    cdef list take_due(self, int clock, int64_t now, int64_t most):
        cdef list due = []
        cdef bytes entry
        while len(due) < most:
            entry = self.next_due(clock, now, most - len(due))
            if entry is None:
                break
            self.pop(clock)
            if not due or entry != due[len(due) - 1]:    # one that was cold for a while may stand in the heap twice
                due.append(entry)
        self.noted(clock)
        return due

    cdef bytes next_due(self, int clock, int64_t now, int64_t most):
        cdef ColdDeadlines* cold = &self.cold[clock]
        cdef bytes top
        while True:
            top = self.top(clock)
            if cold.n == 0 or cold_first(cold) > now or (
                    top is not None and not cold_precedes(cold, PyBytes_AS_STRING(top), len(top))):
                return top if top is not None and deadline_in(PyBytes_AS_STRING(top)) <= now else None
            self.read_due(clock, now, most)

    cdef bytes top(self, int clock):
        """The first timer of the heap that is set and in memory; it stays there."""
        cdef list heap = self.heaps[clock]
        while heap and self.slot_of(<bytes>heap[0]) < 0:
            self.pop(clock)
        return <bytes>heap[0] if heap else None

    cdef int read_due(self, int clock, int64_t now, int64_t most) except -1:
        """Bring some of the cold timers up to `now` back, the first ones, and the bound behind them."""
        cdef ColdDeadlines* cold = &self.cold[clock]
        cdef char[DEADLINE_BYTES] limit
        cdef ColdScan scan = open_scan(self.table, bytes((clock,)), cold_start(cold, clock))
        most = min(max(most, <int64_t>(READ_FEW if CHECKED_BUILD else READ_AHEAD)), max(cold_until(cold, now), <int64_t>1))
        if now < INT64_MAX:
            put_deadline(limit, clock, now + 1)
        self.reading = True
        try:
            scan.read(most, NULL if now == INT64_MAX else limit, DEADLINE_BYTES, True)
        finally:
            self.reading = False
        if scan.next_key is not None:
            return cold_raise(cold, PyBytes_AS_STRING(scan.next_key) + FILED, len(scan.next_key) - FILED)
        if cold.n > 0:
            raise StateError(f"the database has lost {cold.n} timers of table {self.table.name!r}",
                             remedy="start again from the last checkpoint")
        return 0

    cdef bytes take_before(self, bytes entry):
        cdef int clock = <unsigned char>PyBytes_AS_STRING(entry)[0]
        cdef bytes top = self.top(clock)
        return self.pop(clock) if top is not None and top < entry else None

    cdef bint remove(self, bytes entry) except -1:
        cdef int64_t slot = self.slot_of(entry)
        if slot < 0:
            return False
        if not PLANTED("fired-timer-kept"):
            self.table.remove(slot)
        self.fired += 1
        return True

    cdef int put_back(self, list entries) except -1:
        for entry in entries:
            self.push(<bytes>entry)
        return self.note_all()

    cdef tuple parts(self, bytes entry):
        try:
            return timer_of(entry)
        except ValueError as error:
            raise StateError(f"table {self.table.name!r} holds something that is not a timer: {error}",
                             remedy="the checkpoint is damaged: restore an older one") from error

    def pop_due(self, int clock, int64_t now):
        """Remove and return the first timer at or before `now` as (key, time, name); None if there is none.

        Call it until it returns None: a timer that is set meanwhile takes its place in the order.
        """
        cdef list due = self.take_due(clock, now, 1)
        if not due:
            return None
        self.remove(<bytes>due[0])
        time, key, name = self.parts(<bytes>due[0])
        return key, time, name

    # -- marks

    cdef int mark(self, bytes entry, int run) except -1:
        return hashes_add(&self.marks, hash_bytes(PyBytes_AS_STRING(entry), <int32_t>len(entry), self.table.seed + <uint64_t>run))

    cdef bint marked(self, bytes entry, int run) noexcept:
        return hashes_have(&self.marks, hash_bytes(PyBytes_AS_STRING(entry), <int32_t>len(entry), self.table.seed + <uint64_t>run))

    cdef void forget_marks(self) noexcept:
        hashes_free(&self.marks)

    # -- cold

    cdef int on_cold(self, const RowHeader* header) except -1 nogil:
        if header.key_size < DEADLINE_BYTES or <unsigned char>header.key[0] >= CLOCKS:
            damaged_table(self.table)
        cold_add(&self.cold[<unsigned char>header.key[0]], header.key, header.key_size)
        if self.n_entries > 2 * self.table.count + 64:
            with gil:
                self.rebuild()
        return 0

    cdef int on_hot(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.table.header(slot)
        cold_remove(&self.cold[<unsigned char>header.key[0]], header.key, header.key_size)
        if self.reading:
            header.held = 1
        with gil:
            self.push(header.key[:header.key_size])
        return 0

    cdef int64_t memory(self) noexcept nogil:
        cdef int64_t size = self.entry_bytes + self.marks.capacity * 8
        cdef int clock
        for clock in range(CLOCKS):
            size += cold_memory(&self.cold[clock])
        return size

    # -- the heaps

    cdef int push(self, bytes entry) except -1:
        heappush(<list>self.heaps[<unsigned char>PyBytes_AS_STRING(entry)[0]], entry)
        self.n_entries += 1
        self.entry_bytes += len(entry) + ENTRY_BYTES
        return 0

    cdef bytes pop(self, int clock):
        cdef list heap = self.heaps[clock]
        CHECK(in_order(heap), "the first timer to fire stands first in the heap")
        cdef bytes entry = heappop(heap)
        self.n_entries -= 1
        self.entry_bytes -= len(entry) + ENTRY_BYTES
        return entry

    cdef int rebuild(self) except -1:
        """Have the timers in memory in the heaps, and no others."""
        cdef int64_t slot = self.table.first_slot(0)
        cdef RowHeader* header
        cdef bytes entry
        self.heaps = [[] for _ in range(CLOCKS)]
        self.n_entries = self.entry_bytes = 0
        while slot >= 0:
            header = self.table.header(slot)
            if header.key_size < DEADLINE_BYTES or <unsigned char>header.key[0] >= CLOCKS:
                damaged_table(self.table)
            entry = header.key[:header.key_size]
            (<list>self.heaps[<unsigned char>header.key[0]]).append(entry)
            self.n_entries += 1
            self.entry_bytes += len(entry) + ENTRY_BYTES
            slot = self.table.first_slot(slot + 1)
        for heap in self.heaps:
            heapify(heap)
        return 0

    def restored(self):
        """Take the timers from the table, once it has been loaded; those that have become cold on the way are known."""
        if PLANTED("timers-not-restored"):
            return
        self.rebuild()
        for heap in self.heaps:
            for entry in heap:
                self.parts(<bytes>entry)     # a damaged one is told of now, and not when it fires
        self.note_all()

    def pending(self):
        """Return the timers that are set, as (clock, time, key, name), in the order in which they will fire: all in memory then."""
        timers = []
        if self.table.cold > 0:
            self.table.warm_up()
        for clock in (CLOCK_EVENT, CLOCK_PROCESSING):
            for entry in sorted(set(self.heaps[clock])):
                if self.slot_of(<bytes>entry) >= 0:
                    timers.append((clock, *self.parts(<bytes>entry)))
        return timers
