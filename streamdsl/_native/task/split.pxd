"""One split of a source, as its task reads it."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.event_time.watermark_generator cimport WatermarkGenerator
from streamdsl._native.flow.batch cimport Batch


cdef enum:
    IDLE_LOOK_MS = 1000                      # how often it is looked whether a split that is idle has fallen behind


cdef class Split:
    cdef readonly str name
    cdef int index                           # in the task; the valve's input
    cdef object reader
    cdef bint apart                          # another feed than that of its task brings its rows, or none
    cdef bint due                            # it is to be read: its feed has said so, or it was not read for a while
    cdef object chunk                        # connectors.base.Chunk being handed on
    cdef Batch* rows                         # the chunk's rows, native
    cdef int32_t at                          # next row
    cdef tuple rejected                      # the chunk's bad records, in order
    cdef int n_rejected                      # of them: handled so far
    cdef char* bad                           # 1 for rows that are left out; NULL: none
    cdef WatermarkGenerator generator
    cdef bint goes_on                        # it was being read before a restore
    cdef int64_t reached                     # ms: the watermark that its task had then
    cdef readonly bint ended
    cdef bint idle
    cdef int64_t dry_since_ms                # monotonic; -1: not dry
    cdef int64_t looked_at_ms                # monotonic; when it was asked last whether it has been read to its end
    cdef object position                     # where the next chunk starts
    cdef object committed                    # the position of the last checkpoint that its reader was told of
    cdef readonly int64_t taken              # rows
    cdef int slot                            # in the order of reading; -1: it takes no part
    cdef int64_t offered                     # rows that it can emit in the next round; 0: not known yet
    cdef int number                          # among all splits of the source

    cdef int on_committed(self, object position) except -1
    cdef int take(self, object chunk, Batch* rows) except -1
    cdef int reject_rows(self, object spec, object times, int64_t limit, dict nulls) except -1
    cdef object rejected_as(self, object spec, object times, int64_t row, str reason)
