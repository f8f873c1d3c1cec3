"""What a Processor is given beside its rows: key, time, output, timers, state, metrics."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.event_time.timers cimport TimerService
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.user_code cimport UserCodeOperator
from streamdsl._native.state.handles cimport StateDeclarations
from streamdsl._native.state.state_field cimport Scope
from streamdsl._native.state.undo cimport UndoLog


cdef class KeyReader:
    """Keys as user code sees them: a scalar for one component, a tuple for several, in the declared types."""
    cdef KeyLookup lookup
    cdef tuple codes                         # VALUE_* of the components
    cdef bint text                           # the key is one string column
    cdef int64_t slot                        # the last key read
    cdef object last

    cdef object key(self, int64_t slot)
    cdef object key_of_bytes(self, bytes encoded)


cdef class Timer:
    cdef readonly int64_t time
    cdef readonly str name
    cdef readonly str clock


cdef class ProcessTimers:
    """Timers of a Processor: the service, and what an advance of time asks beyond it."""
    cdef TimerService service
    cdef Scope scope                         # what shards had reached before a restore
    cdef bint firing                         # time advances, in one piece or in many
    cdef int64_t began                       # the clock before the advance
    cdef int64_t until                       # and behind it
    cdef bytes furthest                      # the last entry, in their order, that has fired in this advance; None: none has
    cdef bint ending                         # all have fired: what has been put off is still to be set
    cdef readonly int64_t dropped
    cdef UndoLog undo                        # None: what is set and cancelled stays

    cdef int put(self, bytes entry, int shard) except -1
    cdef int drop(self, bytes entry, int shard) except -1
    cdef int set(self, bytes key, int shard, int64_t time, str name, int clock) except -1
    cdef int cancel(self, bytes key, int shard, int64_t time, str name, int clock) except -1
    cdef int begin(self, int64_t began, int64_t until) except -1
    # What was put off, so many at most, is set now; returns how many. With none left the advance is over.
    cdef int64_t end(self, int64_t most) except -1
    # Takes a timer's row away: it fires. False: it has been cancelled.
    cdef bint take(self, bytes entry) except -1
    # Whether it goes off at a later watermark: its shard had come further before a restore than this one. It is put off then.
    cdef bint waits(self, bytes entry) except -1
    cdef bint may_run_again(self, bytes key, str name) except -1


cdef class Context:
    cdef UserCodeOperator operator
    cdef Scope scope
    cdef readonly StateDeclarations state
    cdef readonly object metrics             # ProcessMetrics
    cdef KeyReader reader
    cdef ProcessTimers timers                # None: no timers here (windows)
    cdef int32_t row                         # of the batch; -1: a timer, a window
    cdef int64_t time
    cdef bint active                         # whether rows may be emitted
    cdef list batch_keys                     # in process_batch
    cdef list batch_times

    cdef int check_active(self, str what) except -1
    cdef int clock_number(self, str clock) except -1


cdef Context new_context(UserCodeOperator operator, KeyLookup lookup, KeyReader reader, ProcessTimers timers)
# Has everything that is written through the context noted, state, timers and figures; None while a bad record ends the run.
cdef UndoLog undo_log_of(Context context)
