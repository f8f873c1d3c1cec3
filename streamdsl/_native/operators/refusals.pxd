"""What becomes of records that an operator refuses, and the operators whose expressions may refuse some."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.rows.row cimport Row, RowShape
from streamdsl._native.rows.row_writer cimport RowWriter

cdef enum:
    POLICY_FAIL = 0
    POLICY_SKIP = 1
    POLICY_DEAD_LETTER = 2


cdef class Refusals:
    """Counts the records that one operator refuses, and keeps their dead letters until they are taken."""
    cdef str operator                        # its name
    cdef int policy                          # POLICY_*
    cdef RowShape shape                      # of its input
    cdef RowWriter letters                   # None: there are no dead letters
    cdef int column_topic                    # of the hidden position columns, -1 = absent
    cdef int column_partition
    cdef int column_offset
    cdef int64_t errors                      # records refused
    cdef int64_t n_letters

    cdef int take(self, str reason, Row row, object key, int64_t slot, int64_t time) except -1
    cdef object position(self, Row row)      # dict: topic, partition, offset as far as known
    cdef int send(self, Operator target, Batch* source) except -1      # the dead letters waiting; target None: dropped
    cdef dict metrics(self)


# Takes the exception that is set, which must be that of a record, and returns why it was refused; raises any other.
cdef str reason_of_raised()
cdef int warn_late(object spec, Batch* batch, int32_t row, int64_t watermark) except -1      # the first record that came too late


cdef class RefusingOperator(Operator):
    """Base of operators that evaluate expressions: `process` is `attempt`, then `finish`, for the rows that are not refused."""
    cdef Refusals refusals                   # None: a bad record ends the run
    cdef Operator letters_output             # None: nobody reads dead letters

    cdef int prepare_refusals(self, spec) except -1
    cdef int attempt(self, Batch* batch) except -1 nogil               # may raise RecordError; leaves no trace but scratch
    cdef int finish(self, Batch* batch) except -1 nogil                # goes on with what `attempt` has found for these rows
    # Whether a row that failed would not have been looked at had it come alone; `finish_spared` then deals with it.
    cdef bint spares(self, Batch* batch, int32_t row) noexcept nogil
    cdef int finish_spared(self, Batch* batch) except -1 nogil         # one row
    cdef int process_most(self, Batch* batch) except -1                # some rows of the batch fail
    cdef int process_rows(self, Batch* batch, list rows) except -1     # these rows of it, which are good
    cdef list failing_rows(self, Batch* batch)                         # (row, reason) of each, ascending
    cdef object failing_column(self)                                   # name of the column whose expression failed last, None
