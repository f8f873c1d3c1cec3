"""What a timer is in the state: one key, whose bytes are in the order in which timers fire.

The clock as the lane of its deadline, and the time (state/deadline_key.pxd); the user's key, in which NUL is written as 00 FF, and
its end as 00 01; the name in UTF-8.
"""
from libc.stdint cimport int64_t

cdef enum:
    CLOCK_EVENT = 0
    CLOCK_PROCESSING = 1
    PUT_OFF = 2                # more than the clock: a timer that counts from the end of this advance on; never in a checkpoint
    CLOCKS = 4

cpdef bytes timer_entry(int clock, int64_t time, bytes key, str name)
# (time, key, name); an entry whose parts do not fit is a ValueError.
cpdef tuple timer_of(bytes entry)
