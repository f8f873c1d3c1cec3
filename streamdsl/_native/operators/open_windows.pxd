"""The open windows of one operator: rows by window and key, and the order in which they close."""
from libc.stdint cimport int64_t

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
    cdef int64_t size_ms
    cdef int64_t grace_ms
    cdef WindowEntry* heap                   # by start; may hold windows that are hot no more, and the same one twice
    cdef int64_t n
    cdef int64_t capacity
    cdef ColdWindows* cold                   # in no order
    cdef int64_t n_cold
    cdef int64_t cold_capacity
    cdef int64_t* due                        # slots, filled by take_due
    cdef int64_t due_capacity
    cdef char* key                           # scratch
    cdef int64_t key_capacity

    # The row of the window that begins at `start`, for the key in `owner`; a new window is opened.
    cdef int64_t slot_of(self, int64_t start, const RowHeader* owner) except -1 nogil
    # Appends the key of that row; whether there is one does not matter.
    cdef int push_key(self, KeyList* keys, int64_t start, const RowHeader* owner) except -1 nogil
    cdef int64_t start_of(self, int64_t slot) noexcept nogil
    cdef bint is_open(self, int64_t start, int64_t watermark) noexcept nogil
    cdef int warm_up_due(self, int64_t watermark) except -1 nogil
    cdef ColdWindows* cold_at(self, int64_t start) except NULL nogil
    # Takes the windows that the watermark closes, in order of end, start and key bytes, into due[0 .. n); returns n.
    # Their rows stay in the table: the caller removes them.
    cdef int64_t take_due(self, int64_t watermark) except -1 nogil
    cdef int note_due(self, int64_t at, int64_t slot) except -1 nogil
    cdef int rebuild(self) except -1 nogil   # from the table, once that has been loaded
    cdef int push(self, int64_t start, int64_t slot) except -1 nogil
    cdef void pop(self) noexcept nogil
