"""Timers of Processors: keyed state, fired in order of time, then key bytes, then name."""
from libc.stdint cimport int64_t

from streamdsl._native.state.deadlines cimport Deadlines
from streamdsl._native.state.hash_set cimport HashSet


cdef class TimerService(Deadlines):
    # A row a timer, no fields; key: its entry, whose lane is the clock; shard: of the user's key.
    cdef HashSet marks                       # of the timers that have fired in this advance, and of their runs as the input ends
    cdef set taken                           # entries that have been taken, and have neither fired nor been cancelled
    cdef readonly int64_t fired

    cdef bint any_due(self, int clock, int64_t now) noexcept nogil
    # The first timers at or before `now`, so many at most, in order, taken from the index; none if there are none. They are set
    # until `fire`, whose answer is whether one still was; what has not fired has to be put back.
    cdef list take_entries(self, int clock, int64_t now, int64_t most)
    # The same for one that comes before an entry that was taken: it has been set since.
    cdef bytes take_before(self, bytes entry)
    cdef bint fire(self, bytes entry) except -1
    cdef int put_all_back(self, list entries) except -1
    cdef bint put(self, bytes entry, int shard) except -1                      # False, and without effect, if it is set
    cdef bint cancel_entry(self, bytes entry, int shard) except -1             # whether it was set
    # The timers of a clock that were put off, so many at most, count from now on; returns how many.
    cdef int64_t put_on(self, int clock, int64_t most) except -1
    cdef bint put_off(self, bytes entry) except -1                             # until the advance is over; whether it was set
    cdef tuple parts(self, bytes entry)                                        # (time, key, name)
    # What a mark is set for is up to the caller; `run` tells marks of one entry apart.
    cdef int mark(self, bytes entry, int run) except -1
    cdef bint marked(self, bytes entry, int run) noexcept
    cdef void forget_marks(self) noexcept

    cdef bytes entry_of(self, int64_t slot)
    cdef int let_go(self, bytes entry, int64_t slot) except -1                 # remove it, wherever it stands
    cdef int64_t slot_of(self, bytes entry) noexcept                           # -2: it is not set, or not in memory
