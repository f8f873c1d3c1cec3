"""What the native keyed operators share: their lookup, the row pointers of a batch, the output of late rows."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport Batch, Column
from streamdsl._native.aggregates.accumulators cimport AccumulatorSet
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.operators.refusals cimport RefusingOperator
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.aggregates.rolling cimport RollingFrame
from streamdsl._native.state.row_table cimport RowField
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum:
    OUTPUT_ROWS = 4096                       # at most, in a batch that an operator makes of its own


cdef class AggregateField(RowField):
    """Raw bytes (`prefix`), then the states of the accumulators, then the ring of the rolling ones."""
    cdef AccumulatorSet accumulators
    cdef RollingFrame rolling                # None = no ring
    cdef int64_t prefix
    cdef int64_t ring_at
    cdef int64_t watermark                   # of the operator: what rolling frames keep is of no use behind it


cdef class KeyedOperator(RefusingOperator):
    cdef KeyLookup lookup
    cdef object spec                         # of the physical plan
    cdef Program arguments                   # None = no aggregate has an argument
    cdef Column* columns                     # its outputs for the batch at hand
    cdef int n_columns
    cdef Operator late_output                # None = late rows are counted and dropped
    cdef int64_t late                        # rows refused
    cdef char** states                       # scratch: one pointer a row
    cdef int32_t* rows                       # scratch: one number a row
    cdef int64_t capacity

    cdef bint careful                        # its aggregates may refuse a record, which the policy does not let end the run
    cdef char* saved                         # scratch: what `save` of the aggregates notes of the record at hand
    cdef int64_t saved_capacity

    # For the careful. `try_row` takes one record into the aggregates that may refuse it, and raises if one does; `undo_row` then
    # takes it back out of the others, of which `taken` records stand. `take_row` is both, and tells the policy; it returns
    # whether the record was taken. `take_rows` does so for all, leaves those taken in `rows` and `states`, returns their number.
    cdef int try_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil
    cdef int undo_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil
    cdef bint take_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil
    cdef int32_t take_rows(self, Batch* batch) except -1 nogil
    cdef char* room(self, int64_t size) except NULL nogil            # `saved`, at least so large
    cdef int reserve(self, int64_t n) except -1 nogil                # room for n states and rows; keeps what is there
    cdef int evaluate(self, Batch* batch) except -1 nogil
    cdef void release_columns(self) noexcept nogil
    cdef int touch_rows(self, Batch* batch, RowField field) except -1 nogil      # states[i] = the field of row i
    cdef int emit_late(self, Batch* batch, const int32_t* rows, int32_t n) except -1 nogil
    cdef int64_t collect_slots(self, RowField field, list slots) except -1       # keys whose field is not all zero; states[i] = it
    cdef dict shown(self, list slots, list accumulators, Column* columns)        # {key: {aggregate: value}}; releases the columns


cdef Batch* widened(Batch* batch, int extra) except NULL nogil      # its columns, and room for `extra` more
