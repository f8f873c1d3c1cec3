"""See open_windows.pxd.

All windows have one size, so the order of ends is the order of starts. The heap compares starts alone: many keys share
one, and the few that close together are sorted by key then. Of cold windows only the number is kept, by start; the start
stands first in the key, so that those that close are read from the database together.
"""
from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp, memcpy

from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.state.key_list cimport keys_push
from streamdsl._native.state.row_table cimport ROW_LIVE
from streamdsl._native.windows.assign cimport window_end, window_is_open

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


cdef int by_key(const void* left, const void* right) noexcept nogil:
    # The start stands first in the key, biased and big-endian: bytes order as start, then the user's key.
    cdef const DueWindow* a = <const DueWindow*>left
    cdef const DueWindow* b = <const DueWindow*>right
    cdef int order = memcmp(a.key, b.key, a.size if a.size < b.size else b.size)
    return order if order != 0 else (a.size > b.size) - (a.size < b.size)


cdef int64_t start_in(const char* key) noexcept nogil:
    cdef uint64_t biased = 0
    cdef int i
    for i in range(8):
        biased = (biased << 8) | <unsigned char>key[i]
    return <int64_t>(biased ^ (<uint64_t>1 << 63))


cdef void put_start(char* key, int64_t start) noexcept nogil:
    cdef uint64_t biased = <uint64_t>start ^ (<uint64_t>1 << 63)
    cdef int i
    for i in range(8):
        key[i] = <char>(biased >> (56 - 8 * i))


cdef class OpenWindows(ColdListener):
    """`table` belongs to the operator alone."""

    def __init__(self, KeyTable table not None, int64_t size_ms, int64_t grace_ms):
        self.table = table
        table.prefix = 8
        table.evictable = True
        table.listener = self
        self.size_ms = size_ms
        self.grace_ms = grace_ms

    def __dealloc__(self):
        free(self.heap)
        free(self.cold)
        free(self.due)
        free(self.key)

    cdef int64_t slot_of(self, int64_t start, const RowHeader* owner) except -1 nogil:
        cdef int64_t size = 8 + owner.key_size, slot
        cdef char* grown
        if size > self.key_capacity:
            grown = <char*>realloc(self.key, 2 * size)
            if grown == NULL:
                no_memory()
            self.key = grown
            self.key_capacity = 2 * size
        put_start(self.key, start)
        if owner.key_size > 0:
            memcpy(self.key + 8, owner.key, owner.key_size)
        slot = self.table.find(self.key, <int32_t>size)
        if slot < 0:
            slot = self.table.insert(self.key, <int32_t>size, owner.shard)
            self.push(start, slot)
        return slot

    cdef int push_key(self, KeyList* keys, int64_t start, const RowHeader* owner) except -1 nogil:
        cdef char[8] head
        put_start(head, start)
        return keys_push(keys, head, 8, owner.key, owner.key_size)

    cdef int64_t start_of(self, int64_t slot) noexcept nogil:
        return start_in(self.table.header(slot).key)

    cdef bint is_open(self, int64_t start, int64_t watermark) noexcept nogil:
        return window_is_open(window_end(start, self.size_ms), self.grace_ms, watermark)

    # Cold windows ------------------------------------------------------------------------------------------------

    cdef int on_cold(self, const RowHeader* header) except -1 nogil:
        self.cold_at(start_in(header.key)).n += 1
        return 0

    cdef int on_hot(self, int64_t slot) except -1 nogil:
        cdef int64_t start = self.start_of(slot)
        self.cold_at(start).n -= 1
        if self.n > 2 * self.table.count + 64:
            return self.rebuild()
        return self.push(start, slot)

    cdef ColdWindows* cold_at(self, int64_t start) except NULL nogil:
        cdef int64_t i
        cdef ColdWindows* grown
        for i in range(self.n_cold - 1, -1, -1):
            if self.cold[i].start == start:
                return &self.cold[i]
        if self.n_cold == self.cold_capacity:
            grown = <ColdWindows*>realloc(self.cold, (2 * self.n_cold + 16) * sizeof(ColdWindows))
            if grown == NULL:
                no_memory()
            self.cold = grown
            self.cold_capacity = 2 * self.n_cold + 16
        self.cold[self.n_cold].start = start
        self.cold[self.n_cold].n = 0
        self.n_cold += 1
        return &self.cold[self.n_cold - 1]

    cdef int warm_up_due(self, int64_t watermark) except -1 nogil:
        """Bring the cold windows back that close now; they join the heap as they come."""
        cdef int64_t i = 0
        cdef char[8] prefix
        while i < self.n_cold:
            if self.is_open(self.cold[i].start, watermark):
                i += 1
                continue
            if self.cold[i].n > 0:
                put_start(prefix, self.cold[i].start)
                with gil:
                    self.table.warm_up(prefix[:8])
            self.n_cold -= 1
            self.cold[i] = self.cold[self.n_cold]
        return 0

    # Closing -----------------------------------------------------------------------------------------------------

    cdef int64_t take_due(self, int64_t watermark) except -1 nogil:
        cdef int64_t i, n = 0, slot
        cdef DueWindow* windows
        cdef RowHeader* header
        self.warm_up_due(watermark)
        while self.n > 0 and not self.is_open(self.heap[0].start, watermark):
            slot = self.heap[0].slot
            header = self.table.header(slot)
            if header.flags & ROW_LIVE and self.start_of(slot) == self.heap[0].start:
                self.note_due(n, slot)
                n += 1
            self.pop()
        if n < 2:
            return n
        windows = <DueWindow*>realloc(NULL, n * sizeof(DueWindow))
        if windows == NULL:
            no_memory()
        for i in range(n):
            windows[i].slot = self.due[i]
            windows[i].key = self.table.header(self.due[i]).key
            windows[i].size = self.table.header(self.due[i]).key_size
        qsort(windows, n, sizeof(DueWindow), by_key)
        self.due[0] = windows[0].slot
        slot = 1
        for i in range(1, n):
            if windows[i].slot != windows[i - 1].slot:       # the heap had it twice
                self.due[slot] = windows[i].slot
                slot += 1
        free(windows)
        return slot

    cdef int note_due(self, int64_t at, int64_t slot) except -1 nogil:
        cdef int64_t* grown
        if at == self.due_capacity:
            grown = <int64_t*>realloc(self.due, (2 * at + 64) * sizeof(int64_t))
            if grown == NULL:
                no_memory()
            self.due = grown
            self.due_capacity = 2 * at + 64
        self.due[at] = slot
        return 0

    cdef int rebuild(self) except -1 nogil:
        cdef int64_t slot = self.table.first_slot(0)
        self.n = 0
        while slot >= 0:
            if self.table.header(slot).key_size < 8:
                damaged_key(self.table)
            self.push(self.start_of(slot), slot)
            slot = self.table.first_slot(slot + 1)
        return 0

    cdef int push(self, int64_t start, int64_t slot) except -1 nogil:
        cdef int64_t at = self.n
        cdef WindowEntry* grown
        if at == self.capacity:
            grown = <WindowEntry*>realloc(self.heap, (2 * at + 64) * sizeof(WindowEntry))
            if grown == NULL:
                no_memory()
            self.heap = grown
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
