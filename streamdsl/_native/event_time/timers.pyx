"""See timers.pxd.

A timer is a deadline (state/deadlines.pxd) whose key is all there is, in the order in which timers fire (timer_entry.pxd).
"""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport INT64_MAX, int32_t, uint64_t

from streamdsl._native.event_time.timer_entry cimport CLOCK_EVENT, CLOCK_PROCESSING, CLOCKS, PUT_OFF, timer_entry, timer_of
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.state.deadline_key cimport deadline_in
from streamdsl._native.state.hash_set cimport hashes_add, hashes_free, hashes_have
from streamdsl._native.state.key_hash cimport hash_bytes
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.row_table cimport ROW_LIVE, RowHeader

from streamdsl.errors import StateError

EVENT = CLOCK_EVENT
PROCESSING = CLOCK_PROCESSING


cdef class TimerService(Deadlines):
    """Timers per key, time and name, on two clocks. A timer that is set twice is set once.

    Parameters
    ----------
    table : KeyTable
        Of its own, without fields.
    """

    def __init__(self, KeyTable table not None):
        Deadlines.__init__(self, table, CLOCKS, 0, "timers")
        self.taken = set()

    def __dealloc__(self):
        hashes_free(&self.marks)

    cdef bint any_due(self, int clock, int64_t now) noexcept nogil:
        return self.first(clock) <= now and (now < INT64_MAX or self.table.total() > 0)

    cdef bytes entry_of(self, int64_t slot):
        cdef const RowHeader* header = self.table.header(slot)
        return header.key[:header.key_size]

    cdef int64_t slot_of(self, bytes entry) noexcept:
        cdef const char* data = PyBytes_AS_STRING(entry)
        cdef int32_t size = <int32_t>len(entry)
        cdef int64_t slot = self.table.find_hashed(data, size, hash_bytes(data, size, self.table.seed))
        return slot if slot >= 0 and self.table.header(slot).flags & ROW_LIVE else -2

    # -- set and cancelled

    def set(self, bytes key not None, int shard, int64_t time, str name not None="", int clock=CLOCK_EVENT):
        """Set a timer for a key of a shard; without effect if it is set already."""
        self.put(timer_entry(clock, time, key, name), shard)

    def cancel(self, bytes key not None, int shard, int64_t time, str name not None="", int clock=CLOCK_EVENT):
        """Cancel a timer; return whether it was set."""
        return self.cancel_entry(timer_entry(clock, time, key, name), shard)

    cdef bint put(self, bytes entry, int shard) except -1:
        cdef const char* data = PyBytes_AS_STRING(entry)
        cdef int32_t size = <int32_t>len(entry)
        if self.table.find_in(data, size, shard) >= 0:
            return False
        self.note(self.table.insert(data, size, shard))
        return True

    cdef bint cancel_entry(self, bytes entry, int shard) except -1:
        cdef int64_t slot = self.table.find_in(PyBytes_AS_STRING(entry), <int32_t>len(entry), shard)
        if slot < 0:
            return False
        self.let_go(entry, slot)
        return True

    cdef int let_go(self, bytes entry, int64_t slot) except -1:
        if entry not in self.taken:
            return self.drop(slot)
        self.taken.discard(entry)
        return self.remove(slot)

    cdef int64_t put_on(self, int clock, int64_t most) except -1:
        cdef int64_t i, n = self.take_due(PUT_OFF + clock, INT64_MAX, most)
        cdef bytes entry
        cdef int shard
        for i in range(n):
            entry = self.entry_of(self.due[i])
            shard = self.table.header(self.due[i]).shard
            self.remove(self.due[i])
            if not PLANTED("put-off-timer-lost"):
                self.put(bytes((clock,)) + entry[1:], shard)
        return n

    cdef bint put_off(self, bytes entry) except -1:
        cdef int64_t slot = self.slot_of(entry)
        cdef int shard
        if slot < 0:
            return False
        shard = self.table.header(slot).shard
        self.let_go(entry, slot)
        return self.put(bytes((PUT_OFF + entry[0],)) + entry[1:], shard)

    # -- fired

    cdef list take_entries(self, int clock, int64_t now, int64_t most):
        cdef int64_t i, n = self.take_due(clock, now, most)
        cdef list due
        # What had been gathered for a later moment waits for that.
        while n > 0 and deadline_in(self.table.header(self.due[n - 1]).key) > now:
            n -= 1
            self.put_back(self.due[n])
        due = [self.entry_of(self.due[i]) for i in range(n)]
        self.taken.update(due)
        return due

    cdef bytes take_before(self, bytes entry):
        cdef const char* data = PyBytes_AS_STRING(entry)
        cdef int64_t slot = self.take_earlier(data, len(entry))
        if slot < 0:
            return None
        earlier = self.entry_of(slot)
        self.taken.add(earlier)
        return earlier

    cdef bint fire(self, bytes entry) except -1:
        cdef int64_t slot = self.slot_of(entry)
        if slot < 0:
            return False
        if not PLANTED("fired-timer-kept"):
            self.let_go(entry, slot)
        self.fired += 1
        return True

    cdef int put_all_back(self, list entries) except -1:
        cdef int64_t slot
        for entry in entries:
            if entry in self.taken:          # else it has been cancelled, and perhaps set anew
                slot = self.slot_of(<bytes>entry)
                self.put_back(slot)
        self.taken.clear()
        return 0

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
        cdef list due = self.take_entries(clock, now, 1)
        if not due:
            return None
        self.fire(<bytes>due[0])
        time, key, name = self.parts(<bytes>due[0])
        return key, time, name

    # -- marks

    cdef int mark(self, bytes entry, int run) except -1:
        return hashes_add(&self.marks, hash_bytes(PyBytes_AS_STRING(entry), <int32_t>len(entry), self.table.seed + <uint64_t>run))

    cdef bint marked(self, bytes entry, int run) noexcept:
        return hashes_have(&self.marks, hash_bytes(PyBytes_AS_STRING(entry), <int32_t>len(entry), self.table.seed + <uint64_t>run))

    cdef void forget_marks(self) noexcept:
        hashes_free(&self.marks)

    cdef int64_t memory(self) noexcept nogil:
        return Deadlines.memory(self) + self.marks.capacity * 8

    # -- all of them

    def restored(self):
        """Take the timers from the table, once it has been loaded; those that have become cold on the way are known."""
        cdef int64_t slot
        if PLANTED("timers-not-restored"):
            return
        self.rebuild()
        slot = self.table.first_slot(0)
        while slot >= 0:
            self.parts(self.entry_of(slot))          # a damaged one is told of now, and not when it fires
            slot = self.table.first_slot(slot + 1)

    def pending(self):
        """Return the timers that are set, as (clock, time, key, name), in the order in which they will fire: all in memory then."""
        cdef int64_t slot
        cdef list entries = []
        if self.table.cold > 0:
            self.table.warm_up()
        slot = self.table.first_slot(0)
        while slot >= 0:
            entries.append(self.entry_of(slot))
            slot = self.table.first_slot(slot + 1)
        return [(entry[0], *self.parts(entry)) for entry in sorted(entries) if entry[0] < PUT_OFF]
