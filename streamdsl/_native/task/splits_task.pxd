"""What a source task knows of its splits: what is read of them becomes rows with times, and their positions a part of a checkpoint."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.event_time.peer_time cimport PeerTime
from streamdsl._native.task.feed_poll cimport FeedPoll
from streamdsl._native.task.intake cimport Intake
from streamdsl._native.task.split cimport Split
from streamdsl._native.task.task cimport Task


cdef class SplitsTask(Task):
    cdef object spec                         # PhysicalSource
    cdef Intake intake
    cdef list splits
    cdef void** split_refs
    cdef int n_splits
    cdef FeedPoll polls
    cdef bint in_order                       # reads in rounds (ordered_source.pxd)
    cdef int64_t max_drift_ms                # -1: no limit
    cdef int batch_rows
    cdef int chunk_rows
    cdef int64_t idle_timeout_ms             # -1: never
    cdef double rate                         # rows a second of this task; 0: no limit
    cdef tuple snapshotted                   # the last checkpoint's number and {split: state}
    cdef object policy                       # called with each rejected record
    cdef readonly int64_t rejected
    cdef PeerTime peers                      # None: time needs nobody else's
    cdef int peer                            # this task there

    cdef int without_times(self) except -1
    cdef int refill(self, Split split) except -1 nogil
    cdef int end_split(self, Split split) except -1 nogil
    cdef int handle_rejected(self, Split split, int32_t before) except -1
