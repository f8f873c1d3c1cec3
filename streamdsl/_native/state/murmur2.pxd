"""Kafka's murmur2: the hash that its Java client partitions by, and the one that names a key's shard."""
from libc.stdint cimport int32_t, uint16_t, uint32_t

cdef uint32_t murmur2(const char* data, int32_t size) noexcept nogil
cdef uint16_t shard_of(const char* key, int32_t size, int shards) noexcept nogil     # (murmur2 & 0x7fffffff) mod shards
