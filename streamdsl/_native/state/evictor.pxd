"""What keeps a store within its memory: rows become cold once the database has their last version."""
from libc.stdint cimport int32_t, int64_t, uint32_t

from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport WriteStream

cdef enum Room:
    ROOM_NONE = 0            # wait until the database has applied more of the stream
    ROOM_ENOUGH = 1
    ROOM_BEHIND_BARRIER = 2  # the rows that could go have changed behind a barrier whose rows are not in the stream yet


cdef struct Leaver:
    int64_t position         # of the stream: the row may go when the database has come so far
    uint32_t slot
    uint32_t bytes           # about what that frees
    int32_t table


cdef class Evictor:
    cdef Arena arena
    cdef WriteStream stream
    cdef void** tables                       # borrowed from the store
    cdef int n_tables
    cdef public int64_t limit                # bytes; 0 = none
    cdef Leaver* queue                       # a ring
    cdef int64_t head
    cdef int64_t n
    cdef int64_t capacity                    # a power of two
    cdef int64_t leaving_bytes
    cdef int hand_table
    cdef int64_t hand
    cdef int64_t calls
    cdef int64_t dry_at                      # how far the database was when no row was found that could leave, -1: some were
    cdef bint heap_is_used
    cdef int64_t freed                       # rows that have left, removed ones included
    cdef bint moved                          # whether the last answer, ROOM_NONE, came with something done
    cdef readonly int64_t evicted            # rows
    cdef int64_t stream_room                 # bytes that may wait in the stream when rows are added that need not be
    cdef readonly int64_t piece_rows         # records that may be processed before room is made again

    # Frees what may be freed and sends more rows on their way, if the memory in use calls for it.
    cdef Room make_room(self, bint barrier) except <Room>-1 nogil
    cdef int64_t movable(self) noexcept nogil          # bytes of rows that can leave and of what waits in the stream
    cdef int64_t spare(self) noexcept nogil
    cdef int64_t fixed(self) noexcept nogil            # bytes of everything else the store has
    cdef int free_applied(self) except -1 nogil
    cdef int take_retired(self) except -1 nogil
    cdef bint sweep(self, int64_t wanted, bint barrier, int64_t applied) except -1 nogil
    cdef int leave(self, int table, int64_t slot, int64_t position, int64_t bytes) except -1 nogil
    cdef int64_t row_bytes(self, int table) noexcept nogil
    cdef int64_t rows(self) noexcept nogil
    cdef int grow(self) except -1 nogil
    cdef int sample_heap(self) except -1
