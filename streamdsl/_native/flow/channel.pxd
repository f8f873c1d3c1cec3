"""A bounded queue of stream elements between two tasks."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch

cdef enum:
    RECORDS = 1      # batch
    WATERMARK = 2    # value: ms
    STATUS = 3       # value: 1 = idle, 0 = active
    BARRIER = 4      # value: checkpoint id
    END = 5          # the watermark is at its maximum and no record follows

cdef struct StreamElement:
    int kind
    int64_t value
    int64_t round    # of event time, in which it was made; 0: none, it is read at once
    int part         # of the round: rows of one part are in order
    Batch* batch     # owned by the element


cdef class Channel:
    cdef readonly str name
    cdef void* lock
    cdef StreamElement* ring
    cdef int64_t capacity                    # allocated entries
    cdef int64_t head
    cdef int64_t count                       # atomic: read without the lock to see whether anything waits
    cdef int64_t records                     # RECORDS elements waiting
    cdef int64_t max_records

    # 1: taken (the channel owns the batch now); 0: full, nothing happened.
    cdef int offer(self, StreamElement* element) except -1 nogil
    cdef bint _grow(self) noexcept nogil
    cdef int64_t head_round(self) noexcept nogil                             # of the element that comes next; INT64_MAX: there is none
    cdef int poll(self, StreamElement* element) except -1 nogil              # 1: element filled, 0: empty
