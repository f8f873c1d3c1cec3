"""The reading end of a write stream: runs of entries between two MARKs, sorted, the last version of each key."""
from libc.stdint cimport int64_t, uint64_t

from streamdsl._native.state.write_stream cimport ByteWriter, WriteStream


cdef struct SortItem:
    uint64_t high                            # the first 16 bytes of the key, big-endian: most comparisons end here
    uint64_t low
    const char* entry                        # in the taken buffer; a later address is a later entry


cdef class StreamReader:
    cdef readonly WriteStream stream
    cdef ByteWriter taken
    cdef int64_t at                          # offset of the run's first entry
    cdef int64_t run_end                     # offset behind the run; == at: no run is prepared
    cdef SortItem* run
    cdef int64_t run_capacity
    cdef int64_t n_run
    cdef int64_t run_at                      # items handed out and confirmed
    cdef int64_t offered                     # items handed out by the last peek

    cdef int prepare(self) except -1 nogil
    cdef int finish_run(self) noexcept nogil
