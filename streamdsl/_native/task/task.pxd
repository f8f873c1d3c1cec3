"""A task: a state machine that never waits for another task."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.event_time.clock cimport Clock
from streamdsl._native.event_time.read_order cimport ReadOrder
from streamdsl._native.event_time.watermark_valve cimport WatermarkValve
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.flow.channel cimport StreamElement
from streamdsl._native.flow.input_gate cimport InputGate
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.snapshot.barrier_aligner cimport BarrierAligner
from streamdsl._native.state.store cimport StateStore


cdef enum:
    CROWD_ROWS = 1024


cdef class Task:
    cdef readonly str id                     # stage.index
    cdef readonly str title                  # what a person calls it
    cdef Clock clock
    cdef readonly StateStore store           # None: no keyed state
    cdef list operators                      # all of the chain, head to tail
    cdef readonly list owned_shards
    cdef object listener                     # told of snapshots, failures, the end
    cdef void** heads                        # for each input: the operator that gets its elements
    cdef void** distinct_heads
    cdef int n_heads
    cdef void** outputs
    cdef int n_outputs
    cdef void** settling                     # operators that wait until the chain in front has returned
    cdef int n_settling
    cdef void** sinks
    cdef int n_sinks
    cdef void** limited                      # sinks, which may hold everything back
    cdef int n_limited
    cdef void** holding                      # operators inside of the chain that may hold the input back
    cdef int n_holding
    cdef int64_t most_at_once                # rows of a batch that all operators take at a time
    cdef void** timed                        # operators with timers of the wall clock
    cdef int n_timed
    cdef void** closers                      # operators with windows or timers, in the order of the chain
    cdef int n_closers
    cdef list keep
    cdef InputGate gate
    cdef ReadOrder order                     # None: rows are in no rounds of event time
    cdef int number                          # of the task there
    cdef int64_t told_round                  # the round whose rows are known to be passed on
    cdef WatermarkValve valve
    cdef str stage_name                      # see name_inputs
    cdef list input_names
    cdef BarrierAligner aligner
    cdef readonly int64_t watermark          # never goes back; INT64_MIN: none yet
    cdef readonly bint idle
    cdef readonly bint ended
    cdef readonly bint failed
    cdef int64_t next_read_ns                # nothing can be read before, but for what other threads send; 0: not known
    cdef bint quiet
    cdef bint crowded                        # so many rows came at once as only come where they had to wait
    cdef readonly bint closing                        # windows are still to close, or timers to fire, before time goes on
    cdef public int closing_rows             # windows closed, or timers fired, in one step; a simulation makes it small
    cdef public int drain_rows               # rows of pending state written in one step; a simulation makes it small
    cdef int64_t committed                   # atomic: a completed checkpoint the sinks have not heard of; 0 = none
    cdef readonly int64_t processed          # rows in
    cdef readonly int64_t batches
    cdef readonly int64_t busy_ns
    cdef readonly int64_t blocked            # steps refused because an output was full
    cdef readonly int64_t starved            # steps that found nothing to read
    cdef readonly int64_t no_room            # steps refused because state had no room
    cdef Batch* rest                         # what is left of a batch that was too large for the memory of state
    cdef int32_t rest_at
    cdef int rest_input
    cdef list paces                          # of the sources in front of it: (Pace, number there)
    cdef bint paced                          # it runs user code
    cdef int64_t pace_rows                   # of which it is given so many rows at a time
    cdef int64_t pace_closing                # and so many windows or timers
    cdef int64_t most_rows                   # and so many at most
    cdef bint told                           # the sources know of it

    cdef int64_t piece_rows(self) noexcept nogil                 # rows of a batch that are processed in one step
    cdef int64_t fitting(self, int64_t rows, int64_t ns, int64_t before) noexcept nogil
    cdef int note_pace(self, int64_t rows, int64_t ns) except -1 nogil
    cdef int step(self) except -1 nogil      # 1: progress, 0: nothing to do now
    cdef bint held_back(self) except -1 nogil
    cdef bint unsettled(self) noexcept nogil             # rows of the round that was read have not left yet
    cdef int advance(self) except -1 nogil
    cdef int read_input(self) except -1 nogil
    cdef int on_records(self, int input, Batch* batch) except -1 nogil
    cdef int take_records(self, int input, Batch* batch) except -1 nogil
    cdef int go_on(self) except -1 nogil
    cdef int pass_on_time(self) except -1 nogil
    cdef int close_windows(self) except -1 nogil
    cdef int go_on_closing(self) except -1 nogil
    cdef int settle(self, bint ended_batch) except -1 nogil
    cdef int take_snapshot(self, int64_t checkpoint_id) except -1 nogil
    cdef void begin_round(self, int64_t round) noexcept nogil
    cdef int64_t round_over(self) noexcept nogil         # the round of which nothing is left; -1: something is
    cdef bint tell_round(self) noexcept nogil
    cdef int on_quiet(self) except -1 nogil
    cdef int end(self) except -1 nogil

cdef void** references(list items) except? NULL
