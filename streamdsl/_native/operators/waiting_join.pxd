"""Joins whose rows wait for the watermark: they are kept by key and time, with an index of when they are due."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.operators.join cimport JoinOperator
from streamdsl._native.rows.timed_rows cimport TimedRowsField
from streamdsl._native.state.deadlines cimport Deadlines
from streamdsl._native.state.key_list cimport KeyList
from streamdsl._native.state.slot_deadlines cimport SlotDeadlines


cdef class KeyDeadlines(SlotDeadlines):
    """Deadlines of a join that are no rows. A key stays as long as one of its is here: its slot must not become another's."""
    cdef TimedRowsField field
    cdef bint hints                          # they only say when to look at a slot, whoever has it by then
    cdef bint missing                        # hints are to be noted for what is in memory
    cdef int32_t round                       # of hints: those of an earlier one are no more

    cdef int note(self, int64_t time, int64_t slot) except -1 nogil
    cdef int taken(self, int64_t slot) except -1 nogil           # one has been dealt with


cdef class WaitingJoinOperator(JoinOperator):
    cdef TimedRowsField field                # of a key: the rows of the left side, those of the right one
    cdef Deadlines deadlines                 # by time and key: when rows of the key are due
    cdef KeyDeadlines listed                 # the same, as long as memory is not short
    cdef bint sorts                          # rows come out when they are due, in order
    cdef int swept_shard                     # where the look through the database goes on,
    cdef bytes swept_key                     # and behind which key
    cdef bint as_rows                        # the deadlines at hand are rows of `deadlines`
    cdef KeyList wanted                      # scratch: keys to be looked up together
    cdef int64_t* slots                      # by deadline of those at hand: its key's, -2: there is none
    cdef int64_t* times                      # and its time
    cdef int64_t capacity

    cdef int note_due(self, int64_t time, int64_t slot) except -1 nogil      # rows of the key are due when W reaches `time`
    cdef int64_t first_due(self) noexcept nogil
    cdef int64_t take_due(self, int64_t most) except -1 nogil                # `slots` and `times` of the next ones, returns how many
    cdef int64_t take_rows(self, int64_t most) except -1 nogil
    cdef int64_t take_listed(self, int64_t most) except -1 nogil
    cdef int reserve(self, int64_t n) except -1 nogil
    cdef bint again(self, int64_t i) noexcept nogil                          # deadline i of those at hand is the one before it once more
    cdef int emit_due(self, int64_t n) except -1 nogil                       # rows of the n deadlines at hand
    cdef int release(self, int64_t slot, int64_t deadline) except -1 nogil   # drops rows of a key that are of no use any more
    cdef void note_useless(self) noexcept nogil                              # W has risen: tells `field`
    cdef int note_all(self) except -1 nogil                                  # notes when rows in memory are due
    cdef int sweep(self, int64_t n) except -1 nogil                          # looks at so many rows that are in the database alone
    cdef int sweep_rows(self, int64_t n) except -1
    cdef bint all_useless(self, bytes value) except -1
    cdef int keep_up(self) except -1 nogil                                   # with rows that leave memory: sweeps as many
