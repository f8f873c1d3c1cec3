"""Joins of tables: what they make of the changes of their sides are changes, too."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.join cimport JoinOperator
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum Change:
    ADD = 0
    REPLACE = 1
    WITHDRAW = 2


cdef class ChangesJoinOperator(JoinOperator):
    cdef bint[2] keeps                       # by side: its rows are there although the other table has none
    cdef int[2] removed                      # by side: column that says whether a row takes the key's row away, -1: there is none
    cdef bint* others[2]                     # by side and kept column: it is not among the key's
    cdef Batch* cause                        # the rows that are being taken; borrowed
    cdef int32_t cause_row                   # the one of them that makes changes now
    cdef Change* changes                     # of the output rows that wait
    cdef ByteWriter bytes                    # the kept rows that they are made of
    cdef int64_t* places                     # of these, two a row; -1: none

    cdef bint removes(self, int side, Batch* batch, int32_t row) noexcept nogil
    # One more change of the output; a row that is NULL is not there. Copies are kept: the next change of the key frees the rows.
    cdef int note(self, Change change, const char* left, int64_t left_size, const char* right, int64_t right_size,
                  int64_t time) except -1 nogil
    cdef int64_t keep(self, const char* data, int64_t size) except? -2 nogil
    cdef int send(self) except -1 nogil
