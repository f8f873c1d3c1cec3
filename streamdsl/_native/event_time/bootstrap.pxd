"""Sources that are read to their end before the others of a job begin."""
from libc.stdint cimport int64_t


cdef class Bootstrap:
    cdef int64_t behind                      # atomic: tasks of such sources that have not been read to their end yet

    cdef bint over(self) noexcept nogil
    cdef void read(self) noexcept nogil      # one more task has been
