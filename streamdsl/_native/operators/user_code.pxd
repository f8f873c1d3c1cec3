"""What all operators that call user code share: outputs by tag, the policy for errors, positions in errors."""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.operators.refusals cimport Refusals
from streamdsl._native.rows.row cimport Row, RowShape
from streamdsl._native.rows.row_writer cimport RowWriter


cdef extern from "Python.h":
    bint PyCoro_CheckExact(object value)
    bint PyAsyncGen_CheckExact(object value)

cdef int refuse_awaitable(object result) except -1


# Raises BadRow, and closes what was returned, if user code gave back a coroutine: nobody would ever run it.
cdef inline int check_result(object result) except -1:
    if PyCoro_CheckExact(result) or PyAsyncGen_CheckExact(result):
        return refuse_awaitable(result)
    return 0


# Whether a predicate said yes; raises BadRow if it said neither yes nor no.
cdef bint judged(object result) except -1


cdef class UserCodeOperator(Operator):
    cdef RowShape input_shape
    cdef RowWriter main                      # waiting rows of the main output; None: the operator passes batches on
    cdef dict writers                        # tag -> RowWriter
    cdef bint by_row                         # user code is called for each row, not for each batch
    cdef int policy                          # POLICY_*
    cdef Refusals refusals
    cdef int64_t emitted
    cdef list marks                          # (writer, rows) before the record now being processed

    cdef int prepare(self, spec, bint keyed) except -1                  # called by __init__ of subclasses
    cdef int on_error(self, BaseException error, object doing, Row row, object key, int64_t slot, int64_t time) except -1
    cdef int flush(self, Batch* source) except -1                       # sends all waiting rows on; holds the GIL, gives it up downstream
    cdef int send(self, Operator target, Batch* batch) except -1        # takes the batch
    cdef bint waiting(self) noexcept                                    # whether any output has rows
