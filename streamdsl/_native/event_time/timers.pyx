"""See timers.pxd."""
import heapq

from libc.stdint cimport INT64_MAX, uint64_t

from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.state.row_table cimport RowHeader

from streamdsl.errors import StateError

EVENT = CLOCK_EVENT
PROCESSING = CLOCK_PROCESSING


cdef bytes timer_key(int clock, int64_t time, str name, bytes key):
    # Biased and big-endian: the order of the bytes is the order of the times.
    encoded = name.encode("utf-8", "surrogatepass")
    if len(encoded) > 65535:
        raise StateError(f"the name of a timer has {len(encoded)} bytes; 65,535 is the most")
    biased = <uint64_t>time ^ (<uint64_t>1 << 63)
    return (bytes((clock,)) + (<object>biased).to_bytes(8, "big") + (<object>len(encoded)).to_bytes(2, "big")
            + encoded + key)


cdef class TimerService:
    """Timers per key, time and name, on two clocks.

    A timer that is set twice is set once. The heaps may name cancelled timers: the table says which ones count.

    Parameters
    ----------
    table : KeyTable
        Of its own, without fields.
    """

    def __init__(self, KeyTable table not None):
        self.table = table
        self.heaps = [[], []]
        self.next_times[0] = INT64_MAX
        self.next_times[1] = INT64_MAX

    cdef int64_t next_time(self, int clock) noexcept nogil:
        return self.next_times[clock]

    cdef int noted(self, int clock) except -1:
        heap = self.heaps[clock]
        self.next_times[clock] = heap[0][0] if heap else INT64_MAX
        return 0

    def set(self, bytes key not None, int shard, int64_t time, str name not None="", int clock=CLOCK_EVENT):
        """Set a timer for a key of a shard; without effect if it is set already."""
        cdef bytes entry = timer_key(clock, time, name, key)
        cdef int64_t before = self.table.count
        self.table.find_or_insert(entry, <int>len(entry), shard)
        if self.table.count > before:
            heapq.heappush(self.heaps[clock], (time, key, name))
            self.noted(clock)

    def cancel(self, bytes key not None, int64_t time, str name not None="", int clock=CLOCK_EVENT):
        """Cancel a timer; return whether it was set."""
        cdef bytes entry = timer_key(clock, time, name, key)
        cdef int64_t slot = self.table.find(entry, <int>len(entry))
        if slot < 0:
            return False
        self.table.remove(slot)
        if len(self.heaps[0]) + len(self.heaps[1]) > 2 * self.table.count + 64:
            self.restored()      # timers that are put off again and again must not pile up in the heap
        return True

    def pop_due(self, int clock, int64_t now):
        """Remove and return the first timer at or before `now` as (key, time, name); None if there is none.

        Call it until it returns None: a timer that is set meanwhile takes its place in the order.
        """
        cdef bytes entry
        cdef int64_t slot
        cdef list heap = self.heaps[clock]
        while heap and heap[0][0] <= now:
            time, key, name = heapq.heappop(heap)
            entry = timer_key(clock, time, name, key)
            slot = self.table.find(entry, <int>len(entry))
            if slot >= 0:
                if not PLANTED("fired-timer-kept"):
                    self.table.remove(slot)
                self.fired += 1
                self.noted(clock)
                return key, time, name
        self.noted(clock)
        return None

    def restored(self):
        """Take the timers from the table, once it has been loaded."""
        cdef int64_t slot = self.table.first_slot(0)
        cdef RowHeader* header
        cdef int64_t time
        cdef int size
        if PLANTED("timers-not-restored"):
            return
        self.heaps = [[], []]
        while slot >= 0:
            header = self.table.header(slot)
            entry = header.key[:header.key_size]
            size = int.from_bytes(entry[9:11], "big")
            try:
                if len(entry) < 11 + size or entry[0] > CLOCK_PROCESSING:
                    raise ValueError("its parts do not fit")
                name = entry[11:11 + size].decode("utf-8", "surrogatepass")
            except ValueError as error:
                raise StateError(f"table {self.table.name!r} holds something that is not a timer: {error}",
                                 remedy="the checkpoint is damaged: restore an older one") from error
            time = <int64_t>(<uint64_t>int.from_bytes(entry[1:9], "big") ^ (<uint64_t>1 << 63))
            self.heaps[entry[0]].append((time, entry[11 + size:], name))
            slot = self.table.first_slot(slot + 1)
        for clock in (CLOCK_EVENT, CLOCK_PROCESSING):
            heapq.heapify(self.heaps[clock])
            self.noted(clock)

    def pending(self):
        """Return the timers that are set, as (clock, time, key, name), in the order in which they will fire."""
        timers = []
        for clock in (CLOCK_EVENT, CLOCK_PROCESSING):
            for time, key, name in sorted(set(self.heaps[clock])):
                entry = timer_key(clock, time, name, key)
                if self.table.find(<bytes>entry, <int>len(entry)) >= 0:
                    timers.append((clock, time, key, name))
        return timers
