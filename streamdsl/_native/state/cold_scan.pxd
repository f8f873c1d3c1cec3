"""The cold rows of a table whose keys begin alike, in the order of their keys, brought back a few at a time."""
from libc.stdint cimport int64_t

from streamdsl._native.state.key_table cimport KeyTable

cdef enum:
    FILED = 4                                # bytes in front of a key in the database: shard and table


cdef class ColdScan:
    cdef KeyTable table
    cdef object rows                         # (database key, value) of all shards, merged
    cdef bytes next_key                      # of the row that stands next, None: there is none
    cdef bytes next_value
    cdef readonly bytes last                 # key of the last row read, without shard and table; None: none was read

    # Brings so many rows back at most, and none behind the key `limit` (NULL: no limit), nor that one if `exclusive`; returns how many.
    cdef int64_t read(self, int64_t most, const char* limit, int64_t limit_size, bint exclusive) except -1
    cdef int step(self) except -1

# From the key `start` on, in front of which nothing is cold; None: from the first key. What becomes cold while the scan is open need
# not be found: such rows have to be kept in memory (RowHeader.held).
cdef ColdScan open_scan(KeyTable table, bytes prefix, bytes start)
