"""The rows of a table beside those that a column of theirs names in another one: a table that changes with either."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.changes_join cimport ChangesJoinOperator
from streamdsl._native.rows.timed_rows cimport TimedRows, TimedRowsField


cdef class ForeignKeyJoinOperator(ChangesJoinOperator):
    cdef TimedRowsField field                # of a key of the right table: the left rows that name it, by version; its row, if any
    cdef int version                         # column of a left row's version
    cdef int n_keys                          # the first of the kept columns of the left side: those of its key

    cdef int take_left(self, Batch* batch, int32_t row, int64_t time, TimedRows* left) except -1 nogil
    cdef int take_right(self, Batch* batch, int32_t row, int64_t time, TimedRows* left) except -1 nogil
    cdef int32_t place(self, const TimedRows* left, int64_t version) except? -2 nogil  # of the row in `scratch`; -1: it is not there
