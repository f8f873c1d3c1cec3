"""Running aggregates by key whose changed rows leave now and then, by the wall clock."""
from libc.stdint cimport int64_t

from streamdsl._native.event_time.clock cimport Clock
from streamdsl._native.flow.batch cimport Batch
from streamdsl._native.operators.aggregate cimport AggregateOperator
from streamdsl._native.state.deadlines cimport Deadlines
from streamdsl._native.state.key_list cimport KeyList


cdef class ThrottledAggregateOperator(AggregateOperator):
    cdef Deadlines changed                   # keys that have changed since their last row, all in one lane at time 0
    cdef Clock clock
    cdef int64_t throttle_ms
    cdef int64_t throttled_until             # wall clock, ms; INT64_MAX: nothing has changed
    cdef int64_t passed                      # the last watermark that was passed on
    cdef KeyList wanted                      # scratch: keys to be looked up together
    cdef int64_t* key_slots                  # scratch
    cdef int64_t key_capacity

    cdef int note_change(self, int64_t slot, int64_t time) except -1 nogil
    cdef int64_t show_changed(self, int64_t most) except -1 nogil    # returns how many keys it has shown
    cdef Batch* changed_keys(self, int64_t n) except NULL nogil      # slots and times of the keys that are due; fills `states`
