"""See open_windows.pxd.

All windows have one size, so the order of ends is the order of starts. The heap compares starts alone: many keys share
one, and those that close together are sorted by key then. Of cold windows only the number is kept, by start; the start
stands first in the key, so that those that close are read from the database in their order.

Windows close in pieces, between which other rows may leave memory. What is hot of the next starts is sorted once and held
in memory until it has closed. If a start has cold windows too, they are read beside it, a few at a time: all windows up to
the last key that was read are in memory then, and are the next to close.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp, memcpy, memmove

from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, i64
from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.state.cold_scan cimport open_scan
from streamdsl._native.state.key_list cimport keys_clear, keys_free, keys_push
from streamdsl._native.state.row_table cimport ROW_LIVE, ROW_RECENT
from streamdsl._native.windows.assign cimport window_end, window_is_open, window_start, windows_of

from streamdsl.errors import StateError

cdef struct DueWindow:
    const char* key
    int64_t size
    int64_t slot


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for windows")


cdef int damaged_key(KeyTable table) except -1 nogil:
    with gil:
        raise StateError(f"table {table.name!r} holds something that is not a window",
                         remedy="the checkpoint is damaged: restore an older one")


cdef int lost_windows(KeyTable table, int64_t n, int64_t start) except -1:
    raise StateError(f"the database has lost {n} windows of table {table.name!r} that begin at {start} ms",
                     remedy="start again from the last checkpoint")


cdef int order_of(const char* left, int64_t left_size, const char* right, int64_t right_size) noexcept nogil:
    # The start stands in front in the key, biased and big-endian: bytes order as start, then the user's key.
    cdef int order = memcmp(left, right, left_size if left_size < right_size else right_size)
    return order if order != 0 else (left_size > right_size) - (left_size < right_size)


cdef int by_key(const void* left, const void* right) noexcept nogil:
    cdef const DueWindow* a = <const DueWindow*>left
    cdef const DueWindow* b = <const DueWindow*>right
    return order_of(a.key, a.size, b.key, b.size)


cdef int64_t time_in(const char* key) noexcept nogil:
    cdef uint64_t biased = 0
    cdef int i
    for i in range(8):
        biased = (biased << 8) | <unsigned char>key[i]
    return <int64_t>(biased ^ (<uint64_t>1 << 63))


cdef void put_time(char* key, int64_t time) noexcept nogil:
    cdef uint64_t biased = <uint64_t>time ^ (<uint64_t>1 << 63)
    cdef int i
    for i in range(8):
        key[i] = <char>(biased >> (56 - 8 * i))


cdef char* grown(char* bytes, int64_t* capacity, int64_t size) except? NULL nogil:
    if size > capacity[0]:
        bytes = <char*>realloc(bytes, 2 * size)
        if bytes == NULL:
            no_memory()
        capacity[0] = 2 * size
    return bytes


cdef class OpenWindows(ColdListener):
    """`window` is tumbling or hopping, `table` belongs to the operator alone; `head`: see open_windows.pxd."""

    def __init__(self, window, KeyTable table not None, int head):
        self.table = table
        table.prefix = head
        table.evictable = True
        table.listener = self
        self.head = head
        self.size_ms = window.size_ms
        self.every_ms = window.every_ms if window.kind == "hopping" else window.size_ms
        self.offset_ms = window.offset_ms
        self.grace_ms = window.grace_ms

    def __dealloc__(self):
        free(self.heap)
        free(self.cold)
        free(self.held)
        free(self.due)
        free(self.key)
        keys_free(&self.wanted)

    cdef int64_t slot_of(self, int64_t start, const RowHeader* owner) except -1 nogil:
        cdef int64_t size = self.head + owner.key_size, slot
        self.key = grown(self.key, &self.key_capacity, size)
        self.put_head(self.key, start)
        if owner.key_size > 0:
            memcpy(self.key + self.head, owner.key, owner.key_size)
        slot = self.table.find(self.key, <int32_t>size)
        if slot < 0:
            slot = self.table.insert(self.key, <int32_t>size, owner.shard)
            self.note(start, slot)
            self.opened += 1
        return slot

    cdef void put_head(self, char* key, int64_t start) noexcept nogil:
        if self.head == 16:
            put_time(key, window_end(start, self.size_ms))
        put_time(key + self.head - 8, start)

    cdef int64_t start_of(self, int64_t slot) noexcept nogil:
        return time_in(self.table.header(slot).key + self.head - 8)

    cdef bint is_open(self, int64_t start, int64_t watermark) noexcept nogil:
        return window_is_open(window_end(start, self.size_ms), self.grace_ms, watermark)

    cdef int order(self, int64_t left, int64_t right) noexcept nogil:
        cdef const RowHeader* a = self.table.header(left)
        cdef const RowHeader* b = self.table.header(right)
        return order_of(a.key, a.key_size, b.key, b.key_size)

    # Cold windows ------------------------------------------------------------------------------------------------

    cdef int warm_up(self, KeyLookup lookup, Batch* batch) except -1 nogil:
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef char[16] head
        cdef const RowHeader* owner
        cdef int64_t n, k
        cdef int32_t row
        if self.table.cold == 0:
            return 0
        keys_clear(&self.wanted)
        for row in range(batch.n):
            owner = lookup.table.header(slots[row])
            n = windows_of(times[row], self.size_ms, self.every_ms, self.offset_ms)
            for k in range(n):
                self.put_head(head, window_start(times[row], self.every_ms, self.offset_ms, k))
                keys_push(&self.wanted, head, self.head, owner.key, owner.key_size)
        return self.table.warm_up_keys(self.wanted.values.data, self.wanted.offsets, self.wanted.n)

    cdef int on_cold(self, const RowHeader* header) except -1 nogil:
        self.cold_at(time_in(header.key + self.head - 8)).n += 1
        return 0

    cdef int on_hot(self, int64_t slot) except -1 nogil:
        cdef int64_t start = self.start_of(slot)
        self.cold_at(start).n -= 1
        return self.note(start, slot)

    cdef int on_cleared(self) except -1 nogil:
        if self.scan is not None:
            with gil:
                self.scan = None             # it holds the database open
        return 0

    cdef int64_t memory(self) noexcept nogil:
        return (self.capacity * sizeof(WindowEntry) + self.cold_capacity * sizeof(ColdWindows)
                + (self.held_capacity + self.due_capacity) * 8 + self.wanted.values.capacity + self.wanted.capacity * 4)

    cdef int64_t find_cold(self, int64_t start) noexcept nogil:
        cdef int64_t low = 0, high = self.n_cold, middle
        while low < high:
            middle = (low + high) >> 1
            if self.cold[middle].start < start:
                low = middle + 1
            else:
                high = middle
        return low

    cdef ColdWindows* cold_at(self, int64_t start) except NULL nogil:
        cdef int64_t at = self.find_cold(start)
        cdef ColdWindows* more
        if at < self.n_cold and self.cold[at].start == start:
            return &self.cold[at]
        if self.n_cold == self.cold_capacity:
            more = <ColdWindows*>realloc(self.cold, (2 * self.n_cold + 16) * sizeof(ColdWindows))
            if more == NULL:
                no_memory()
            self.cold = more
            self.cold_capacity = 2 * self.n_cold + 16
        memmove(self.cold + at + 1, self.cold + at, (self.n_cold - at) * sizeof(ColdWindows))
        self.cold[at].start = start
        self.cold[at].n = 0
        self.n_cold += 1
        return &self.cold[at]

    # Closing -----------------------------------------------------------------------------------------------------

    cdef bint any_due(self, int64_t watermark) noexcept nogil:
        return ((self.n > 0 and not self.is_open(self.heap[0].start, watermark))
                or (self.n_cold > 0 and not self.is_open(self.cold[0].start, watermark)))

    cdef int64_t take_due(self, int64_t watermark, int64_t most) except -1 nogil:
        cdef int64_t n = 0
        while n == 0:
            if self.held_at == self.n_held and self.scan is None and not self.hold_some(watermark, most):
                return 0
            if self.scan is not None:
                n = self.take_scanned(most)
                continue
            n = min(most, self.n_held - self.held_at)
            self.due = self.reserve(self.due, &self.due_capacity, n)
            memcpy(self.due, self.held + self.held_at, n * sizeof(int64_t))
            self.held_at += n
        return n

    cdef int hold_some(self, int64_t watermark, int64_t most) except -1 nogil:
        """Hold the windows of the next starts: of several, if that makes a piece, or of one that has cold windows as well."""
        cdef int64_t start, at
        self.held_at = self.n_held = 0
        while self.n_held < most and self.next_start(watermark, &start):
            at = self.find_cold(start)
            if at < self.n_cold and self.cold[at].start == start and self.cold[at].n > 0:
                if self.n_held == 0:
                    self.hold(start)
                    self.begin_scan(start)
                break
            self.hold(start)
        self.sort_held(0)
        return self.n_held > 0 or self.scan is not None

    cdef bint next_start(self, int64_t watermark, int64_t* start) noexcept nogil:
        """The first start of a window that closes."""
        cdef RowHeader* header
        cdef int64_t passed = 0
        while self.n > 0:
            header = self.table.header(self.heap[0].slot)
            if header.flags & ROW_LIVE and self.start_of(self.heap[0].slot) == self.heap[0].start and not header.held:
                break
            self.pop()
        while passed < self.n_cold and self.cold[passed].n == 0 and not self.is_open(self.cold[passed].start, watermark):
            passed += 1
        if passed > 0:
            self.n_cold -= passed
            memmove(self.cold, self.cold + passed, self.n_cold * sizeof(ColdWindows))
        if self.n_cold > 0 and self.cold[0].n > 0 and (self.n == 0 or self.cold[0].start < self.heap[0].start):
            start[0] = self.cold[0].start
        elif self.n > 0:
            start[0] = self.heap[0].start
        else:
            return False
        return not self.is_open(start[0], watermark)

    cdef int hold(self, int64_t start) except -1 nogil:
        """Take what begins at `start` from the heap, where it stands first, to the end of what is held."""
        cdef int64_t slot
        cdef RowHeader* header
        while self.n > 0 and self.heap[0].start == start:
            slot = self.heap[0].slot
            self.pop()
            header = self.table.header(slot)
            if not header.flags & ROW_LIVE or header.held or self.start_of(slot) != start:
                continue                     # gone cold since, or the heap had it twice
            header.held = 1
            header.flags |= ROW_RECENT       # should it stand in the evictor's queue: it is wanted
            self.held = self.reserve(self.held, &self.held_capacity, self.n_held + 1)
            self.held[self.n_held] = slot
            self.n_held += 1
        return 0

    cdef int sort_held(self, int64_t first) except -1 nogil:
        cdef int64_t i, n = self.n_held - first
        cdef DueWindow* windows
        if n < 2:
            return 0
        windows = <DueWindow*>realloc(NULL, n * sizeof(DueWindow))
        if windows == NULL:
            no_memory()
        for i in range(n):
            windows[i].slot = self.held[first + i]
            windows[i].key = self.table.header(windows[i].slot).key
            windows[i].size = self.table.header(windows[i].slot).key_size
        qsort(windows, n, sizeof(DueWindow), by_key)
        for i in range(n):
            self.held[first + i] = windows[i].slot
        free(windows)
        return 0

    cdef int begin_scan(self, int64_t start) except -1 nogil:
        cdef char[16] head
        self.scanned = start
        self.put_head(head, start)
        with gil:
            self.scan = open_scan(self.table, head[:self.head], None)
        return 0

    cdef int64_t take_scanned(self, int64_t most) except -1 nogil:
        """Read the next cold windows; take them, and what is held, up to the last key that all of them are known to."""
        cdef int64_t half = max(most >> 1, <int64_t>1), n = 0, first = self.n_held, read = first
        cdef bint from_read
        cdef RowHeader* header
        self.read_on(half, self.held[self.held_at + half - 1] if self.n_held - self.held_at >= half else -1)
        self.hold(self.scanned)              # what has been read, and what somebody else has asked for
        self.sort_held(first)
        self.due = self.reserve(self.due, &self.due_capacity, self.n_held - self.held_at)
        while self.held_at < first or read < self.n_held:
            from_read = self.held_at == first or (read < self.n_held and self.order(self.held[read], self.held[self.held_at]) < 0)
            self.due[n] = self.held[read if from_read else self.held_at]
            header = self.table.header(self.due[n])
            if self.bound != NULL and order_of(header.key, header.key_size, self.bound, self.bound_size) > 0:
                break
            n += 1
            if from_read:
                read += 1
            else:
                self.held_at += 1
        memmove(self.held + first, self.held + read, (self.n_held - read) * sizeof(int64_t))
        self.n_held -= read - first
        if self.n_held > first:              # of those that somebody else has asked for
            self.sort_held(self.held_at)
        return n

    cdef int read_on(self, int64_t most, int64_t limit) except -1 nogil:
        """Read so many cold windows at most, none behind the key of the window `limit` (-1: no limit); `bound`: how far it came."""
        cdef const RowHeader* header = NULL if limit < 0 else self.table.header(limit)
        cdef int64_t size
        with gil:
            if self.scan.read(most, NULL if header == NULL else header.key, 0 if header == NULL else header.key_size) == most:
                size = len(self.scan.last)
                self.key = grown(self.key, &self.key_capacity, size)
                memcpy(self.key, PyBytes_AS_STRING(self.scan.last), size)
                self.bound, self.bound_size = self.key, size
            elif header != NULL:
                self.bound, self.bound_size = header.key, header.key_size
            else:
                self.bound, self.bound_size = NULL, 0
                self.scan = None             # there are no more
                if self.cold_at(self.scanned).n > 0:
                    lost_windows(self.table, self.cold_at(self.scanned).n, self.scanned)
        return 0

    cdef int64_t* reserve(self, int64_t* slots, int64_t* capacity, int64_t n) except? NULL nogil:
        if n <= capacity[0]:
            return slots
        slots = <int64_t*>realloc(slots, (2 * n + 64) * sizeof(int64_t))
        if slots == NULL:
            no_memory()
        capacity[0] = 2 * n + 64
        return slots

    # The heap ----------------------------------------------------------------------------------------------------

    cdef int note(self, int64_t start, int64_t slot) except -1 nogil:
        # What has gone cold stays in the heap: no more of that than of what is hot.
        return self.rebuild() if self.n > 2 * self.table.count + 64 else self.push(start, slot)

    cdef int rebuild(self) except -1 nogil:
        cdef int64_t slot = self.table.first_slot(0)
        self.n = 0
        while slot >= 0:
            if self.table.header(slot).key_size < self.head:
                damaged_key(self.table)
            self.push(self.start_of(slot), slot)
            slot = self.table.first_slot(slot + 1)
        return 0

    cdef int push(self, int64_t start, int64_t slot) except -1 nogil:
        cdef int64_t at = self.n
        cdef WindowEntry* more
        if at == self.capacity:
            more = <WindowEntry*>realloc(self.heap, (2 * at + 64) * sizeof(WindowEntry))
            if more == NULL:
                no_memory()
            self.heap = more
            self.capacity = 2 * at + 64
        self.n += 1
        while at > 0 and self.heap[(at - 1) >> 1].start > start:
            self.heap[at] = self.heap[(at - 1) >> 1]
            at = (at - 1) >> 1
        self.heap[at].start = start
        self.heap[at].slot = slot
        return 0

    cdef void pop(self) noexcept nogil:
        cdef WindowEntry last
        cdef int64_t at = 0, child = 1
        CHECK(self.n > 0, "a window that closes was open")
        CHECK(self.n < 2 or self.heap[0].start <= self.heap[1].start, "the first window to close stands first in the heap")
        self.n -= 1
        last = self.heap[self.n]
        while child < self.n:
            if child + 1 < self.n and self.heap[child + 1].start < self.heap[child].start:
                child += 1
            if last.start <= self.heap[child].start:
                break
            self.heap[at] = self.heap[child]
            at = child
            child = 2 * at + 1
        self.heap[at] = last
