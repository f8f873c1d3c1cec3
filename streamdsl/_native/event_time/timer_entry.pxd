"""What a timer is in the state: one key, whose bytes are in the order in which timers fire.

A byte for the clock; the time, biased and big-endian; the user's key, in which NUL is written as 00 FF, and its end as 00 01;
the name in UTF-8.
"""
from libc.stdint cimport int64_t

cdef enum:
    CLOCK_EVENT = 0
    CLOCK_PROCESSING = 1
    PUT_OFF = 2                # more than the clock: a timer that counts from the end of this advance on; never in a checkpoint
    CLOCKS = 4
    TIME_BYTES = 9             # of an entry: its clock and its time

cpdef bytes timer_entry(int clock, int64_t time, bytes key, str name)
# (time, key, name); an entry whose parts do not fit is a ValueError.
cpdef tuple timer_of(bytes entry)
cdef int64_t entry_time(const char* entry) noexcept nogil
cdef void put_entry_time(char* entry, int clock, int64_t time) noexcept nogil    # the first TIME_BYTES of an entry
# Negative, 0, positive: as memcmp, a beginning before what it begins.
cdef int entry_order(const char* left, int64_t left_size, const char* right, int64_t right_size) noexcept nogil
