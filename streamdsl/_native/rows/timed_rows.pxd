"""Rows that are kept by key, in order of time: what joins wait with."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.row_table cimport RowField


cdef struct TimedRow:
    int64_t time                             # ms
    char* data                               # the row, serialised; in the arena
    int32_t size                             # bytes of it
    int32_t marked                           # 1: it has matched


cdef struct TimedRows:                       # zeroed memory is an empty one
    TimedRow* rows                           # in the arena; rows[head .. head + n) in order of time, then of arrival
    int32_t head
    int32_t n
    int32_t capacity
    int32_t noted                            # for whoever keeps the rows: the round in which it has noted `due`. Not stored.
    int64_t due                              # ms
    int64_t listed                           # the same: of the first side: deadlines of the key that are no rows. Not stored.


cdef class TimedRowsField(RowField):
    """`sides` lists of rows for each key."""
    cdef int sides
    cdef int64_t[2] useless_until            # ms: by side: rows up to this time are of no use any more; INT64_MIN: all are

    cdef int insert(self, TimedRows* side, int64_t time, const char* data, int64_t size, bint marked) except -1 nogil
    cdef void drop_first(self, TimedRows* side, int32_t n) noexcept nogil
    cdef void drop_one(self, TimedRows* side, int32_t at) noexcept nogil         # the row number `at`
    cdef bint some_useless(self, const char* field) noexcept nogil
    cdef bint useless(self, int side, int64_t time) noexcept nogil
    cdef bint stored_useless(self, const char* data, int64_t size) noexcept nogil    # whether all rows of a stored field are

# The number of rows whose time is below `time`.
cdef int32_t rows_below(const TimedRows* side, int64_t time) noexcept nogil


cdef inline void fetch_first(const TimedRows* side) noexcept nogil:
    if side.n > 0:                           # its memory is read where it matches, and written to when it is freed
        prefetch(side.rows[side.head].data)
