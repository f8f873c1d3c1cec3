"""See row_table.pxd for what each method promises."""
import os

from libc.stdint cimport uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.state.key_hash cimport prefetch, same_bytes
from streamdsl._native.state.key_index cimport (
    IndexEntry, index_bytes, index_clear, index_erase, index_free, index_init, index_put,
)
from streamdsl._native.state.pages cimport (
    PAGE_BITS, PAGE_ROWS, PageRows, pages_add, pages_clear, pages_free, pages_give, pages_release, pages_settle,
    pages_take,
)
from streamdsl._native.state.slot_list cimport slots_free, slots_grow, slots_push
from streamdsl._native.state.write_stream cimport (
    ENTRY_DELETE, ENTRY_PUT, bytes_free, bytes_init, bytes_reserve, entry_close, entry_open,
)

from streamdsl.errors import InternalError, StateError

cdef enum:
    MOST_SLOTS = 4294967294
    AHEAD = 8                  # rows between asking for one's memory and using it
    DRAIN_BYTES = 16384        # of rows for one append to the stream
    PACE = 2                   # rows that are looked at for each key that comes: they do not become more while as many expire,
    MOST_LOOKED_AT = 8192      # but so many in one go at most
    KEY_ROOM = 20              # a 64-bit number in digits; a row of a few aggregates is two lines of the cache with it


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for state")


cdef int too_many_keys() except -1 nogil:
    with gil:
        raise StateError("a task holds 4,294,967,294 keys in memory at most", remedy="raise the parallelism")


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

    cdef bint empty(self, char* field) noexcept nogil:
        return False

    cdef void prefetch_parts(self, char* field) noexcept nogil:
        pass

    cdef int64_t heap_bytes(self, char* field):
        return 0


cdef class RowTable:
    """The rows of a `KeyTable`; made as one."""

    def __cinit__(self):
        bytes_init(&self.scratch, 0)
        index_init(&self.index)
        self.dirty_bit = ROW_CHANGED_EVEN
        self.pending_bit = ROW_CHANGED_ODD
        self.stride = self.fields_at = sizeof(RowHeader)

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

    def __dealloc__(self):
        pages_free(&self.pages)
        free(self.field_refs)
        index_free(&self.index)
        slots_free(&self.dirty)
        slots_free(&self.pending)
        slots_free(&self.retired)
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
        self.expires = self.expires or field.expires
        if self.n_fields == 1:
            # Where there is nothing but keys, these begin with a deadline and are long.
            self.key_room = KEY_ROOM
            self.stride += KEY_ROOM - HEADER_ROOM
            self.fields_at = self.stride
        field.offset = self.stride - <int64_t>sizeof(RowHeader)
        self.stride += (field.size + 7) & ~<int64_t>7

    def describe(self):
        """Return what the manifest says about this table."""
        return {"id": self.id, "kind": self.kind, "name": self.name, "key": self.key_layout,
                "fields": [{"id": i, "name": (<RowField>field).name, "layout": (<RowField>field).layout}
                           for i, field in enumerate(self.fields)]}

    # -- slots

    cdef int64_t find_hashed(self, const char* key, int32_t size, uint64_t hash) noexcept nogil:
        cdef IndexEntry* index = self.index.entries
        cdef uint32_t tag = <uint32_t>hash
        cdef uint64_t at = tag & self.index.mask
        cdef RowHeader* header
        while index[at].slot != 0:
            if index[at].hash == tag:
                header = self.header(<int64_t>index[at].slot - 1)
                if header.hash == <uint32_t>hash and header.key_size == size and same_bytes(header.key, key, size):
                    return <int64_t>index[at].slot - 1
            at = (at + 1) & self.index.mask
        return -2

    cdef int64_t place(self, const char* key, int32_t size, uint64_t hash, int32_t shard, bint dirty) except -1 nogil:
        """Make a row with initialised fields for an absent key."""
        cdef int64_t slot = self.take_slot()
        cdef RowHeader* header = self.header(slot)
        # The slot's last row may have left it in the dirty list, or in the evictor's queue.
        cdef uint8_t kept = header.flags & (self.dirty_bit | ROW_QUEUED)
        cdef bint done = False
        memset(header, 0, self.stride)
        header.flags = kept
        try:
            header.key = self.arena.alloc(size) if size > self.key_room else header.room
            if size > 0:
                memcpy(header.key, key, size)
            header.key_size = size
            self.init_fields(slot)
            if dirty and not kept & self.dirty_bit:
                self.mark_dirty(slot)
            index_put(&self.index, hash, slot)
            done = True
        finally:
            if not done:
                header.key_size = size
                self.free_key(header)
                self.give_slot(slot)
        header.hash = <uint32_t>hash
        header.shard = <uint16_t>shard
        header.flags |= ROW_LIVE
        self.count += 1
        self.placed += 1
        return slot

    cdef int init_fields(self, int64_t slot) except -1 nogil:
        cdef int i
        for i in range(self.n_fields):
            (<RowField>self.field_refs[i]).init(self.row(slot) + (<RowField>self.field_refs[i]).offset)
        return 0

    cdef int clear_fields(self, int64_t slot) except -1 nogil:
        cdef int i
        for i in range(self.n_fields):
            (<RowField>self.field_refs[i]).clear(self.row(slot) + (<RowField>self.field_refs[i]).offset)
        return 0

    cdef int revive(self, int64_t slot) except -1 nogil:
        """The key of a removed row has come again."""
        self.touch(slot)
        memset(<char*>self.header(slot) + self.fields_at, 0, self.stride - self.fields_at)
        self.init_fields(slot)
        self.header(slot).flags = (self.header(slot).flags & ~<uint8_t>ROW_GONE) | ROW_LIVE
        self.count += 1
        return 0

    cdef int remove(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.header(slot)
        CHECK(slot < self.used and header.flags & ROW_LIVE != 0, "a row that is removed is live")
        self.touch(slot)
        self.clear_fields(slot)
        header.flags &= ~<uint8_t>(ROW_LIVE | ROW_RECENT)
        header.held = 0
        self.count -= 1
        if header.flags & ROW_STORED and not PLANTED("delete-missing"):
            header.flags |= ROW_GONE         # the delete goes the way of a change: into the stream behind the next barrier
            return 0
        return self.free_row(slot)

    cdef bint empty(self, int64_t slot) noexcept nogil:
        cdef int i
        for i in range(self.n_fields):
            if not (<RowField>self.field_refs[i]).empty(self.row(slot) + (<RowField>self.field_refs[i]).offset):
                return False
        return self.n_fields > 0

    cdef int forget_empty(self) except -1 nogil:
        cdef int64_t n = min(PACE * self.placed, <int64_t>MOST_LOOKED_AT)
        cdef RowHeader* header
        self.placed = 0
        while n > 0:
            n -= 1
            if self.looked_at >= self.used:
                self.looked_at = 0
            if not self.looked_at & (PAGE_ROWS - 1) and self.pages.rows[self.looked_at >> PAGE_BITS].free == PAGE_ROWS:
                self.looked_at += PAGE_ROWS          # nothing is in it
                continue
            header = self.header(self.looked_at)
            if (header.flags & ROW_LIVE and not header.flags & ROW_QUEUED and not header.held and self.empty(self.looked_at)
                    and not PLANTED("outlived-frame-kept")):
                self.remove(self.looked_at)
            self.looked_at += 1
        return 0

    cdef int free_row(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.header(slot)
        index_erase(&self.index, header.hash, slot)
        self.free_key(header)
        header.flags &= self.dirty_bit | ROW_QUEUED
        self.give_slot(slot)
        return 0

    cdef void free_key(self, RowHeader* header) noexcept nogil:
        if header.key_size > self.key_room:
            self.arena.free(header.key, header.key_size)
        header.key = NULL

    cdef int64_t first_slot(self, int64_t start) noexcept nogil:
        while start < self.used:
            if self.header(start).flags & ROW_LIVE:
                return start
            start += 1
        return -1

    cdef int clear_rows(self) except -1 nogil:
        cdef int64_t slot
        cdef int i
        # What else a row has is in the arena, which goes as a whole.
        for i in range(self.n_fields):
            if (<RowField>self.field_refs[i]).on_heap:
                for slot in range(self.used):
                    if self.header(slot).flags & ROW_LIVE:
                        (<RowField>self.field_refs[i]).clear(self.row(slot) + (<RowField>self.field_refs[i]).offset)
        index_clear(&self.index)
        pages_clear(&self.pages)
        self.count = self.used = self.placed = self.looked_at = 0
        self.scratch.used = self.scratch_rows = 0
        self.dirty.n = self.pending.n = self.pending_at = self.retired.n = 0
        return 0

    # -- barriers

    cdef int touch_clean(self, int64_t slot) except -1 nogil:
        CHECK(slot < self.used and self.header(slot).flags & (ROW_LIVE | ROW_GONE) != 0, "a row that is touched is live")
        if PLANTED("dirty-mark-missed"):
            return 0
        if self.header(slot).flags & self.pending_bit and not PLANTED("pending-row-not-copied"):
            self.serialise(slot)             # in front of MARK, whenever the scratch goes: `drain` ends with it
            if self.scratch.used >= DRAIN_BYTES:
                self.flush_scratch()
        return self.mark_dirty(slot)

    cdef int mark_dirty(self, int64_t slot) except -1 nogil:
        if self.dirty.n == self.dirty.capacity and self.dirty.n >= self.used:        # else no slot need be in it twice
            self.compact_dirty()
            if self.dirty.n > self.dirty.capacity - self.dirty.capacity // 4:
                slots_grow(&self.dirty)      # a list that stays nearly full would be gone through again and again
        slots_push(&self.dirty, slot)
        self.header(slot).flags = (self.header(slot).flags | self.dirty_bit) & ~<uint8_t>ROW_LEAVING
        return 0

    cdef void compact_dirty(self) noexcept nogil:
        # A row that the evictor has written stays in the list, and comes again when it changes: keep each slot once.
        cdef int64_t i, n = 0
        for i in range(self.dirty.n):
            if self.header(self.dirty.at[i]).flags & self.dirty_bit:
                self.header(self.dirty.at[i]).flags &= ~self.dirty_bit
                self.dirty.at[n] = self.dirty.at[i]
                n += 1
        self.dirty.n = n
        for i in range(n):
            self.header(self.dirty.at[i]).flags |= self.dirty_bit

    cdef int begin(self) except -1 nogil:
        cdef SlotList taken = self.pending
        cdef uint8_t bit = self.pending_bit
        CHECK(self.pending_at == self.pending.n or PLANTED("second-barrier-forgets-pending"), "nothing is pending when a barrier begins")
        self.pending = self.dirty
        self.pending_at = 0
        self.pending_bit = self.dirty_bit
        taken.n = 0
        self.dirty = taken
        self.dirty_bit = bit
        self.give_memory_back(pages_settle(&self.pages))
        return 0

    cdef int64_t drain(self, int64_t max_rows) except -1 nogil:
        cdef int64_t start = self.pending_at
        cdef int64_t end = self.pending.n if self.pending.n - start < max_rows else start + max_rows
        cdef int64_t slot
        cdef RowHeader* header
        while self.pending_at < end:
            if self.pending_at + 2 * AHEAD < end:
                self.prefetch_row(self.pending.at[self.pending_at + 2 * AHEAD])
            if self.pending_at + AHEAD < end:
                self.prefetch_parts(self.pending.at[self.pending_at + AHEAD])
            slot = self.pending.at[self.pending_at]
            header = self.header(slot)
            if header.flags & self.pending_bit:
                if header.flags & (ROW_LIVE | ROW_GONE):
                    self.serialise(slot)
                    if header.flags & ROW_GONE and not header.flags & self.dirty_bit:
                        slots_push(&self.retired, slot)
                    if self.scratch.used >= DRAIN_BYTES:
                        self.flush_scratch()
                else:
                    header.flags &= ~self.pending_bit
            self.pending_at += 1
        self.flush_scratch()
        return self.pending_at - start

    cdef int serialise(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.header(slot)
        cdef uint32_t kind = ENTRY_DELETE if header.flags & ROW_GONE else ENTRY_PUT
        cdef int64_t entry = entry_open(&self.scratch, kind, header.shard, self.id, header.key, header.key_size)
        cdef bint done = False
        CHECK(header.flags & (ROW_LIVE | ROW_GONE) != 0, "a row that is written is live, or its delete is")
        try:
            if kind == ENTRY_PUT:
                self.serialise_fields(slot)
                entry_close(&self.scratch, entry)
            done = True
        finally:
            if not done:                     # rows in front of this one are whole: they go with the next append
                self.scratch.used = entry
        header.flags = (header.flags & ~self.pending_bit) | ROW_STORED
        self.scratch_rows += 1
        return 0

    cdef int serialise_fields(self, int64_t slot) except -1 nogil:
        cdef int64_t field
        cdef int i
        cdef uint16_t field_id
        cdef uint32_t field_size
        for i in range(self.n_fields):
            bytes_reserve(&self.scratch, 6)
            field = self.scratch.used
            self.scratch.used += 6
            (<RowField>self.field_refs[i]).write(self.row(slot) + (<RowField>self.field_refs[i]).offset, &self.scratch)
            field_id = <uint16_t>i
            field_size = <uint32_t>(self.scratch.used - field - 6)
            memcpy(self.scratch.data + field, &field_id, 2)
            memcpy(self.scratch.data + field + 2, &field_size, 4)
        return 0

    cdef void prefetch_row(self, int64_t slot) noexcept nogil:
        cdef char* header = <char*>self.header(slot)
        cdef int64_t line
        for line in range(0, self.stride, 64):
            prefetch(header + line)

    cdef void prefetch_parts(self, int64_t slot) noexcept nogil:
        cdef RowHeader* header = self.header(slot)
        cdef int i
        if header.flags & self.pending_bit:
            prefetch(header.key)
            for i in range(self.n_fields):
                (<RowField>self.field_refs[i]).prefetch_parts(self.row(slot) + (<RowField>self.field_refs[i]).offset)

    cdef int flush_scratch(self) except -1 nogil:
        if self.scratch.used > 0:
            self.stream.append(self.scratch.data, self.scratch.used, self.scratch_rows)
            self.scratch.used = self.scratch_rows = 0
        return 0

    cdef int clean(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.header(slot)
        if header.flags & (self.dirty_bit | self.pending_bit):
            self.serialise(slot)
            header.flags &= ~self.dirty_bit
        return 0

    cdef int read_fields(self, int64_t slot, const char* value, int64_t size, const int32_t* fields, int64_t n_fields) except -1 nogil:
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
            target = field_id if fields == NULL else fields[field_id]
            if target >= 0:
                (<RowField>self.field_refs[target]).read(row + (<RowField>self.field_refs[target]).offset, value, field_size)
            value += field_size
            size -= field_size
        return 0

    # -- memory

    cdef int64_t take_slot(self) except -1 nogil:
        cdef int64_t slot = pages_take(&self.pages, self.stride)
        if slot >= 0:
            return slot
        if self.used == MOST_SLOTS:
            too_many_keys()
        if self.used == self.pages.n << PAGE_BITS:
            pages_add(&self.pages, self.stride)
        self.header(self.used).flags = 0
        self.used += 1
        return self.used - 1

    cdef void give_slot(self, int64_t slot) noexcept nogil:
        pages_give(&self.pages, slot)

    cdef void give_memory_back(self, int64_t most) noexcept nogil:
        cdef int64_t first, end = self.pages.n, stride = self.stride << PAGE_BITS
        # Some free memory is kept: what has left may come again soon.
        cdef int64_t kept = max((self.used - self.pages.n_released) >> 4, <int64_t>(4 * PAGE_ROWS))
        most = min(most, self.pages.n_free - self.pages.n_released - kept)
        self.pages.emptied = False
        while most > 0 and end > 0:
            first = end
            while (first > 0 and most > 0 and (first == end or self.pages.at[first - 1] + stride == self.pages.at[first])
                   and self.is_spare(first - 1)):
                first -= 1
                most -= PAGE_ROWS
            if first < end:
                pages_release(&self.pages, self.stride, first, end)
                end = first
            else:
                end -= 1
        self.pages.emptied = self.pages.emptied or end > 0       # it has not come to all of them

    cdef bint is_spare(self, int64_t page) noexcept nogil:
        """Whether the page has memory that nothing stands in."""
        cdef int64_t slot
        if self.pages.rows[page].free < PAGE_ROWS and not PLANTED("memory-of-rows-given-back"):
            return False
        if self.pages.rows[page].released:
            return False
        for slot in range(page << PAGE_BITS, (page + 1) << PAGE_BITS):
            if self.header(slot).flags & ROW_QUEUED:     # the evictor will look at the flag
                self.pages.emptied = True
                return False
        return True

    cdef int64_t row_memory(self) noexcept nogil:
        return (self.used - self.pages.n_free) * self.stride + <int64_t>(self.heap_a_row * self.count)

    cdef int64_t overhead(self) noexcept nogil:
        return (index_bytes(&self.index) + self.scratch.capacity
                + (self.dirty.capacity + self.pending.capacity + self.retired.capacity) * sizeof(uint32_t)
                + self.pages.capacity * (sizeof(char*) + sizeof(PageRows)))
