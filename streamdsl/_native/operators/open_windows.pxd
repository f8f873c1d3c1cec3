"""The open windows of one operator: rows by window and key, and the order in which they close."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.state.cold_scan cimport ColdScan
from streamdsl._native.state.key_list cimport KeyList
from streamdsl._native.state.key_table cimport ColdListener, KeyTable
from streamdsl._native.state.row_table cimport RowHeader

cdef struct WindowEntry:
    int64_t start
    int64_t slot


cdef struct ColdWindows:
    int64_t start
    int64_t n                                # windows that begin there and are in the database alone


cdef class OpenWindows(ColdListener):
    cdef KeyTable table                      # key: start (biased, big-endian), then the user's key; shard: of the user's key
    cdef int head                            # bytes in front of the user's key: 8, or 16 where the end stands before the start
    cdef int64_t size_ms
    cdef int64_t every_ms
    cdef int64_t offset_ms
    cdef int64_t grace_ms
    cdef WindowEntry* heap                   # by start; may hold windows that are hot no more, and the same one twice
    cdef int64_t n
    cdef int64_t capacity
    cdef ColdWindows* cold                   # by start
    cdef int64_t n_cold
    cdef int64_t cold_capacity
    cdef int64_t* held                       # slots of hot windows that close, in order of start and key: held[held_at .. n_held)
    cdef int64_t held_at
    cdef int64_t n_held
    cdef int64_t held_capacity
    cdef int64_t opened                      # windows so far that `slot_of` has opened
    cdef ColdScan scan                       # of the cold ones that close beside them, None: there are none
    cdef int64_t scanned                     # start of those
    cdef const char* bound                   # the key up to which the next piece goes, NULL: up to the last
    cdef int64_t bound_size
    cdef int64_t* due                        # slots, filled by take_due
    cdef int64_t due_capacity
    cdef char* key                           # scratch
    cdef int64_t key_capacity
    cdef KeyList wanted                      # scratch: keys to be looked up together

    # The row of the window that begins at `start`, for the key in `owner`; a new window is opened.
    cdef int64_t slot_of(self, int64_t start, const RowHeader* owner) except -1 nogil
    # Brings the cold windows back that the batch is going to need, by one read; what it holds has been looked up.
    cdef int warm_up(self, KeyLookup lookup, Batch* batch) except -1 nogil
    cdef int64_t start_of(self, int64_t slot) noexcept nogil
    cdef bint is_open(self, int64_t start, int64_t watermark) noexcept nogil
    # Whether the watermark may close any: nothing is said of windows that do not close.
    cdef bint any_due(self, int64_t watermark) noexcept nogil
    # Takes the next of the windows that the watermark closes, in order of end, start and key bytes, into due[0 .. n), so many
    # at most; returns n, 0 when none is left. Their rows stay in the table: the caller removes them.
    cdef int64_t take_due(self, int64_t watermark, int64_t most) except -1 nogil
    cdef int rebuild(self) except -1 nogil   # from the table, once that has been loaded

    cdef void put_head(self, char* key, int64_t start) noexcept nogil
    cdef ColdWindows* cold_at(self, int64_t start) except NULL nogil
    cdef int64_t find_cold(self, int64_t start) noexcept nogil   # its place, or where it would stand
    cdef int hold_some(self, int64_t watermark, int64_t most) except -1 nogil
    cdef bint next_start(self, int64_t watermark, int64_t* start) noexcept nogil
    cdef int hold(self, int64_t start) except -1 nogil
    cdef int sort_held(self, int64_t first) except -1 nogil
    cdef int order(self, int64_t left, int64_t right) noexcept nogil
    cdef int begin_scan(self, int64_t start) except -1 nogil
    cdef int64_t take_scanned(self, int64_t most) except -1 nogil
    cdef int read_on(self, int64_t most, int64_t limit) except -1 nogil
    cdef int64_t* reserve(self, int64_t* slots, int64_t* capacity, int64_t n) except? NULL nogil
    cdef int note(self, int64_t start, int64_t slot) except -1 nogil
    cdef int push(self, int64_t start, int64_t slot) except -1 nogil
    cdef void pop(self) noexcept nogil
