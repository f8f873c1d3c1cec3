"""Keyed rows in memory: key -> slot -> row. One table per key lookup, window operator or timer service.

A row is laid out by slot: the fields of every operator behind the lookup, one after another. Rows never move.
"""
cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, WriteStream

cdef enum:
    ROW_LIVE = 1          # the slot is taken
    # Changed between two barriers; the bits take turns, so that a barrier needs no walk over the rows: one of them
    # (KeyTable.dirty_bit) is "changed since the last barrier", the other (pending_bit) "changed before the last
    # barrier, not yet in the write stream".
    ROW_CHANGED_EVEN = 2
    ROW_CHANGED_ODD = 4
    ROW_STORED = 8        # the stream or the database has a version of the key: removing it needs a delete
    PAGE_BITS = 10
    PAGE_ROWS = 1024

cdef struct RowHeader:
    uint64_t hash
    char* key          # in the arena
    int32_t key_size   # bytes
    uint16_t shard
    uint8_t flags      # ROW_*
    uint8_t unused


cdef class RowField:
    """One operator's part of a row. Pointers passed to its methods point at the field's first byte (8-aligned)."""
    cdef readonly str name                   # the operator's name: the identity of the field
    cdef readonly str layout                 # its format in words, kept in the manifest; restoring another one is refused
    cdef readonly int64_t size               # bytes in the row
    cdef int64_t offset                      # set by the table
    cdef KeyTable table                      # set by the table (its arena holds variable-length parts)

    cdef int init(self, char* field) except -1 nogil                              # a new key; memory is zeroed
    cdef int write(self, char* field, ByteWriter* out) except -1 nogil            # append the serialised field
    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil   # after init: take it back
    cdef int clear(self, char* field) except -1 nogil                             # free variable parts; the row goes away


@cython.final
cdef class KeyTable:
    cdef readonly int id                     # unique in its store
    cdef readonly str kind                   # "rows", "windows", "timers"
    cdef readonly str name                   # of the operator (or lookup) it belongs to
    cdef readonly str key_layout             # what the keys are, in words; restoring others is refused
    cdef readonly int shards                 # S
    cdef readonly int64_t count              # live keys
    cdef Arena arena
    cdef WriteStream stream
    cdef readonly list fields                # RowField, in order
    # private: hash index, pages, dirty and pending lists (see the .pyx)
    cdef void* index                         # IndexEntry, linear probing, at most 5/8 full
    cdef uint64_t index_mask
    cdef uint64_t seed
    cdef char** pages
    cdef int64_t n_pages
    cdef int64_t page_capacity
    cdef void** blocks                       # memory the pages are cut from
    cdef int64_t n_blocks
    cdef char* block_cursor
    cdef int64_t block_pages                 # pages left in the newest block
    cdef int64_t stride                      # bytes a row, header included
    cdef int64_t used                        # slots ever used
    cdef int64_t* free_slots
    cdef int64_t n_free
    cdef int64_t free_capacity
    cdef uint8_t dirty_bit
    cdef uint8_t pending_bit
    cdef int64_t* dirty
    cdef int64_t n_dirty
    cdef int64_t dirty_capacity
    cdef int64_t* pending
    cdef int64_t n_pending
    cdef int64_t pending_capacity
    cdef int64_t pending_at
    cdef ByteWriter deletes                  # encoded entries for the next barrier
    cdef int64_t n_deletes
    cdef ByteWriter scratch                  # rows on their way into the stream
    cdef void** field_refs                   # borrowed from `fields`
    cdef int n_fields

    # Returns the slot; a new key gets zeroed and initialised fields. `shard` < 0: computed from the key (murmur2 mod S).
    cdef int64_t find_or_insert(self, const char* key, int32_t size, int32_t shard) except -1 nogil
    # Returns -2 when the key is absent.
    cdef int64_t find(self, const char* key, int32_t size) except -1 nogil
    # Key i is values[offsets[i] .. offsets[i + 1]); absent keys are inserted.
    cdef int lookup_batch(self, const char* values, const int32_t* offsets, int64_t n, int64_t* slots) except -1 nogil

    cdef inline RowHeader* header(self, int64_t slot) noexcept nogil:
        return <RowHeader*>(self.pages[slot >> PAGE_BITS] + (slot & (PAGE_ROWS - 1)) * self.stride)

    # Start of the fields: field f is at row + f.offset.
    cdef inline char* row(self, int64_t slot) noexcept nogil:
        return self.pages[slot >> PAGE_BITS] + (slot & (PAGE_ROWS - 1)) * self.stride + sizeof(RowHeader)

    # Must be called before a row is changed: copies it into the stream first if a barrier still needs the old value.
    cdef inline int touch(self, int64_t slot) except -1 nogil:
        if self.header(slot).flags & self.dirty_bit:
            return 0
        return self.touch_clean(slot)

    cdef int remove(self, int64_t slot) except -1 nogil          # the key is gone; the slot may be used again
    cdef int64_t first_slot(self, int64_t start) noexcept nogil  # first live slot >= start, -1: none (to iterate)
    cdef int64_t memory(self) noexcept nogil                     # bytes, without the arena

    # For the store. A barrier: changed rows become pending, deletes go into the stream. Nothing may be pending.
    cdef int begin(self) except -1 nogil
    cdef int64_t drain(self, int64_t max_rows) except -1 nogil   # pending rows into the stream; returns how many slots it saw
    # Takes back a stored row. fields[i] is the index of the field that has id i in the value, -1: not wanted.
    cdef int64_t restore_row(self, const char* key, int32_t key_size, int32_t shard, const char* value, int64_t size,
                             const int32_t* fields, int64_t n_fields, bint stored) except -1 nogil

    cdef int touch_clean(self, int64_t slot) except -1 nogil
    cdef int serialise(self, int64_t slot) except -1 nogil       # to the end of scratch
    cdef int flush_scratch(self, int64_t n) except -1 nogil      # scratch into the stream
    cdef int64_t find_hashed(self, const char* key, int32_t size, uint64_t hash) noexcept nogil
    cdef int64_t insert(self, const char* key, int32_t size, uint64_t hash, int32_t shard) except -1 nogil
    cdef int64_t take_slot(self) except -1 nogil
    cdef int give_slot(self, int64_t slot) except -1 nogil
    cdef int mark_dirty(self, int64_t slot) except -1 nogil
    cdef int add_page(self) except -1 nogil
    cdef int grow_index(self) except -1 nogil
    cdef void erase_index(self, uint64_t hash, int64_t slot) noexcept nogil
    # The end: frees the variable parts of all rows (references to Python objects among them). Nothing goes into the stream.
    cdef int clear_rows(self) except -1 nogil
