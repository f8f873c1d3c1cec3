"""How many rows a source may hand on at a time, so that user code behind it is through with them soon."""
from libc.stdint cimport int64_t

cdef enum:
    PACE_NS = 20000000       # user code is given rows for so long at a time
    PACED_ROWS = 256         # at most, where each row is a call: one that becomes slow all at once ends with these
    FREE_ROWS = 1048576      # no limit, as batches have theirs


cdef class Pace:
    """Shared by the tasks of one source and the tasks with user code behind it, each with a number of its own."""
    cdef int64_t* rows                       # of each: what it is through with in PACE_NS, atomic; 0: not known yet
    cdef int n
    cdef int64_t most                        # PACED_ROWS if a row is a call somewhere, else FREE_ROWS

    cdef void tell(self, int member, int64_t rows) noexcept nogil
    # The least of what is known; 0 if nothing is. `all_known`: whether every member has told.
    cdef int64_t least(self, bint* all_known) noexcept nogil
