"""A source task whose bounded splits are read in event-time order with those of all others."""
from libc.stdint cimport int64_t

from streamdsl._native.task.source_task cimport SourceTask
from streamdsl._native.task.split cimport Split


cdef class OrderedSourceTask(SourceTask):
    cdef int reader                          # its place in the order
    cdef bint exact                          # tasks behind it put rows of several sources in order
    cdef bint left                           # it takes no part any more: its records have no time
    cdef bint waits                          # it has no offers, because others are read first
    cdef bint offered                        # all its splits have said what they can emit next
    cdef bint any_idle
    cdef int64_t joined                      # the last round whose rows it has emitted
    cdef int part_at                         # next split to emit rows in this round; 0: it has not begun

    cdef int wait(self) except -1 nogil      # says so in the order
    cdef int make_offers(self) except -1 nogil
    cdef bint make_offer(self, Split split) noexcept nogil
    cdef int emit_part(self) except -1 nogil
