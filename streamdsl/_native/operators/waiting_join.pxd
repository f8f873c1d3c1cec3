"""Joins whose rows wait for the watermark: they are kept by key and time, with an index of when they are due."""
from libc.stdint cimport int64_t

from streamdsl._native.operators.join cimport JoinOperator
from streamdsl._native.rows.timed_rows cimport TimedRowsField
from streamdsl._native.state.deadlines cimport Deadlines
from streamdsl._native.state.key_list cimport KeyList


cdef class WaitingJoinOperator(JoinOperator):
    cdef TimedRowsField field                # of a key: the rows of the left side, those of the right one
    cdef Deadlines deadlines                 # by time and key: when rows of the key are due
    cdef KeyList wanted                      # scratch: keys to be looked up together
    cdef int64_t* slots                           # by deadline of those at hand: its key's, -2: there is none
    cdef int64_t capacity

    cdef int note_due(self, int64_t time, int64_t slot) except -1 nogil      # rows of the key are due when W reaches `time`
    cdef int find_due(self, int64_t n) except -1 nogil                       # `slots` of the first n deadlines of `due`
    cdef int emit_due(self, int64_t n) except -1 nogil                       # rows of the first n deadlines of `due`
    cdef int release(self, int64_t slot, int64_t deadline) except -1 nogil   # drops rows of a key that are of no use any more
