"""Rows of a table in the order of their deadlines: which are due, in memory and in the database, taken in pieces.

The key of a row begins with its deadline (deadline_key.pxd): a lane, so that one table can have several orders, and a time. What
stands behind it decides among rows of one time. Windows, timers and the buffers of joins are such rows.
"""
from libc.stdint cimport int32_t, int64_t, uint64_t

from streamdsl._native.state.cold_deadlines cimport ColdDeadlines
from streamdsl._native.state.deadline_heap cimport SlotDeadline, SlotDeadlineList
from streamdsl._native.state.key_table cimport ColdListener, KeyTable
from streamdsl._native.state.row_table cimport RowHeader

cdef enum:
    MOST_LANES = 4


cdef struct SlotRun:
    int64_t* at                # slots in the order of their keys: at[first .. n)
    int64_t first
    int64_t n
    int64_t capacity


cdef struct Lane:
    SlotDeadlineList heap      # slots of rows; may name some that are hot no more, and the same one twice
    ColdDeadlines cold
    SlotRun held               # hot rows that are due next, taken from the heap; they stay in memory until they are removed
    SlotRun read               # the same of rows that were cold
    int64_t rows               # hot and cold
    int64_t covered            # the heap has no row up to this time, but for those that have come since


cdef class Deadlines(ColdListener):
    cdef KeyTable table
    cdef int lanes
    cdef str what              # what a row is, for errors
    cdef Lane lane[MOST_LANES]
    cdef ColdListener slots    # what there is of the index beside the rows; None: nothing
    cdef int64_t read_ahead    # cold rows that are read at least, in one scan
    cdef int reading           # the lane whose cold rows are being read, -1: none
    cdef int64_t* due          # slots, filled by take_due
    cdef int64_t due_capacity
    cdef char* scratch
    cdef int64_t scratch_capacity

    # A row of this lane and time is added; what follows is `tail`, which ends with the user's key. Without effect if it is there.
    # Returns its slot.
    cdef int64_t add(self, int lane, int64_t time, const char* tail, int64_t size, int32_t shard) except -1 nogil
    cdef int64_t find(self, int lane, int64_t time, const char* tail, int64_t size, int32_t shard) except -1 nogil   # -2: it is not there
    cdef int bury(self, const char* key, int32_t size, int32_t shard) except -1 nogil    # the database has a row that is to be deleted
    cdef int note(self, int64_t slot) except -1 nogil            # the caller has inserted a row itself
    cdef int remove(self, int64_t slot) except -1 nogil          # a row that was taken, or is not about to be due
    cdef int drop(self, int64_t slot) except -1 nogil            # any row
    cdef int64_t count(self, int lane) noexcept nogil            # rows, hot and cold
    # No row of the lane comes before this time (one that was removed may still count), INT64_MAX = there is none.
    cdef int64_t first(self, int lane) noexcept nogil
    # Takes the next rows whose time is at or before `limit`, so many at most, in the order of their keys, into due[0 .. n); returns
    # n, 0 when none is left. They stay in the table, and in memory: the caller removes them, or puts them back.
    cdef int64_t take_due(self, int lane, int64_t limit, int64_t most) except -1 nogil
    # Takes the first row if its key comes before this one, which was taken: it has been added since. -1: there is none.
    cdef int64_t take_earlier(self, const char* key, int64_t size) except? -1 nogil
    cdef int put_back(self, int64_t slot) except -1 nogil        # one that was taken: it is due as before
    cdef int rebuild(self) except -1 nogil                       # from the table, once that has been loaded

    cdef char* key_of(self, int lane, int64_t time, const char* tail, int64_t size) except NULL nogil    # in `scratch`
    cdef int stand(self, int64_t slot) except -1 nogil
    cdef int push(self, Lane* lane, int64_t time, int64_t slot) except -1 nogil
    cdef bint stands(self, int lane, SlotDeadline* entry) noexcept nogil
    cdef int gather(self, int lane, int64_t limit, int64_t most) except -1 nogil
    cdef int sort_run(self, SlotRun* run, int64_t first) except -1 nogil
    cdef int read_cold(self, int lane, int64_t limit, int64_t most) except -1 nogil
    cdef int read_rows(self, int lane, int64_t wanted, const char* bound, int64_t bound_size, bint exclusive) except -1
    cdef int64_t merge_runs(self, Lane* lane, int64_t most) except -1 nogil
    cdef void forget(self, SlotRun* run, int64_t slot) noexcept nogil
    cdef int keep(self, SlotRun* run, int64_t slot) except -1 nogil
    cdef int order(self, int64_t left, int64_t right) noexcept nogil
