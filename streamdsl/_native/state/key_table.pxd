"""Keyed rows in memory: key -> slot -> row. One table per key lookup, window operator or timer service.

A key is hot (its row is here) or cold (its row is in the database alone, as of its last version). Looking a cold key up
brings its row back; whoever holds a slot holds it until the task's next step and no longer.
"""
from libc.stdint cimport int32_t, int64_t, uint64_t

from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.cold_filter cimport ColdFilter
from streamdsl._native.state.row_table cimport RowHeader, RowTable
from streamdsl._native.state.slot_list cimport SlotList
from streamdsl._native.state.write_stream cimport WriteStream


cdef class ColdListener:
    """Hears which rows of a table become cold, and which come back; and what else an index of rows has to know."""
    cdef int on_cold(self, const RowHeader* header) except -1 nogil
    cdef int on_hot(self, int64_t slot) except -1 nogil
    cdef int on_cleared(self) except -1 nogil                    # the store is closed: let go of the backend
    cdef int64_t memory(self) noexcept nogil                     # bytes that it keeps beside the rows
    # Of one that has something to write beside the rows:
    cdef int on_begin(self) except -1 nogil                      # a barrier
    cdef int64_t on_drain(self, int64_t most) except -1 nogil    # writes what stood at the barrier, so much at most; returns how much
    cdef bint behind(self) noexcept nogil                        # whether some of that is still to be written
    cdef int on_pressure(self) except -1 nogil                   # memory is short: let there be rows that can become cold
    cdef int on_limit(self, int64_t limit) except -1             # what the store may take in memory, in bytes


cdef class KeyTable(RowTable):
    cdef int prefix                          # bytes in front of the part of a key that names its shard
    cdef readonly bint evictable                   # whoever uses the table bears that rows become cold
    cdef public object backend               # where cold rows are (a StateBackend); None: rows cannot become cold
    cdef ColdListener listener               # None: nobody minds
    cdef readonly int64_t cold               # cold keys; not those of a restored database that nobody has asked for yet
    cdef readonly bint any_cold              # the database is a restored one: any key may be in it
    cdef readonly int64_t reads              # keys asked of the backend
    cdef ColdFilter filter                   # of cold keys; of no use if any key may be cold
    cdef int32_t* cold_shards                # cold keys of each shard
    cdef int next_shard                      # where warm_up_next goes on,
    cdef bytes next_after                    # and behind which key
    cdef int64_t unchecked                   # rows that have left, or are about to, for each of which it has still to look at some
    cdef SlotList missing                    # scratch: places in a batch of keys that may be cold

    # Returns the slot; a new key gets zeroed and initialised fields. `shard` < 0: computed from the key (murmur2 mod S).
    cdef int64_t find_or_insert(self, const char* key, int32_t size, int32_t shard) except -1 nogil
    # Returns -2 when the key is absent.
    cdef int64_t find(self, const char* key, int32_t size) except -1 nogil
    # The same, where the key does not tell its shard by itself.
    cdef int64_t find_in(self, const char* key, int32_t size, int32_t shard) except -1 nogil
    # Puts in an absent key: `find` has just said so.
    cdef int64_t insert(self, const char* key, int32_t size, int32_t shard) except -1 nogil
    # Key i is values[offsets[i] .. offsets[i + 1]); absent keys are inserted, cold ones are read together.
    cdef int lookup_batch(self, const char* values, const int32_t* offsets, int64_t n, int64_t* slots) except -1 nogil
    # Brings those of so many cold keys back that are there, together; keys as for lookup_batch.
    cdef int warm_up_keys(self, const char* values, const int32_t* offsets, int64_t n) except -1 nogil

    cdef bint drained(self) noexcept nogil                       # nothing of the last barrier is pending

    cdef inline int64_t total(self) noexcept nogil:              # keys, hot and cold, as far as is known
        return self.count + self.cold

    # Brings the next few cold rows back, in the order of the database, over and over: more of them, the more have left.
    cdef int warm_up_next(self) except -1
    cdef inline void count_leaving(self) noexcept nogil:
        self.unchecked += 1

    # Brings all cold rows back.
    cdef int warm_up(self) except -1
    cdef bint may_be_cold(self, uint64_t hash) noexcept nogil
    # Takes a row of a checkpoint, under the ids of its fields there: into a key's row, which may be here already.
    cdef int merge_row(self, const char* key, int32_t size, int32_t shard, const char* value, int64_t value_size,
                       const int32_t* fields, int64_t n_fields) except -1 nogil
    # For the evictor.
    cdef int make_cold(self, int64_t slot) except -1 nogil       # a clean row whose last version is in the database

    cdef int64_t find_or_new(self, const char* key, int32_t size) except -1 nogil
    cdef int32_t owner(self, const char* key, int32_t size) noexcept nogil
    cdef int64_t fetch(self, const char* key, int32_t size, int32_t shard) except -1 nogil   # -2: it is not there
    cdef int fetch_missing(self, const char* values, const int32_t* offsets) except -1 nogil
    cdef int64_t take_back(self, bytes key, bytes value, bint was_cold) except -1             # of the database

# What a row is filed under in the database: shard, table, key. `key`: the key, or how it begins.
cdef bytes database_key(int shard, int table, const char* key, int32_t size)
