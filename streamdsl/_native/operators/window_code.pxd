"""Contents of windows that user code sees: the rows of a Processor's window, the one row of a reduction."""
from libc.stdint cimport int64_t

from streamdsl._native.event_time.clock cimport Clock
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.process_context cimport Context
from streamdsl._native.operators.user_code cimport UserCodeOperator
from streamdsl._native.rows.row cimport RowShape
from streamdsl._native.rows.row_block cimport RowPacker
from streamdsl._native.rows.row_writer cimport RowWriter
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.state_field cimport Scope, StateField
from streamdsl._native.state.undo cimport UndoLog
from streamdsl._native.windows.contents cimport Contents, Shown


cdef class WindowCode(UserCodeOperator):
    """The outputs of user code that runs in a window; the window operator stands in the chain for it."""
    cdef int waiting_rows(self) noexcept
    cdef int send_rows(self, Batch* batch) except -1


cdef class CodeContents(Contents):
    cdef readonly WindowCode code
    cdef KeyLookup lookup
    cdef Arena arena
    cdef int64_t arrived                     # arrival number of the first record of the batch at hand

    cdef void follow(self) noexcept nogil    # the operator's watermark has risen
    cdef int expire(self, int64_t watermark) except -1 nogil     # all windows that it closes have been shown


cdef class RowsContents(CodeContents):
    cdef RowPacker packer
    cdef Context context
    cdef Scope scope
    cdef Clock clock
    cdef object key_schema
    cdef readonly object processor
    cdef StateField state_field
    cdef UndoLog undo                        # what the call at hand has written; None: a bad record ends the run
    cdef list marks

    cdef int64_t wall(self) noexcept nogil
    cdef int call(self, char* state, const Shown* shown) except -1
    cdef int take(self, object result, int64_t time, int64_t slot) except -1
    cdef int refuse(self, object error, list rows, const Shown* shown) except -1


cdef class OneRowContents(CodeContents):
    cdef object function
    cdef RowShape shape                      # of the input
    cdef frozenset keys
    cdef list names                          # of the output
    cdef int start_at                        # places of window_start and window_end in the output
    cdef int end_at
    cdef RowWriter check                     # values as the columns have them
    cdef list place_of                       # for each input column its place in `check`, -1

    cdef int add_row(self, char* state, Batch* batch, int row) except -1
    cdef int unite(self, char* into, char* other) except -1
    cdef int refuse(self, object error, object row) except -1
    cdef int show_row(self, char* state, const Shown* shown) except -1
    cdef tuple kept(self, object made)
