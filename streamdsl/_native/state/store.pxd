"""The keyed state of one task: its tables, their arena and the write stream they share."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.evictor cimport Evictor
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.write_stream cimport WriteStream


cdef class StateStore:
    cdef readonly str name
    cdef readonly int shards                 # S
    cdef readonly Arena arena
    cdef readonly WriteStream stream
    cdef readonly list tables                # KeyTable, by id
    cdef void** table_refs                   # borrowed from `tables`
    cdef int n_tables
    cdef readonly int64_t barrier            # the checkpoint whose rows are pending, -1: none
    cdef readonly Evictor evictor

    # A barrier has passed: finishes the last one and makes changed rows pending.
    cdef int begin(self, int64_t checkpoint_id) except -1 nogil
    # Serialises up to max_rows pending rows; 1 when none is left (and MARK is in the stream), else 0.
    cdef int drain(self, int64_t max_rows) except -1 nogil
    cdef bint write_pending(self, int64_t max_rows) except -1 nogil
    cdef int64_t memory(self) noexcept nogil                     # bytes: rows, indexes, arena, entries not yet applied
    # Keeps the store within its limit; 0: wait. Whoever calls it holds no slot.
    cdef int make_room(self) except -1 nogil


cdef class RowLoader:
    """Puts the rows of a checkpoint's store back into a StateStore."""
    cdef StateStore store
    cdef dict targets                        # (old table id) -> list of FieldMap
