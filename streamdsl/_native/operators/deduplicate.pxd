"""The first of equal records: of a key, one is kept, and those that come near it in time are dropped."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.keyed cimport KeyedOperator
from streamdsl._native.state.deadlines cimport Deadlines
from streamdsl._native.state.key_list cimport KeyList
from streamdsl._native.state.row_table cimport RowField

# Of a key: the times (ms) of the records that were kept and may still have duplicates. The first stands in the row.
cdef struct Seen:
    int64_t count
    int64_t filed                            # 1: the index has a row of the key, due when the latest of them is over or earlier
    int64_t first
    int64_t* more                            # count - 1 of them, in the arena
    int64_t capacity


cdef class SeenField(RowField):
    cdef int64_t within_ms                   # -1: for ever
    cdef int64_t watermark                   # no record at or before it is on time

    cdef int64_t last_moment(self, int64_t time) noexcept nogil  # of a watermark at which a record of this time still counts, and 1
    cdef void forget(self, Seen* seen) noexcept nogil            # what has outlived its time
    cdef int64_t latest(self, const Seen* seen) noexcept nogil   # of one that is not empty
    cdef bint outlived(self, int64_t time) noexcept nogil        # no record on time is a duplicate of one of this time
    cdef bint has(self, const Seen* seen, int64_t time) noexcept nogil           # whether a record of this time is a duplicate
    cdef int add(self, Seen* seen, int64_t time) except -1 nogil
    cdef void set(self, Seen* seen, int64_t i, int64_t time) noexcept nogil
    cdef int64_t get(self, const Seen* seen, int64_t i) noexcept nogil


cdef class DeduplicateOperator(KeyedOperator):
    cdef SeenField row_field
    cdef int64_t within_ms
    cdef int64_t duplicates                  # records dropped
    cdef Deadlines deadlines                 # of keys: when there is something to forget; None: never
    cdef int64_t watermark
    cdef KeyList wanted                      # scratch: keys that are due, looked up together
    cdef int64_t* due_slots
    cdef int64_t due_capacity

    cdef int file(self, int64_t slot, int64_t time) except -1 nogil
    cdef int forget_due(self, int64_t n) except -1 nogil
    cdef int reserve_slots(self, int64_t n) except -1 nogil
