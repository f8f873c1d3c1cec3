from libc.stdint cimport int64_t

from streamdsl._native.event_time.clock cimport Clock
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.operators.refusals cimport Refusals

cdef enum:
    LATENCY_BUCKETS = 1024   # 16 a power of two, from 1 ns


cdef class SinkOperator(Operator):
    cdef object opens                        # makes the writer
    cdef object writer                       # None before `start`
    cdef list columns                        # input columns that are written
    cdef object canonical                    # pyarrow schema of the native columns
    cdef object schema                       # pyarrow schema that the writer sees
    cdef bint as_they_are                    # its types are the native ones
    cdef Clock clock
    cdef Refusals refusals                   # None: a row that cannot be written ends the run
    cdef Operator letters_output             # None: nobody reads dead letters
    cdef Batch** waiting                     # rows not yet handed over
    cdef int n_waiting
    cdef int capacity
    cdef int64_t waiting_rows
    cdef int64_t waiting_since_ns            # 0: not known yet
    cdef int64_t cost_ns                     # of handing over the last time
    cdef readonly int64_t written
    cdef int64_t[1024] latency               # rows by time from read to hand-over
    cdef bint full                           # the writer takes no more for now
    cdef bint unflushed                      # the writer has rows that it may not have made visible
    cdef public tuple watchers               # see the rows that are written (`runtime.sink_rows.Watcher`)

    cdef int _write_most(self, Batch* rows, canonical, times) except -1      # some of the rows cannot be written
    cdef int hand_over(self) except -1 nogil
    cdef int on_step(self, int64_t now_ns, bint crowded) except -1 nogil
    cdef int on_quiet(self) except -1 nogil  # the task has nothing to read now
