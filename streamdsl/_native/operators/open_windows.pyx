"""See open_windows.pxd.

All windows have one size, so the order of ends is the order of starts. The heap compares starts alone: many keys share
one, and the few that close together are sorted by key then.
"""
from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp, memcpy

from streamdsl._native.includes.checked cimport CHECK
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


cdef class OpenWindows:
    """`table` belongs to the operator alone."""

    def __init__(self, KeyTable table not None, int64_t size_ms, int64_t grace_ms):
        self.table = table
        self.size_ms = size_ms
        self.grace_ms = grace_ms

    def __dealloc__(self):
        free(self.heap)
        free(self.due)
        free(self.key)

    cdef int64_t slot_of(self, int64_t start, const RowHeader* owner) except -1 nogil:
        cdef uint64_t biased = <uint64_t>start ^ (<uint64_t>1 << 63)
        cdef int64_t size = 8 + owner.key_size, before = self.table.count, slot
        cdef int i
        cdef char* grown
        if size > self.key_capacity:
            grown = <char*>realloc(self.key, 2 * size)
            if grown == NULL:
                no_memory()
            self.key = grown
            self.key_capacity = 2 * size
        for i in range(8):
            self.key[i] = <char>(biased >> (56 - 8 * i))
        if owner.key_size > 0:
            memcpy(self.key + 8, owner.key, owner.key_size)
        slot = self.table.find_or_insert(self.key, <int32_t>size, owner.shard)
        if self.table.count > before:
            self.push(start, slot)
        return slot

    cdef int64_t start_of(self, int64_t slot) noexcept nogil:
        cdef const unsigned char* key = <const unsigned char*>self.table.header(slot).key
        cdef uint64_t biased = 0
        cdef int i
        for i in range(8):
            biased = (biased << 8) | key[i]
        return <int64_t>(biased ^ (<uint64_t>1 << 63))

    cdef int64_t take_due(self, int64_t watermark) except -1 nogil:
        cdef int64_t i, n = 0
        cdef DueWindow* windows
        cdef int64_t* grown
        while self.n > 0 and not window_is_open(window_end(self.heap[0].start, self.size_ms), self.grace_ms, watermark):
            if n == self.due_capacity:
                grown = <int64_t*>realloc(self.due, (2 * n + 64) * sizeof(int64_t))
                if grown == NULL:
                    no_memory()
                self.due = grown
                self.due_capacity = 2 * n + 64
            self.due[n] = self.heap[0].slot
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
        for i in range(n):
            self.due[i] = windows[i].slot
        free(windows)
        return n

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
