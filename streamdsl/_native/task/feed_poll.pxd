"""Which splits of a task are to be read: one feed that brings the rows of all of them is asked once."""
from libc.stdint cimport int64_t


cdef class FeedPoll:
    cdef str source                          # its name
    cdef list splits
    cdef void** refs                         # the same
    cdef int n
    cdef dict split_of                       # {name: Split}
    cdef object feed                         # connectors.base.SplitFeed of all splits that are not `apart`; None: there is none
    cdef int n_apart                         # splits that have not ended and are apart: while there are any, each split is asked
    cdef bint quiet                          # no split is due, and none holds rows: they need not be looked at
    cdef object names                        # of the splits that the feed has named
    cdef bint several                        # it has just named more than one
    cdef int64_t poll_at_ns                  # when the feed is asked again
    cdef int64_t rows                        # that have come since it was asked
    cdef int64_t pass_ns                     # how often all splits are asked
    cdef int64_t pass_at_ns
    cdef int64_t sure_at_ns                  # when the feed is asked next which idle splits are to be looked at

    cdef bint asks_all(self) noexcept nogil
    cdef bint look(self, int64_t now_ns) except -1 nogil     # set `due` of the splits to be read; whether there are any
    cdef object read_together(self, int64_t limit)           # connectors.base.Together of those it has named, or None
    cdef bint mark_all(self, int64_t now_ns) except -1 nogil
