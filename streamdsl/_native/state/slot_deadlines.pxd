"""Deadlines that are no rows of a table: a time, a number, and the slot of the key that they are about.

A row of `Deadlines` costs a look into a hash table when it is added and another when it is due, and its own copy of the key.
Most deadlines are over before any key has had to leave memory. These stand in lists by time, and become rows when memory is short.
"""
from libc.stdint cimport int64_t

from streamdsl._native.state.deadline_heap cimport SlotDeadline, SlotDeadlineList
from streamdsl._native.state.deadlines cimport MOST_LANES, Deadlines
from streamdsl._native.state.key_table cimport ColdListener, KeyTable
from streamdsl._native.state.rank_sort cimport RankedItem
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.state.write_stream cimport ByteWriter


cdef struct TimeBucket:
    int64_t number             # time >> shift
    int64_t earliest           # time
    int64_t written            # so many are in the stream,
    int64_t begun              # and so many are to be before the checkpoint at hand is complete
    SlotDeadlineList items


cdef struct SlotLane:
    TimeBucket* buckets        # by number
    int64_t n_buckets
    int64_t capacity
    int64_t last               # the bucket that was added to last
    int shift                  # rises when there are too many buckets
    SlotDeadlineList near      # a heap by time
    SlotDeadlineList ready     # what was due and has not been handed out
    SlotDeadlineList spare     # empty: room for the next bucket
    int64_t near_until         # while `near` or `ready` has something, all of it is up to this time, and all in buckets is behind it
    bint unsorted              # `ready` is
    int64_t count
    int64_t given_up           # of these: deadlines that no longer count


cdef class DeadlineOwner:
    """Knows which deadlines count, where some are given up before they are due."""
    cdef bint stands(self, int lane, const SlotDeadline* item) noexcept nogil


cdef class SlotDeadlines(ColdListener):
    cdef Deadlines deadlines                 # where they become rows
    cdef KeyTable keys                       # the table of the slots
    cdef DeadlineOwner owner                 # None: none is given up
    cdef readonly bint allowed
    cdef readonly bint on                    # new ones may be added
    cdef bint pressed                        # memory was short since the last checkpoint began
    cdef SlotLane lane[MOST_LANES]
    cdef ByteWriter gone                     # deletes, for the next checkpoint
    cdef int64_t n_gone
    cdef ByteWriter tail                     # scratch
    cdef bint settling                       # a checkpoint has begun that some are still to be written for
    cdef int settling_lane
    cdef int64_t settling_bucket
    cdef RankedItem* sort_room               # scratch of `sort`
    cdef int64_t sort_capacity

    cdef int add(self, int lane, int64_t time, int64_t id, int64_t slot) except -1 nogil
    cdef int64_t first(self, int lane) noexcept nogil                        # the earliest time; INT64_MAX: there is none
    # Adds what is due to `ready`, until that has `most` and nothing else comes before it. Returns where in `ready` the added ones begin:
    # the caller may drop some of them before it calls `sort`.
    cdef int64_t gather(self, int lane, int64_t limit, int64_t most) except -1 nogil
    cdef int sort(self, int lane) except -1 nogil                            # `ready`: by time, id and key
    # How many of `ready`, from its first on, can be dealt with before others are gathered; `one_window`: of one time and id.
    cdef int64_t piece(self, int lane, int64_t most, bint one_window) noexcept nogil
    cdef int over(self, int lane, const SlotDeadline* item) except -1 nogil  # it is dropped, or has been dealt with
    cdef int give_up(self, int lane) except -1 nogil                         # one of them counts no more: `owner` knows which
    cdef int spill_due(self, int lane, int64_t limit) except -1 nogil        # what is due becomes rows
    cdef int spill_all(self) except -1 nogil

    cdef void clear(self) noexcept nogil
    cdef int weed(self, int lane) except -1 nogil
    cdef int reserve_sorted(self, int64_t n) except -1 nogil
    cdef int64_t tail_of(self, const SlotDeadline* item, const RowHeader* header) except -1 nogil    # fills `tail`
    cdef int bury(self) except -1 nogil
    cdef int spill_ready(self, int lane) except -1 nogil
    cdef int spill(self, int lane, const SlotDeadline* item) except -1 nogil
    cdef int write(self, int lane, SlotDeadline* item) except -1 nogil
    cdef int write_list(self, int lane, SlotDeadlineList* items, int64_t first, int64_t end) except -1 nogil
    cdef int64_t settle(self, int64_t most) except -1 nogil
    cdef TimeBucket* bucket_of(self, SlotLane* lane, int64_t number) except NULL nogil
    cdef int widen(self, SlotLane* lane) except -1 nogil
    cdef void keep(self, SlotLane* lane, SlotDeadlineList items, int64_t used) noexcept nogil
    cdef int pour(self, SlotLane* lane) except -1 nogil
