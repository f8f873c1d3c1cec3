"""The reading end of a write stream: the journal's reader takes entries as they come, the database's reader follows it, in runs
that are sorted and hold the last version of each key only."""
from libc.stdint cimport int32_t, int64_t, uint64_t

from streamdsl._native.state.entry_sort cimport SortItem
from streamdsl._native.state.write_stream cimport ByteWriter, WriteStream


cdef enum:
    MOST_SPARE = 32


cdef class StreamReader:
    cdef readonly WriteStream stream
    cdef readonly int64_t gather             # bytes that are worth taking from the stream, where nothing presses
    cdef ByteWriter taken                    # swapped with the stream
    cdef ByteWriter* segments                # whole entries; a segment never moves, and goes when the database has it
    cdef int64_t n_segments
    cdef ByteWriter spare[MOST_SPARE]        # segments to be used again: new memory is zeroed page by page as it is touched
    cdef int n_spare
    cdef int64_t journal_segment             # the journal's place
    cdef int64_t journal_at                  # offset in that segment
    cdef int64_t journal_offered             # bytes handed out by the last peek
    cdef int64_t journalled                  # bytes passed, ever
    cdef int64_t database_at                 # the database's place: offset in segment 0
    cdef uint64_t seed                       # of the keys' hashes
    cdef SortItem* run
    cdef int32_t* seen                       # a hash table of places in the run; -1: nothing there
    cdef int64_t n_seen                      # its places, a power of two; the run has room for half as many keys
    cdef int64_t n_run
    cdef int64_t run_at                      # items handed out and confirmed
    cdef int64_t offered                     # items handed out by the last peek
    cdef int64_t run_bytes                   # in the stream, MARKs included
    cdef int64_t end_segment                 # the place behind the run
    cdef int64_t end_at

    cdef bint find_journal(self) except -1
    cdef bint take(self) except -1
    cdef void give_back(self, ByteWriter* segment) noexcept nogil
    cdef int prepare(self) except -1 nogil
    cdef int finish_run(self) noexcept nogil
    cdef int read_block(self, SortItem* block) noexcept nogil
    cdef int64_t find_seen(self, const SortItem* item) noexcept nogil
    cdef int grow_run(self) except -1 nogil
