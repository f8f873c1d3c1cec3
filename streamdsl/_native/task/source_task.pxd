"""The task at the head of a plan: reads splits instead of channels."""
from libc.stdint cimport int64_t

from streamdsl._native.event_time.bootstrap cimport Bootstrap
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.flow.pace cimport Pace
from streamdsl._native.task.split cimport Split
from streamdsl._native.task.splits_task cimport SplitsTask


cdef class SourceTask(SplitsTask):
    cdef int turn
    cdef Bootstrap bootstrap                 # None: nobody waits for the end of another source
    cdef bint bootstraps                     # others wait for the end of what there is to read here
    cdef bint in_round                       # of event time: what is emitted before its end passes on no time
    cdef int64_t rate_began_ns
    cdef double rate_taken
    cdef Pace pace                           # None: no user code behind it
    cdef int64_t ramp                        # rows of a batch while not all user code behind it has been measured
    cdef int64_t ramp_batches
    cdef int64_t requested                   # atomic: checkpoint id asked for, 0: none
    cdef int64_t paused                      # atomic
    cdef int64_t draining                    # atomic

    cdef bint may_snapshot(self, int64_t checkpoint_id) noexcept nogil
    cdef bint must_wait(self) noexcept nogil                 # for other sources to be read to their ends
    cdef int note_bootstrap(self) except -1                  # looks whether all is read, and has been taken by the tasks behind
    cdef void note_round(self) noexcept nogil
    cdef int read_splits(self) except -1 nogil
    cdef int read_due(self, int64_t limit) except -1 nogil   # the next split that has something
    cdef bint read_together(self, int64_t limit) except -1 nogil
    cdef bint is_one_batch(self, Split split) noexcept
    cdef int hand_on_together(self, list splits, Batch* batch) except -1
    cdef int read_split(self, int chosen, int64_t limit) except -1 nogil
    cdef int choose(self) noexcept nogil
    cdef int64_t paced_rows(self) noexcept nogil
    cdef int64_t limit_now(self) noexcept nogil              # rows that may be emitted in one piece
    cdef int64_t next_time(self, Split split) noexcept nogil  # ms: of its next row, or of one before that was later
    cdef int hand_on_within(self, Split split, int64_t limit) except -1 nogil
    cdef int64_t allowance(self) noexcept nogil
    cdef int hand_on(self, Split split, int64_t limit, int64_t until) except -1 nogil
    # Where the rows are put in order with those of other splits: says where each stands. `seen`: the greatest time before them.
    cdef int set_places(self, Split split, Batch* batch, int64_t seen) except -1 nogil
    cdef Batch* good_rows(self, Split split, int64_t first, int64_t n) except NULL nogil
