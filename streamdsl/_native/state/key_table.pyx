"""See key_table.pxd for what each method promises.

A lookup of a batch goes in groups: hash all and prefetch the index, probe all and prefetch the rows, then the keys, then
compare; so the cache misses of a group overlap. Keys that may be cold are asked of the database together.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.state.cold_filter cimport filter_add, filter_bytes, filter_clear, filter_has
from streamdsl._native.state.key_hash cimport hash_bytes, prefetch, same_bytes
from streamdsl._native.state.key_index cimport IndexEntry
from streamdsl._native.state.murmur2 cimport shard_of
from streamdsl._native.state.row_table cimport ROW_GONE, ROW_RECENT, ROW_STORED, RowHeader
from streamdsl._native.state.slot_list cimport slots_free, slots_push

cdef enum:
    GROUP = 64                 # keys whose cache misses overlap
    PREFETCHED = 256           # bytes of a row
    CHECKED = 4                # cold rows that are looked at in any case,
    PACE = 2                   # and for each one that has left: so the database does not fill up with what has expired,
    MOST_CHECKED = 128         # but so many in one go at most


cdef class ColdListener:
    cdef int on_cold(self, const RowHeader* header) except -1 nogil:
        return 0

    cdef int on_hot(self, int64_t slot) except -1 nogil:
        return 0

    cdef int on_cleared(self) except -1 nogil:
        return 0

    cdef int64_t memory(self) noexcept nogil:
        return 0

    cdef int on_begin(self) except -1 nogil:
        return 0

    cdef int64_t on_drain(self, int64_t most) except -1 nogil:
        return 0

    cdef bint behind(self) noexcept nogil:
        return False

    cdef int on_pressure(self) except -1 nogil:
        return 0

    cdef int on_limit(self, int64_t limit) except -1:
        return 0

    def beside(self):
        """Return how many rows it keeps in another form, beside the table's."""
        return 0


@cython.final
cdef class KeyTable(RowTable):
    """Keys and rows of one task. Made by `StateStore.add_table`; fields are added before the first key."""

    def __init__(self, int id, str kind, str name, str key_layout, int shards, Arena arena not None,
                 WriteStream stream not None):
        RowTable.__init__(self, id, kind, name, key_layout, shards, arena, stream)
        self.cold_shards = <int32_t*>calloc(shards, sizeof(int32_t))
        if self.cold_shards == NULL:
            raise MemoryError("no memory left for state")
        self.next_after = b""

    def __dealloc__(self):
        free(self.cold_shards)
        filter_clear(&self.filter)
        slots_free(&self.missing)

    cdef int64_t find_or_insert(self, const char* key, int32_t size, int32_t shard) except -1 nogil:
        cdef uint64_t hash = hash_bytes(key, size, self.seed)
        cdef int64_t slot = self.find_hashed(key, size, hash)
        if slot >= 0:
            if self.header(slot).flags & ROW_GONE:
                self.revive(slot)
            self.header(slot).flags |= ROW_RECENT
            return slot
        if shard < 0:
            shard = self.owner(key, size)
        if self.may_be_cold(hash):
            slot = self.fetch(key, size, shard)
            if slot >= 0:
                return slot
        return self.place(key, size, hash, shard, True)

    cdef int64_t find(self, const char* key, int32_t size) except -1 nogil:
        return self.find_in(key, size, -1)

    cdef int64_t find_in(self, const char* key, int32_t size, int32_t shard) except -1 nogil:
        cdef uint64_t hash = hash_bytes(key, size, self.seed)
        cdef int64_t slot = self.find_hashed(key, size, hash)
        if slot >= 0:
            if self.header(slot).flags & ROW_GONE:
                return -2
            self.header(slot).flags |= ROW_RECENT
            return slot
        if not self.may_be_cold(hash):
            return -2
        return self.fetch(key, size, shard if shard >= 0 else self.owner(key, size))

    cdef int64_t insert(self, const char* key, int32_t size, int32_t shard) except -1 nogil:
        cdef uint64_t hash = hash_bytes(key, size, self.seed)
        cdef int64_t slot = self.find_hashed(key, size, hash)
        if slot >= 0:                        # removed: the database may still have it
            self.revive(slot)
            return slot
        return self.place(key, size, hash, shard if shard >= 0 else self.owner(key, size), True)

    cdef int32_t owner(self, const char* key, int32_t size) noexcept nogil:
        return shard_of(key + self.prefix, size - self.prefix, self.shards)

    cdef int lookup_batch(self, const char* values, const int32_t* offsets, int64_t n, int64_t* slots) except -1 nogil:
        cdef uint64_t[GROUP] hashes
        cdef IndexEntry* index
        cdef RowHeader* header
        cdef const char* key
        cdef int64_t base, i, slot, row
        cdef int64_t width
        cdef int32_t size
        cdef uint64_t at
        cdef uint32_t tag
        cdef int64_t line, ahead = min(self.stride, <int64_t>PREFETCHED)
        self.missing.n = 0
        base = 0
        while base < n:
            width = n - base if n - base < GROUP else GROUP
            index = self.index.entries
            for i in range(width):
                hashes[i] = hash_bytes(values + offsets[base + i], offsets[base + i + 1] - offsets[base + i], self.seed)
                prefetch(&index[<uint32_t>hashes[i] & self.index.mask])
            for i in range(width):
                tag = <uint32_t>hashes[i]
                at = tag & self.index.mask
                while index[at].slot != 0 and index[at].hash != tag:
                    at = (at + 1) & self.index.mask
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
                if slots[base + i] >= 0 and offsets[base + i + 1] - offsets[base + i] > self.key_room:
                    prefetch(self.header(slots[base + i]).key)
            for i in range(width):
                key = values + offsets[base + i]
                size = offsets[base + i + 1] - offsets[base + i]
                slot = slots[base + i]
                if slot >= 0:
                    header = self.header(slot)
                    if (header.hash == <uint32_t>hashes[i] and header.key_size == size and not header.flags & ROW_GONE
                            and same_bytes(header.key, key, size)):
                        header.flags |= ROW_RECENT
                        continue
                # Absent, just inserted by this group, removed, or another key with the same 32 bits: the careful way.
                slot = self.find_hashed(key, size, hashes[i])
                if slot < 0 and self.may_be_cold(hashes[i]):
                    slots_push(&self.missing, base + i)
                    continue
                if slot < 0:
                    slot = self.place(key, size, hashes[i], shard_of(key, size, self.shards), True)
                elif self.header(slot).flags & ROW_GONE:
                    self.revive(slot)
                slots[base + i] = slot
            base += width
        if self.missing.n > 0:
            self.fetch_missing(values, offsets)
            for i in range(self.missing.n):          # those that were not there are new
                row = self.missing.at[i]
                key = values + offsets[row]
                slots[row] = self.find_or_new(key, offsets[row + 1] - offsets[row])
        return 0

    cdef int64_t find_or_new(self, const char* key, int32_t size) except -1 nogil:
        cdef uint64_t hash = hash_bytes(key, size, self.seed)
        cdef int64_t slot = self.find_hashed(key, size, hash)
        return slot if slot >= 0 else self.place(key, size, hash, shard_of(key, size, self.shards), True)

    # -- barriers

    cdef int begin(self) except -1 nogil:
        RowTable.begin(self)
        return 0 if self.listener is None else self.listener.on_begin()

    cdef int64_t drain(self, int64_t max_rows) except -1 nogil:
        # Deletes of rows first: what is written behind them may have the same keys.
        cdef int64_t n = RowTable.drain(self, max_rows)
        if n < max_rows and self.listener is not None:
            n += self.listener.on_drain(max_rows - n)
        return n

    cdef bint drained(self) noexcept nogil:
        return self.pending_at == self.pending.n and (self.listener is None or not self.listener.behind())

    # -- cold rows

    cdef bint may_be_cold(self, uint64_t hash) noexcept nogil:
        if PLANTED("cold-key-taken-for-new"):
            return False
        return self.any_cold or (self.cold > 0 and filter_has(&self.filter, hash))

    cdef int make_cold(self, int64_t slot) except -1 nogil:
        cdef RowHeader* header = self.header(slot)
        if self.listener is not None:
            self.listener.on_cold(header)
        if not self.any_cold:
            filter_add(&self.filter, hash_bytes(header.key, header.key_size, self.seed))
            self.cold_shards[header.shard] += 1
            self.cold += 1
        self.count -= 1
        self.clear_fields(slot)
        return self.free_row(slot)

    def stored(self, bytes key):
        """Return the row of a key as the database would have it, None when the key is absent. The task must not be stepped meanwhile."""
        cdef int64_t slot = self.find(key, <int32_t>len(key))
        return None if slot < 0 else row_bytes(self, slot)

    def stored_rows(self, int64_t slot, int64_t n):
        """Return up to `n` rows in memory from `slot` on, as (database key, value), and where the next begin (-1: there is none)."""
        cdef RowHeader* header
        found = []
        slot = self.first_slot(slot)
        while slot >= 0 and len(found) < n:
            header = self.header(slot)
            found.append((database_key(header.shard, self.id, header.key, header.key_size), row_bytes(self, slot)))
            slot = self.first_slot(slot + 1)
        return found, slot

    def expect_any(self):
        """Any key may be in the backend, whose rows have not been looked through."""
        self.any_cold = True

    cdef int64_t fetch(self, const char* key, int32_t size, int32_t shard) except -1 nogil:
        with gil:
            stored = database_key(shard, self.id, key, size)
            self.reads += 1
            value = self.backend.get_many([stored])[0]
            return -2 if value is None else self.take_back(stored, value, not self.any_cold)

    cdef int fetch_missing(self, const char* values, const int32_t* offsets) except -1 nogil:
        """Bring back those of the keys in `missing` that are in the database, all by one call."""
        cdef int64_t i, row
        cdef int32_t size
        cdef const char* key
        with gil:
            wanted = {}
            for i in range(self.missing.n):
                row = self.missing.at[i]
                size = offsets[row + 1] - offsets[row]
                key = values + offsets[row]
                wanted[database_key(self.owner(key, size), self.id, key, size)] = None
            self.reads += len(wanted)
            names = list(wanted)
            for stored, value in zip(names, self.backend.get_many(names)):
                if value is not None:
                    self.take_back(stored, value, not self.any_cold)
        return 0

    cdef int warm_up_keys(self, const char* values, const int32_t* offsets, int64_t n) except -1 nogil:
        cdef int64_t i
        cdef uint64_t hash
        cdef int32_t size
        self.missing.n = 0
        for i in range(n):
            size = offsets[i + 1] - offsets[i]
            hash = hash_bytes(values + offsets[i], size, self.seed)
            if self.find_hashed(values + offsets[i], size, hash) < 0 and self.may_be_cold(hash):
                slots_push(&self.missing, i)
        return self.fetch_missing(values, offsets) if self.missing.n > 0 else 0

    cdef int64_t take_back(self, bytes key, bytes value, bint was_cold) except -1:
        cdef const char* data = PyBytes_AS_STRING(key)
        cdef int32_t shard = (<unsigned char>data[0] << 8) | <unsigned char>data[1]
        cdef int32_t size = <int32_t>(len(key) - 4)
        cdef int64_t slot = self.place(data + 4, size, hash_bytes(data + 4, size, self.seed), shard, False)
        self.header(slot).flags |= ROW_STORED | ROW_RECENT
        self.read_fields(slot, PyBytes_AS_STRING(value), len(value), NULL, self.n_fields)
        if was_cold:
            self.cold_shards[shard] -= 1
            self.cold -= 1
            if self.cold == 0:
                filter_clear(&self.filter)
        if was_cold and self.listener is not None:
            self.listener.on_hot(slot)
        return slot

    cdef int merge_row(self, const char* key, int32_t size, int32_t shard, const char* value, int64_t value_size,
                       const int32_t* fields, int64_t n_fields) except -1 nogil:
        cdef int64_t slot = self.find_or_insert(key, size, shard)
        self.touch(slot)
        return self.read_fields(slot, value, value_size, fields, n_fields)

    cdef int warm_up(self) except -1:
        cdef int shard
        cdef const char* data
        cdef int32_t size
        for shard in range(self.shards):
            if self.cold_shards[shard] == 0 and not self.any_cold:
                continue
            for key, value in self.backend.scan(database_key(shard, self.id, b"", 0)):
                data = PyBytes_AS_STRING(key)
                size = <int32_t>(len(key) - 4)
                if self.find_hashed(data + 4, size, hash_bytes(data + 4, size, self.seed)) < 0:      # else what is here is newer
                    self.take_back(key, value, not self.any_cold)
        return 0

    cdef int warm_up_next(self) except -1:
        cdef int64_t left = min(self.unchecked, <int64_t>MOST_CHECKED)
        cdef int64_t n = CHECKED + PACE * left
        cdef int turns = 0
        cdef const char* data
        cdef int32_t size
        self.unchecked -= left
        while n > 0 and turns <= self.shards:
            if self.any_cold or self.cold_shards[self.next_shard] > 0:
                for key, value in self.backend.scan(database_key(self.next_shard, self.id, b"", 0), self.next_after):
                    self.next_after = key
                    data = PyBytes_AS_STRING(key)
                    size = <int32_t>(len(key) - 4)
                    if self.find_hashed(data + 4, size, hash_bytes(data + 4, size, self.seed)) < 0:
                        self.take_back(key, value, not self.any_cold)
                    n -= 1
                    if n == 0:
                        return 0
            self.next_shard = (self.next_shard + 1) % self.shards
            self.next_after = b""
            turns += 1
        return 0

    cdef int clear_rows(self) except -1 nogil:
        RowTable.clear_rows(self)
        filter_clear(&self.filter)
        memset(self.cold_shards, 0, self.shards * sizeof(int32_t))
        self.cold = 0
        return 0 if self.listener is None else self.listener.on_cleared()

    cdef int64_t overhead(self) noexcept nogil:
        cdef int64_t size = RowTable.overhead(self) + filter_bytes(&self.filter) + self.missing.capacity * sizeof(uint32_t)
        return size if self.listener is None else size + self.listener.memory()


cdef bytes row_bytes(KeyTable table, int64_t slot):
    """Return the fields of a row, serialised; what stands in the scratch stays."""
    cdef int64_t start = table.scratch.used
    try:
        table.serialise_fields(slot)
        return PyBytes_FromStringAndSize(table.scratch.data + start, table.scratch.used - start)
    finally:
        table.scratch.used = start


cdef bytes database_key(int shard, int table, const char* key, int32_t size):
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size + 4)
    cdef char* at = PyBytes_AS_STRING(made)
    at[0] = <char>(shard >> 8)
    at[1] = <char>(shard & 255)
    at[2] = <char>(table >> 8)
    at[3] = <char>(table & 255)
    memcpy(at + 4, key, size)
    return made
