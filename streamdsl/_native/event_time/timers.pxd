"""Timers of Processors: keyed state, fired in order of time, then key bytes, then name."""
from libc.stdint cimport int64_t

from streamdsl._native.event_time.timer_entry cimport CLOCKS
from streamdsl._native.state.cold_deadlines cimport ColdDeadlines
from streamdsl._native.state.hash_set cimport HashSet
from streamdsl._native.state.key_table cimport ColdListener, KeyTable


cdef class TimerService(ColdListener):
    cdef KeyTable table                      # one row a timer, no fields; key: its entry; shard: of the user's key
    cdef list heaps                          # per clock: heap of entries; may hold ones that were cancelled or are hot no more
    cdef int64_t n_entries                   # in all of them
    cdef int64_t entry_bytes                 # that they take, about
    cdef int64_t next_times[CLOCKS]          # per clock: no timer comes before it, INT64_MAX = there is none
    cdef ColdDeadlines cold[CLOCKS]             # per clock
    cdef bint reading                        # what comes back is about to fire: it stays until then
    cdef HashSet marks                       # of the timers that have fired in this advance, and of their runs as the input ends
    cdef readonly int64_t fired

    # No timer comes before this time (one that was cancelled may still count), INT64_MAX = there is none.
    cdef int64_t next_time(self, int clock) noexcept nogil
    cdef bint any_due(self, int clock, int64_t now) noexcept nogil
    # The first timers at or before `now`, so many at most, in order, taken from the heap; none if there are none. They are set
    # until `remove`, whose answer is whether one still was; what has not been removed has to be put back.
    cdef list take_due(self, int clock, int64_t now, int64_t most)
    # The same for one that comes before an entry that was taken: it has been set since.
    cdef bytes take_before(self, bytes entry)
    cdef bint remove(self, bytes entry) except -1
    cdef int put_back(self, list entries) except -1
    cdef bint put(self, bytes entry, int shard) except -1                      # False, and without effect, if it is set
    cdef bint drop(self, bytes entry, int shard) except -1                     # whether it was set
    # The timers of a clock that were put off, so many at most, count from now on; returns how many.
    cdef int64_t put_on(self, int clock, int64_t most) except -1
    cdef bint put_off(self, bytes entry) except -1                             # until the advance is over; whether it was set
    cdef tuple parts(self, bytes entry)                                        # (time, key, name)
    # What a mark is set for is up to the caller; `run` tells marks of one entry apart.
    cdef int mark(self, bytes entry, int run) except -1
    cdef bint marked(self, bytes entry, int run) noexcept
    cdef void forget_marks(self) noexcept

    cdef bytes next_due(self, int clock, int64_t now, int64_t most)
    cdef bytes top(self, int clock)
    cdef int64_t slot_of(self, bytes entry) noexcept                           # -2: it is not set, or not in memory
    cdef int read_due(self, int clock, int64_t now, int64_t most) except -1
    cdef int push(self, bytes entry) except -1
    cdef bytes pop(self, int clock)
    cdef int noted(self, int clock) except -1
    cdef int note_all(self) except -1
    cdef int rebuild(self) except -1
