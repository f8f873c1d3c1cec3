"""What a chunk that was read becomes: native rows with their times; those that the source may not give are marked."""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.task.split cimport Split


cdef class Intake:
    cdef object spec                         # PhysicalSource
    cdef object types                        # of its columns, as declared
    cdef object times                        # runtime.event_times.RowTimes; None: the times need nothing
    cdef object schema                       # pa.Schema of rows that were found to be canonical: those of a reader are all alike
    cdef object native                       # the same of native rows; they share one object
    cdef tuple never_null                    # columns, by number
    cdef int timestamp                       # column of the event time, -1: the records' own
    cdef int64_t time_per_ms                 # units of that column in a millisecond; 0: it holds whole seconds
    cdef int64_t max_ahead_ms                # -1: no limit
    cdef int partitioned_by                  # column whose hash modulo n_partitions is a row's split; -1: none
    cdef int n_partitions

    # What a split has read, with event times; `timed` false: they have none.
    cdef Batch* rows_of(self, str split, object rows, object timestamps, int64_t now, bint* timed) except NULL
    cdef Batch* _batch_of(self, object rows) except NULL
    cdef bint stamp(self, Batch* rows, object timestamps, int64_t now) except -1
    # Marks the rows of the split that the source may not give.
    cdef int judge(self, Split split, int64_t now) except -1
