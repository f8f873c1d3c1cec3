"""See key_table.pxd for what each method promises.

The index keeps 32 bits of the hash beside the slot: growing and erasing never read a row. A lookup of a batch goes in
groups: hash all and prefetch the index, probe all and prefetch the rows, then the keys, then compare; so the cache
misses of a group overlap.
"""
import os

cimport cython
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.state.key_hash cimport hash_bytes, huge_alloc, prefetch, same_bytes
from streamdsl._native.state.murmur2 cimport shard_of
from streamdsl._native.state.write_stream cimport (
    ENTRY_DELETE, ENTRY_PUT, bytes_free, bytes_init, bytes_reserve, entry_close, entry_open,
)

from streamdsl.errors import InternalError, StateError

cdef enum:
    GROUP = 64                 # keys whose cache misses overlap
    FIRST_INDEX = 64           # entries
    MOST_SLOTS = 4294967294
    DRAIN_CHUNK = 256          # rows for one append to the stream
    SINGLE_PAGES = 32          # pages allocated one by one before whole blocks are taken
    BLOCK_PAGES = 32
    PREFETCHED = 256           # bytes of a row
    HUGE_PAGE = 2097152


cdef struct IndexEntry:
    uint32_t hash
    uint32_t slot              # + 1; 0 = empty


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for state")


cdef int too_many_keys() except -1 nogil:
    with gil:
        raise StateError("a task holds 4,294,967,294 keys at most", remedy="raise the parallelism")


cdef int damaged_row() except -1 nogil:
    with gil:
        raise StateError("a stored row is damaged: its fields do not fill its bytes",
                         remedy="restore from another checkpoint")


cdef class RowField:
    """Base of the fields: keeps nothing."""

    def __init__(self, str name not None, str layout not None, int64_t size):
        self.name = name
        self.layout = layout
        self.size = size

    cdef int init(self, char* field) except -1 nogil:
        return 0

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        return 0

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        return 0

    cdef int clear(self, char* field) except -1 nogil:
        return 0


@cython.final
cdef class KeyTable:
    """Keys and rows of one task. Made by `StateStore.add_table`; fields are added before the first key."""

    def __cinit__(self):
        bytes_init(&self.deletes, 0)
        bytes_init(&self.scratch, 0)
        self.dirty_bit = ROW_CHANGED_EVEN
        self.pending_bit = ROW_CHANGED_ODD
        self.stride = sizeof(RowHeader)

    def __init__(self, int id, str kind, str name, str key_layout, int shards, Arena arena not None,
                 WriteStream stream not None):
        if not 0 < shards <= 65536 or not 0 <= id < 65536:
            raise InternalError(f"table {id} with {shards} shards: both are 16-bit numbers in the database")
        self.id = id
        self.kind = kind
        self.name = name
        self.key_layout = key_layout
        self.shards = shards
        self.arena = arena
        self.stream = stream
        self.fields = []
        self.seed = int.from_bytes(os.urandom(8), "little")
        self.index = calloc(FIRST_INDEX, sizeof(IndexEntry))
        if self.index == NULL:
            no_memory()
        self.index_mask = FIRST_INDEX - 1

    def __dealloc__(self):
        cdef int64_t i
        for i in range(self.n_blocks):
            free(self.blocks[i])
        free(self.blocks)
        free(self.pages)
        free(self.index)
        free(self.free_slots)
        free(self.dirty)
        free(self.pending)
        free(self.field_refs)
        bytes_free(&self.deletes)
        bytes_free(&self.scratch)

    def add_field(self, RowField field not None):
        """Append a field to the rows; only while the table has never held a key."""
        cdef void** refs
        if self.used:
            raise InternalError(f"field {field.name!r} is added to table {self.name!r}, which already holds rows")
        if field.table is not None or any(field.name == other.name for other in self.fields):
            raise InternalError(f"field {field.name!r} is added to table {self.name!r} twice")
        refs = <void**>realloc(self.field_refs, (self.n_fields + 1) * sizeof(void*))
        if refs == NULL:
            no_memory()
        self.field_refs = refs
        self.field_refs[self.n_fields] = <void*>field
        self.n_fields += 1
        self.fields.append(field)
        field.table = self
        field.offset = self.stride - <int64_t>sizeof(RowHeader)
        self.stride += (field.size + 7) & ~<int64_t>7

    def describe(self):
        """Return what the manifest says about this table."""
        return {"id": self.id, "kind": self.kind, "name": self.name, "key": self.key_layout,
                "fields": [{"id": i, "name": (<RowField>field).name, "layout": (<RowField>field).layout}
                           for i, field in enumerate(self.fields)]}

    # -- keys

    cdef int64_t find_or_insert(self, const char* key, int32_t size, int32_t shard) except -1 nogil:
        cdef uint64_t hash = hash_bytes(key, size, self.seed)
        cdef int64_t slot = self.find_hashed(key, size, hash)
        return slot if slot >= 0 else self.insert(key, size, hash, shard)

    cdef int64_t find(self, const char* key, int32_t size) except -1 nogil:
        return self.find_hashed(key, size, hash_bytes(key, size, self.seed))

    cdef int64_t find_hashed(self, const char* key, int32_t size, uint64_t hash) noexcept nogil:
        cdef IndexEntry* index = <IndexEntry*>self.index
        cdef uint32_t tag = <uint32_t>hash
        cdef uint64_t at = tag & self.index_mask
        cdef RowHeader* header
        while index[at].slot != 0:
            if index[at].hash == tag:
                header = self.header(<int64_t>index[at].slot - 1)
                if header.hash == hash and header.key_size == size and same_bytes(header.key, key, size):
                    return <int64_t>index[at].slot - 1
            at = (at + 1) & self.index_mask
        return -2

    cdef int lookup_batch(self, const char* values, const int32_t* offsets, int64_t n, int64_t* slots) except -1 nogil:
        cdef uint64_t[GROUP] hashes
        cdef IndexEntry* index
        cdef RowHeader* header
        cdef const char* key
        cdef int64_t base, i, slot
        cdef int64_t width
        cdef int32_t size
        cdef uint64_t at
        cdef uint32_t tag
        cdef int64_t line, ahead = min(self.stride, <int64_t>PREFETCHED)
        base = 0
        while base < n:
            width = n - base if n - base < GROUP else GROUP
            index = <IndexEntry*>self.index
            for i in range(width):
                hashes[i] = hash_bytes(values + offsets[base + i], offsets[base + i + 1] - offsets[base + i], self.seed)
                prefetch(&index[<uint32_t>hashes[i] & self.index_mask])
            for i in range(width):
                tag = <uint32_t>hashes[i]
                at = tag & self.index_mask
                while index[at].slot != 0 and index[at].hash != tag:
                    at = (at + 1) & self.index_mask
                slot = <int64_t>index[at].slot - 1
                slots[base + i] = slot
                if slot >= 0:
                    header = self.header(slot)
                    prefetch(header)
                    line = 64
                    while line < ahead:      # the operators will want the fields at once
                        prefetch(<char*>header + line)
                        line += 64
            for i in range(width):
                if slots[base + i] >= 0:
                    prefetch(self.header(slots[base + i]).key)
            for i in range(width):
                key = values + offsets[base + i]
                size = offsets[base + i + 1] - offsets[base + i]
                slot = slots[base + i]
                if slot >= 0:
                    header = self.header(slot)
                    if header.hash == hashes[i] and header.key_size == size and same_bytes(header.key, key, size):
                        continue
                # Absent, just inserted by this group, or another key with the same 32 bits: the careful way.
                slot = self.find_hashed(key, size, hashes[i])
                slots[base + i] = slot if slot >= 0 else self.insert(key, size, hashes[i], -1)
            base += width
        return 0

    cdef int64_t insert(self, const char* key, int32_t size, uint64_t hash, int32_t shard) except -1 nogil:
        cdef int64_t slot
        cdef RowHeader* header
        cdef char* row
        cdef uint8_t listed
        cdef bint done = False
        cdef uint64_t at
        cdef IndexEntry* index
        cdef int i
        if <uint64_t>(self.count + 1) * 8 > (self.index_mask + 1) * 5:
            self.grow_index()
        slot = self.take_slot()
        header = self.header(slot)
        row = self.row(slot)
        listed = header.flags & self.dirty_bit     # the slot's last row left it in the dirty list
        memset(header, 0, self.stride)
        header.flags = listed
        try:
            header.key = self.arena.alloc(size)
            if size > 0:
                memcpy(header.key, key, size)
            header.key_size = size
            for i in range(self.n_fields):
                (<RowField>self.field_refs[i]).init(row + (<RowField>self.field_refs[i]).offset)
            if not listed:
                self.mark_dirty(slot)
            done = True
        finally:
            if not done:
                self.arena.free(header.key, size)
                header.key = NULL
                self.give_slot(slot)
        header.hash = hash
        header.shard = <uint16_t>shard if shard >= 0 else shard_of(key, size, self.shards)
        header.flags |= ROW_LIVE
        index = <IndexEntry*>self.index
        at = <uint32_t>hash & self.index_mask
        while index[at].slot != 0:
            at = (at + 1) & self.index_mask
        index[at].hash = <uint32_t>hash
        index[at].slot = <uint32_t>(slot + 1)
        self.count += 1
        return slot

    cdef int remove(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.header(slot)
        cdef char* row = self.row(slot)
        cdef int i
        CHECK(slot < self.used and header.flags & ROW_LIVE != 0, "a row that is removed is live")
        if header.flags & self.pending_bit:
            self.serialise(slot)
            self.flush_scratch(1)
        if header.flags & ROW_STORED and not PLANTED("delete-missing"):
            entry_open(&self.deletes, ENTRY_DELETE, header.shard, self.id, header.key, header.key_size)
            self.n_deletes += 1
        for i in range(self.n_fields):
            (<RowField>self.field_refs[i]).clear(row + (<RowField>self.field_refs[i]).offset)
        self.erase_index(header.hash, slot)
        self.arena.free(header.key, header.key_size)
        header.key = NULL
        header.flags &= self.dirty_bit
        self.count -= 1
        return self.give_slot(slot)

    cdef int64_t first_slot(self, int64_t start) noexcept nogil:
        while start < self.used:
            if self.header(start).flags & ROW_LIVE:
                return start
            start += 1
        return -1

    cdef int clear_rows(self) except -1 nogil:
        cdef int64_t slot = self.first_slot(0)
        cdef int i
        while slot >= 0:
            for i in range(self.n_fields):
                (<RowField>self.field_refs[i]).clear(self.row(slot) + (<RowField>self.field_refs[i]).offset)
            self.arena.free(self.header(slot).key, self.header(slot).key_size)
            self.header(slot).flags = 0
            slot = self.first_slot(slot + 1)
        memset(self.index, 0, (self.index_mask + 1) * sizeof(IndexEntry))
        self.count = self.used = self.n_free = 0
        self.n_dirty = self.n_pending = self.pending_at = 0
        return 0

    # -- barriers

    cdef int touch_clean(self, int64_t slot) except -1 nogil:
        CHECK(slot < self.used and self.header(slot).flags & ROW_LIVE != 0, "a row that is touched is live")
        if PLANTED("dirty-mark-missed"):
            return 0
        if self.header(slot).flags & self.pending_bit and not PLANTED("pending-row-not-copied"):
            self.serialise(slot)
            self.flush_scratch(1)
        return self.mark_dirty(slot)

    cdef int mark_dirty(self, int64_t slot) except -1 nogil:
        cdef int64_t* grown
        if self.n_dirty == self.dirty_capacity:
            grown = <int64_t*>realloc(self.dirty, (self.dirty_capacity * 2 + 64) * sizeof(int64_t))
            if grown == NULL:
                no_memory()
            self.dirty = grown
            self.dirty_capacity = self.dirty_capacity * 2 + 64
        self.dirty[self.n_dirty] = slot
        self.n_dirty += 1
        self.header(slot).flags |= self.dirty_bit
        return 0

    cdef int begin(self) except -1 nogil:
        cdef int64_t* rows = self.pending
        cdef int64_t capacity = self.pending_capacity
        cdef uint8_t bit = self.pending_bit
        CHECK(self.pending_at == self.n_pending or PLANTED("second-barrier-forgets-pending"), "nothing is pending when a barrier begins")
        if self.n_deletes > 0:
            self.stream.append(self.deletes.data, self.deletes.used, self.n_deletes)
            self.deletes.used = 0
            self.n_deletes = 0
        self.pending = self.dirty
        self.pending_capacity = self.dirty_capacity
        self.n_pending = self.n_dirty
        self.pending_at = 0
        self.pending_bit = self.dirty_bit
        self.dirty = rows
        self.dirty_capacity = capacity
        self.n_dirty = 0
        self.dirty_bit = bit
        return 0

    cdef int64_t drain(self, int64_t max_rows) except -1 nogil:
        cdef int64_t start = self.pending_at
        cdef int64_t end = self.n_pending if self.n_pending - start < max_rows else start + max_rows
        cdef int64_t slot
        cdef int64_t rows = 0
        cdef RowHeader* header
        while self.pending_at < end:
            if self.pending_at + 8 < end:
                prefetch(self.header(self.pending[self.pending_at + 8]))
            slot = self.pending[self.pending_at]
            header = self.header(slot)
            if header.flags & self.pending_bit:
                if header.flags & ROW_LIVE:
                    self.serialise(slot)
                    rows += 1
                    if rows == DRAIN_CHUNK:
                        self.flush_scratch(rows)
                        rows = 0
                else:
                    header.flags &= ~self.pending_bit
            self.pending_at += 1
        self.flush_scratch(rows)
        return self.pending_at - start

    cdef int serialise(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.header(slot)
        cdef char* row = self.row(slot)
        cdef int64_t entry, field, size
        cdef int i
        cdef uint16_t field_id
        cdef uint32_t field_size
        cdef bint done = False
        CHECK(header.flags & ROW_LIVE != 0, "a row that is written is live")
        entry = entry_open(&self.scratch, ENTRY_PUT, header.shard, self.id, header.key, header.key_size)
        try:
            for i in range(self.n_fields):
                bytes_reserve(&self.scratch, 6)
                field = self.scratch.used
                self.scratch.used += 6
                (<RowField>self.field_refs[i]).write(row + (<RowField>self.field_refs[i]).offset, &self.scratch)
                size = self.scratch.used - field - 6
                field_id = <uint16_t>i
                field_size = <uint32_t>size
                memcpy(self.scratch.data + field, &field_id, 2)
                memcpy(self.scratch.data + field + 2, &field_size, 4)
            entry_close(&self.scratch, entry)
            done = True
        finally:
            if not done:                     # rows in front of this one are whole: they go with the next append
                self.scratch.used = entry
        header.flags = (header.flags & ~self.pending_bit) | ROW_STORED
        return 0

    cdef int flush_scratch(self, int64_t n) except -1 nogil:
        if self.scratch.used > 0:
            self.stream.append(self.scratch.data, self.scratch.used, n)
            self.scratch.used = 0
        return 0

    cdef int64_t restore_row(self, const char* key, int32_t key_size, int32_t shard, const char* value, int64_t size,
                             const int32_t* fields, int64_t n_fields, bint stored) except -1 nogil:
        cdef int64_t slot = self.find_or_insert(key, key_size, shard)
        cdef RowHeader* header = self.header(slot)
        cdef char* row = self.row(slot)
        cdef uint16_t field_id
        cdef uint32_t field_size
        cdef int32_t target
        while size > 0:
            if size < 6:
                damaged_row()
            memcpy(&field_id, value, 2)
            memcpy(&field_size, value + 2, 4)
            value += 6
            size -= 6
            if field_size > size or field_id >= n_fields:
                damaged_row()
            target = fields[field_id]
            if target >= 0:
                (<RowField>self.field_refs[target]).read(row + (<RowField>self.field_refs[target]).offset, value, field_size)
            value += field_size
            size -= field_size
        if stored:
            # The live database has exactly this row. (Its entry in the dirty list goes stale.)
            header.flags = ROW_LIVE | ROW_STORED
        return slot

    # -- memory

    cdef int64_t take_slot(self) except -1 nogil:
        if self.n_free > 0:
            self.n_free -= 1
            return self.free_slots[self.n_free]
        if self.used == MOST_SLOTS:
            too_many_keys()
        if self.used == self.n_pages << PAGE_BITS:
            self.add_page()
        self.header(self.used).flags = 0
        self.used += 1
        return self.used - 1

    cdef int give_slot(self, int64_t slot) except -1 nogil:
        cdef int64_t* grown
        if self.n_free == self.free_capacity:
            grown = <int64_t*>realloc(self.free_slots, (self.free_capacity * 2 + 64) * sizeof(int64_t))
            if grown == NULL:
                no_memory()
            self.free_slots = grown
            self.free_capacity = self.free_capacity * 2 + 64
        self.free_slots[self.n_free] = slot
        self.n_free += 1
        return 0

    cdef int add_page(self) except -1 nogil:
        cdef void* block
        cdef void** grown
        cdef int64_t bytes_a_page = self.stride << PAGE_BITS
        cdef int64_t size
        if self.n_pages == self.page_capacity:
            grown = <void**>realloc(self.pages, (self.page_capacity * 2 + 16) * sizeof(char*))
            if grown == NULL:
                no_memory()
            self.pages = <char**>grown
            self.page_capacity = self.page_capacity * 2 + 16
        if self.block_pages == 0:
            grown = <void**>realloc(self.blocks, (self.n_blocks + 1) * sizeof(void*))
            if grown == NULL:
                no_memory()
            self.blocks = grown
            if self.n_pages < SINGLE_PAGES:
                block = malloc(bytes_a_page)
                self.block_pages = 1
            else:
                size = (bytes_a_page * BLOCK_PAGES + HUGE_PAGE - 1) & ~<int64_t>(HUGE_PAGE - 1)
                block = huge_alloc(size)
                self.block_pages = BLOCK_PAGES
            if block == NULL:
                self.block_pages = 0
                no_memory()
            self.blocks[self.n_blocks] = block
            self.n_blocks += 1
            self.block_cursor = <char*>block
        self.pages[self.n_pages] = self.block_cursor
        self.block_cursor += bytes_a_page
        self.block_pages -= 1
        self.n_pages += 1
        return 0

    cdef int grow_index(self) except -1 nogil:
        cdef uint64_t old_size = self.index_mask + 1
        cdef uint64_t mask = old_size * 2 - 1
        cdef uint64_t i, at
        cdef size_t size = old_size * 2 * sizeof(IndexEntry)
        cdef IndexEntry* old = <IndexEntry*>self.index
        cdef IndexEntry* grown
        grown = <IndexEntry*>(huge_alloc(size) if size >= HUGE_PAGE else malloc(size))
        if grown == NULL:
            no_memory()
        memset(grown, 0, size)
        for i in range(old_size):
            if old[i].slot != 0:
                at = old[i].hash & mask
                while grown[at].slot != 0:
                    at = (at + 1) & mask
                grown[at] = old[i]
        free(old)
        self.index = grown
        self.index_mask = mask
        return 0

    cdef void erase_index(self, uint64_t hash, int64_t slot) noexcept nogil:
        # Closes the gap by moving later entries of the cluster back: no tombstones, lookups stay short.
        cdef IndexEntry* index = <IndexEntry*>self.index
        cdef uint64_t mask = self.index_mask
        cdef uint64_t hole = <uint32_t>hash & mask
        cdef uint64_t at, home
        while index[hole].slot != <uint32_t>(slot + 1):
            hole = (hole + 1) & mask
        at = (hole + 1) & mask
        while index[at].slot != 0:
            home = index[at].hash & mask
            if ((at - home) & mask) >= ((at - hole) & mask):
                index[hole] = index[at]
                hole = at
            at = (at + 1) & mask
        index[hole].slot = 0

    cdef int64_t memory(self) noexcept nogil:
        return ((self.n_pages * self.stride << PAGE_BITS) + <int64_t>(self.index_mask + 1) * sizeof(IndexEntry)
                + (self.dirty_capacity + self.pending_capacity + self.free_capacity) * 8
                + self.deletes.capacity + self.scratch.capacity)
