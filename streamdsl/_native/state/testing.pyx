"""See testing.pxd."""
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.deadline_heap cimport SlotDeadline
from streamdsl._native.state.deadline_key cimport key_part
from streamdsl._native.state.deadline_sort cimport SORT_BYTES, sort_deadlines
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.pages cimport pages_settle
from streamdsl._native.state.rank_sort cimport RankedItem
from streamdsl._native.state.row_table cimport RowField, RowHeader
from streamdsl._native.state.write_stream cimport ByteWriter, WriteStream, bytes_append


cdef class IntField(RowField):
    """One int64, at first 0."""

    def __init__(self, str name, str layout="int64"):
        super().__init__(name, layout, 8)

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        return bytes_append(out, field, 8)

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        memcpy(field, data, 8)
        return 0


cdef class BytesField(RowField):
    """Bytes of any length in the arena, at first empty."""

    def __init__(self, str name, str layout="bytes"):
        super().__init__(name, layout, sizeof(Block))

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        return bytes_append(out, (<Block*>field).data, (<Block*>field).size)

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef Block* block = <Block*>field
        block.data = self.table.arena.realloc(block.data, block.size, size)
        block.size = size
        memcpy(block.data, data, size)
        return 0

    cdef int clear(self, char* field) except -1 nogil:
        self.table.arena.free((<Block*>field).data, (<Block*>field).size)
        return 0


cdef class FailingField(RowField):
    """Fails to initialise, or to serialise, while its switches say so."""
    def __init__(self, str name):
        super().__init__(name, "nothing", 0)

    cdef int init(self, char* field) except -1 nogil:
        if self.fail_init:
            with gil:
                raise ValueError("init was told to fail")
        return 0

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        if self.fail_write:
            with gil:
                raise ValueError("write was told to fail")
        return 0


cdef class TableView:
    """A table as Python sees it: keys are bytes, fields are named by their index."""
    def __init__(self, KeyTable table not None):
        self.table = table

    def slot(self, bytes key, int32_t shard=-1):
        """Return the slot of a key; an absent one is inserted."""
        return self.table.find_or_insert(key, <int32_t>len(key), shard)

    def find(self, bytes key):
        """Return the slot of a key, None when it is absent."""
        cdef int64_t slot = self.table.find(key, <int32_t>len(key))
        return None if slot < 0 else slot

    def lookup(self, list keys):
        """Look a batch of keys up and return their slots; absent ones are inserted."""
        cdef bytes values = b"".join(keys)
        cdef int64_t n = len(keys)
        cdef int64_t i
        cdef int32_t* offsets = <int32_t*>malloc((n + 1) * sizeof(int32_t))
        cdef int64_t* slots = <int64_t*>malloc((n + 1) * sizeof(int64_t))
        try:
            offsets[0] = 0
            for i in range(n):
                offsets[i + 1] = offsets[i] + <int32_t>len(keys[i])
            self.table.lookup_batch(values, offsets, n, slots)
            return [slots[i] for i in range(n)]
        finally:
            free(offsets)
            free(slots)

    def lookup_ns(self, list keys, int batch, int rounds):
        """Return the nanoseconds a key that `rounds` passes over the keys take, in batches."""
        cdef bytes values = b"".join(keys)
        cdef const char* data = values
        cdef int64_t n = len(keys)
        cdef int64_t i, _
        cdef int64_t at
        cdef timespec start, end
        cdef int32_t* offsets = <int32_t*>malloc((n + 1) * sizeof(int32_t))
        cdef int64_t* slots = <int64_t*>malloc((n + 1) * sizeof(int64_t))
        try:
            offsets[0] = 0
            for i in range(n):
                offsets[i + 1] = offsets[i] + <int32_t>len(keys[i])
            with nogil:
                clock_gettime(CLOCK_MONOTONIC, &start)
                for _ in range(rounds):
                    at = 0
                    while at < n:
                        self.table.lookup_batch(data, offsets + at, batch if n - at > batch else n - at, slots + at)
                        at += batch
                clock_gettime(CLOCK_MONOTONIC, &end)
            return ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / n / rounds
        finally:
            free(offsets)
            free(slots)

    def touch_all(self):
        """Touch every live row."""
        cdef int64_t slot = self.table.first_slot(0)
        while slot >= 0:
            self.table.touch(slot)
            slot = self.table.first_slot(slot + 1)

    def key(self, int64_t slot):
        cdef RowHeader* header = self.table.header(slot)
        return header.key[:header.key_size]

    def shard(self, int64_t slot):
        return self.table.header(slot).shard

    def touch(self, int64_t slot):
        self.table.touch(slot)

    @property
    def released(self):
        """Free rows whose memory was given back."""
        return self.table.pages.n_released

    def settle(self):
        """Have a barrier pass, as far as memory goes."""
        self.table.give_memory_back(pages_settle(&self.table.pages))

    def remove(self, int64_t slot):
        self.table.remove(slot)

    def slots(self):
        """Return the live slots."""
        cdef list found = []
        cdef int64_t slot = self.table.first_slot(0)
        while slot >= 0:
            found.append(slot)
            slot = self.table.first_slot(slot + 1)
        return found

    def get_int(self, int64_t slot, int field):
        return (<int64_t*>self._field(slot, field))[0]

    def set_int(self, int64_t slot, int field, int64_t value):
        self.table.touch(slot)
        (<int64_t*>self._field(slot, field))[0] = value

    def get_bytes(self, int64_t slot, int field):
        cdef Block* block = <Block*>self._field(slot, field)
        return block.data[:block.size] if block.size else b""

    def set_bytes(self, int64_t slot, int field, bytes value):
        self.table.touch(slot)
        cdef RowField target = self.table.fields[field]
        target.read(self._field(slot, field), value, len(value))

    cdef char* _field(self, int64_t slot, int field) except NULL:
        cdef RowField target = self.table.fields[field]
        return self.table.row(slot) + target.offset


cdef class ArenaView:
    """An arena as Python sees it: blocks are addresses."""
    def __init__(self):
        self.arena = Arena()

    def alloc(self, int64_t size, int fill):
        cdef char* block = self.arena.alloc(size)
        cdef int64_t i
        for i in range(size):
            block[i] = <char>fill
        return <size_t>block

    def realloc(self, size_t block, int64_t old_size, int64_t new_size):
        return <size_t>self.arena.realloc(<char*>block, old_size, new_size)

    def free(self, size_t block, int64_t size):
        self.arena.free(<char*>block, size)

    def read(self, size_t block, int64_t size):
        return (<char*>block)[:size]


def sorted_deadlines(TableView view not None, list deadlines):
    """Return deadlines (time, number, key of the table) in their order."""
    cdef int64_t i, n = len(deadlines)
    cdef SlotDeadline* items = <SlotDeadline*>malloc((n + 1) * sizeof(SlotDeadline))
    cdef RankedItem* scratch = <RankedItem*>malloc((n + 1) * SORT_BYTES)
    try:
        for i, (time, number, key) in enumerate(deadlines):
            items[i] = SlotDeadline(time, number, key_part(key, len(key), 0), view.slot(key), 0)
        sort_deadlines(items, scratch, n, view.table)
        return [(items[i].time, items[i].id, view.key(items[i].slot)) for i in range(n)]
    finally:
        free(items)
        free(scratch)


def want_applied(WriteStream stream not None):
    """Ask for what the stream holds to be applied, as a task does that wants to let rows go."""
    stream.want_applied()
