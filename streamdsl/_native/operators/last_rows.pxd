"""Which rows of a batch are the last of their key."""
from libc.stdint cimport int32_t, int64_t


cdef class LastRows:
    cdef int64_t* table                      # scratch: open addressing, 1 + slot; 0 = free
    cdef int64_t capacity

    # Of rows 0 .. n of these slots the last of each slot, ascending, into `found`; returns their number.
    cdef int32_t find(self, const int64_t* slots, int32_t n, int32_t* found) except -1 nogil
