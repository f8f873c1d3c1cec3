"""See cold_scan.pxd.

The shards of a task are scanned side by side and merged. The scans stay open from one call to the next, and show the
database as it was when they began: a row that is in memory by then is the newer one, and so is one whose delete is on
its way. What has been read and removed meanwhile stands behind, where nothing is read again.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int32_t
from libc.string cimport memcmp

from streamdsl._native.state.key_hash cimport hash_bytes
from streamdsl._native.state.key_table cimport database_key

from heapq import merge


cdef ColdScan open_scan(KeyTable table, bytes prefix, bytes start):
    cdef int shard
    # A scan begins behind a key; what stands between that and `start` is in memory, or nowhere.
    cdef bytes before = b"" if start is None else start[:len(start) - 1]
    cdef ColdScan scan = ColdScan.__new__(ColdScan)
    scan.table = table
    scan.rows = merge(*[
        table.backend.scan(database_key(shard, table.id, prefix, <int32_t>len(prefix)),
                           database_key(shard, table.id, before, <int32_t>len(before)) if before else b"")
        for shard in range(table.shards) if table.cold_shards[shard] > 0 or table.any_cold
    ], key=behind_shard)
    scan.step()
    return scan


def behind_shard(pair):
    """Sort key: the row's own key."""
    return pair[0][FILED:]


cdef class ColdScan:
    """Made by `open_scan`."""

    cdef int64_t read(self, int64_t most, const char* limit, int64_t limit_size, bint exclusive) except -1:
        cdef const char* key
        cdef int32_t size
        cdef int64_t n = 0
        cdef int order
        while n < most and self.next_key is not None:
            key = PyBytes_AS_STRING(self.next_key) + FILED
            size = <int32_t>(len(self.next_key) - FILED)
            if limit != NULL:
                order = memcmp(key, limit, min(<int64_t>size, limit_size))
                if order > 0 or (order == 0 and (size > limit_size or (exclusive and size == limit_size))):
                    break
            if self.table.find_hashed(key, size, hash_bytes(key, size, self.table.seed)) < 0:
                self.table.take_back(self.next_key, self.next_value, not self.table.any_cold)
                self.last = self.next_key[FILED:]
                n += 1
            self.step()
        return n

    cdef int step(self) except -1:
        self.next_key, self.next_value = next(self.rows, (None, None))
        return 0
