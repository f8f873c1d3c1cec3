"""Who has delivered the barrier, and who has not."""
from libc.stdint cimport int64_t

cdef enum:
    ALIGN_WAIT = 0       # others are missing: block this input
    ALIGN_COMPLETE = 1   # all have delivered it: take the snapshot
    ALIGN_ABANDON = 2    # a newer barrier: unblock everything, the older one is void; then block this input
    ALIGN_STALE = 3      # an older barrier than the one in progress, or than the last completed: ignore


cdef class BarrierAligner:
    cdef readonly int size
    cdef readonly int64_t checkpoint_id      # in progress; 0 = none
    cdef readonly int64_t completed          # last one
    cdef readonly int missing
    cdef bint* arrived

    cdef int on_barrier(self, int input, int64_t checkpoint_id) noexcept nogil
