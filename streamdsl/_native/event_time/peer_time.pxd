"""How far tasks that share no channel are in event time: one that has nothing to read goes by the others."""
from libc.stdint cimport int64_t

cdef enum:
    PEER_ACTIVE = 0
    PEER_IDLE = 1
    PEER_ENDED = 2


cdef class PeerTime:
    cdef int size
    cdef int64_t* watermarks                 # ms, by task; each is written by its task alone
    cdef int64_t* states                     # PEER_*

    cdef void tell(self, int task, int64_t watermark, int state) noexcept nogil
    cdef int64_t reached(self, int task) noexcept nogil      # by the others: where an exchange would have them all arrive
