"""Aggregates of rows that may be withdrawn: groups of the rows of a table."""
from libc.stdint cimport int64_t, uint8_t

from streamdsl._native.aggregates.sorted_cells cimport CellOrder, SortedCells
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.aggregate cimport AggregateOperator
from streamdsl._native.operators.keyed cimport AggregateField
from streamdsl._native.operators.last_rows cimport LastRows
from streamdsl._native.state.write_stream cimport ByteWriter

# What stands in front of the accumulators.
cdef struct Group:
    int64_t rows                             # in the group
    int64_t shown                            # whether a row of it has left, behind a batch (not stored: it has if it had rows then)
    SortedCells refused                      # rows that were refused, as text, each counted: their withdrawals are to be ignored


cdef class GroupField(AggregateField):
    cdef CellOrder texts                     # the order of Group.refused


cdef class GroupOperator(AggregateOperator):
    cdef CellOrder texts
    cdef int sign                            # argument column: 1 adds the row, -1 withdraws it
    cdef LastRows batch_rows                 # None: a row leaves for each that comes or goes
    cdef uint8_t* changes                    # scratch: bits of Change, by row
    cdef int64_t changes_capacity
    cdef ByteWriter text                     # scratch: a row's arguments

    cdef inline bint withdraws(self, int64_t row) noexcept nogil:
        return (<int64_t*>self.columns[self.sign].values)[row] < 0

    cdef int plan_row(self, int64_t row) except -1 nogil             # fills `changes`
    cdef int count_row(self, int64_t row) except -1 nogil            # the group has this row now, or no longer
    cdef bint was_refused(self, int64_t row) except -1 nogil         # a withdrawn row was refused when it came; it is forgotten
    cdef int remember_refused(self, int64_t row) except -1 nogil
    cdef Batch* last_of(self, Batch* made) except NULL nogil         # of each group, as it stands behind the batch
    cdef int write_row(self, int64_t row) except -1 nogil            # its arguments to `text`
