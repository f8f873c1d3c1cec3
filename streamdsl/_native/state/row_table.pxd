"""Rows of keyed state, by slot: how they are laid out, which of them have changed, and their way into the write stream.

A row is laid out by slot: the fields of every operator behind the lookup, one after another. Rows never move.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.key_index cimport KeyIndex
from streamdsl._native.state.pages cimport PAGE_BITS, PAGE_ROWS, Pages
from streamdsl._native.state.slot_list cimport SlotList
from streamdsl._native.state.write_stream cimport ByteWriter, WriteStream

cdef enum:
    ROW_LIVE = 1          # the slot is taken
    # Changed between two barriers; the bits take turns, so that a barrier needs no walk over the rows: one of them
    # (KeyTable.dirty_bit) is "changed since the last barrier", the other (pending_bit) "changed before the last
    # barrier, not yet in the write stream".
    ROW_CHANGED_EVEN = 2
    ROW_CHANGED_ODD = 4
    ROW_STORED = 8        # the stream or the database has a version of the key: removing it needs a delete
    ROW_RECENT = 16       # looked up since the hand of the clock came by
    ROW_LEAVING = 32      # goes once the database has its last version, unless somebody wants it before
    ROW_QUEUED = 64       # stands in the evictor's queue
    ROW_GONE = 128        # removed; stays until the database knows (not LIVE)

cdef enum:
    HEADER_ROOM = 4       # bytes

cdef struct RowHeader:
    char* key          # `room` if it is short, else in the arena
    uint32_t hash      # of it: the lower half
    int32_t key_size   # bytes
    uint16_t shard
    uint8_t flags      # ROW_*
    uint8_t held       # whether the row stays in memory until it is removed
    char[HEADER_ROOM] room  # a short key begins here and goes on behind the header


cdef class RowField:
    """One operator's part of a row. Pointers passed to its methods point at the field's first byte (8-aligned)."""
    cdef readonly str name                   # the operator's name: the identity of the field
    cdef readonly str layout                 # its format in words, kept in the manifest; restoring another one is refused
    cdef readonly int64_t size               # bytes in the row
    cdef int64_t offset                      # set by the table
    cdef RowTable table                      # set by the table (its arena holds variable-length parts)
    cdef bint on_heap                        # refers to Python objects
    cdef bint expires                        # becomes empty as time passes, without a look at it

    cdef int init(self, char* field) except -1 nogil                              # a new key; memory is zeroed
    cdef int write(self, char* field, ByteWriter* out) except -1 nogil            # append the serialised field
    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil   # after init: take it back
    cdef int clear(self, char* field) except -1 nogil                             # free variable parts; the row goes away
    cdef bint empty(self, char* field) noexcept nogil                             # whether nothing is lost with it
    cdef void prefetch_parts(self, char* field) noexcept nogil                    # what `write` will read beside the field
    cdef int64_t heap_bytes(self, char* field)                                    # Python objects it refers to, about


cdef class RowTable:
    cdef readonly int id                     # unique in its store
    cdef readonly str kind                   # "rows", "windows", "timers"
    cdef readonly str name                   # of the operator (or lookup) it belongs to
    cdef readonly str key_layout             # what the keys are, in words; restoring others is refused
    cdef readonly int shards                 # S
    cdef readonly int64_t count              # rows: hot keys
    cdef Arena arena
    cdef WriteStream stream
    cdef readonly list fields                # RowField, in order
    cdef KeyIndex index                      # removed rows too, until the database knows
    cdef uint64_t seed
    cdef Pages pages
    cdef int64_t stride                      # bytes a row, header included
    cdef int32_t key_room                    # keys of so many bytes at most stand in their rows
    cdef int64_t fields_at                   # bytes in front of the fields: the header and the room for a key
    cdef int64_t used                        # slots ever used; `pages` knows which of them are free
    cdef uint8_t dirty_bit
    cdef uint8_t pending_bit
    cdef SlotList dirty
    cdef SlotList pending
    cdef int64_t pending_at
    cdef SlotList retired                    # removed rows whose delete is in the stream; the evictor takes them
    cdef ByteWriter scratch                  # rows on their way into the stream
    cdef int64_t scratch_rows                # of those
    cdef void** field_refs                   # borrowed from `fields`
    cdef int n_fields
    cdef bint expires                        # a field does
    cdef int64_t placed                      # keys that have come since the last `forget_empty`
    cdef int64_t looked_at                   # slot: where it goes on
    cdef double heap_a_row                   # bytes of Python objects, as of the evictor's last sample

    cdef inline RowHeader* header(self, int64_t slot) noexcept nogil:
        return <RowHeader*>(self.pages.at[slot >> PAGE_BITS] + (slot & (PAGE_ROWS - 1)) * self.stride)

    # Start of the fields: field f is at row + f.offset.
    cdef inline char* row(self, int64_t slot) noexcept nogil:
        return self.pages.at[slot >> PAGE_BITS] + (slot & (PAGE_ROWS - 1)) * self.stride + sizeof(RowHeader)

    # Must be called before a row is changed: copies it into the stream first if a barrier still needs the old value.
    cdef inline int touch(self, int64_t slot) except -1 nogil:
        if self.header(slot).flags & self.dirty_bit:
            return 0
        return self.touch_clean(slot)

    cdef int remove(self, int64_t slot) except -1 nogil          # the key is gone; the slot may be used again
    cdef int64_t first_slot(self, int64_t start) noexcept nogil  # first hot slot >= start, -1: none (to iterate)
    cdef int64_t row_memory(self) noexcept nogil                 # bytes of the rows, without what they have in the arena
    cdef int64_t overhead(self) noexcept nogil                   # bytes beside the rows
    cdef inline int64_t spare_memory(self) noexcept nogil:       # bytes of free rows, where some of them may fill pages
        return (self.pages.n_free - self.pages.n_released) * self.stride if self.pages.emptied else 0

    cdef void give_memory_back(self, int64_t most) noexcept nogil        # of so many free rows, as far as they fill pages

    # For the store. A barrier: changed rows become pending. Nothing may be pending before.
    cdef int begin(self) except -1 nogil
    cdef int64_t drain(self, int64_t max_rows) except -1 nogil   # pending rows into the stream; returns how many slots it saw
    # The end: lets go of the Python objects that rows refer to; the arena is dropped next. Nothing goes into the stream.
    cdef int clear_rows(self) except -1 nogil
    # For the evictor. Puts the row's last version into the scratch (see flush_scratch), so that it is neither dirty nor pending.
    cdef int clean(self, int64_t slot) except -1 nogil
    cdef bint empty(self, int64_t slot) noexcept nogil           # whether nothing is lost with the row
    cdef int free_row(self, int64_t slot) except -1 nogil        # a removed row: nothing remembers the key any more
    cdef int flush_scratch(self) except -1 nogil                 # scratch into the stream

    # Removes some of the rows with which nothing is lost: it looks at the next few, more of them the more keys have come.
    cdef int forget_empty(self) except -1 nogil

    # For the key table.
    cdef int64_t find_hashed(self, const char* key, int32_t size, uint64_t hash) noexcept nogil   # removed rows too; -2: none
    # A row with initialised fields for an absent key; `dirty`: it counts as changed.
    cdef int64_t place(self, const char* key, int32_t size, uint64_t hash, int32_t shard, bint dirty) except -1 nogil
    cdef int revive(self, int64_t slot) except -1 nogil
    cdef int clear_fields(self, int64_t slot) except -1 nogil
    # Stored field i goes to fields[i] (-1: nowhere); NULL: to i.
    cdef int read_fields(self, int64_t slot, const char* value, int64_t size, const int32_t* fields, int64_t n_fields) except -1 nogil

    cdef void free_key(self, RowHeader* header) noexcept nogil
    cdef int touch_clean(self, int64_t slot) except -1 nogil
    cdef int mark_dirty(self, int64_t slot) except -1 nogil
    cdef void compact_dirty(self) noexcept nogil
    cdef int serialise(self, int64_t slot) except -1 nogil       # to the end of scratch
    cdef int serialise_fields(self, int64_t slot) except -1 nogil
    cdef void prefetch_row(self, int64_t slot) noexcept nogil
    cdef void prefetch_parts(self, int64_t slot) noexcept nogil
    cdef int init_fields(self, int64_t slot) except -1 nogil
    cdef int64_t take_slot(self) except -1 nogil
    cdef void give_slot(self, int64_t slot) noexcept nogil       # its flags are what is left of it
    cdef bint is_spare(self, int64_t page) noexcept nogil
