"""See murmur2.pxd."""
from libc.string cimport memcpy

cdef enum:
    MULTIPLIER = 0x5BD1E995


cdef uint32_t murmur2(const char* data, int32_t size) noexcept nogil:
    cdef uint32_t hash = <uint32_t>0x9747B28C ^ <uint32_t>size
    cdef uint32_t k
    cdef const unsigned char* tail
    cdef int32_t at = 0
    while at + 4 <= size:
        memcpy(&k, data + at, 4)             # little-endian, as Java's version assembles it
        k *= <uint32_t>MULTIPLIER
        k ^= k >> 24
        k *= <uint32_t>MULTIPLIER
        hash = hash * <uint32_t>MULTIPLIER ^ k
        at += 4
    tail = <const unsigned char*>(data + at)
    if size - at == 3:
        hash ^= <uint32_t>tail[2] << 16
    if size - at >= 2:
        hash ^= <uint32_t>tail[1] << 8
    if size - at >= 1:
        hash ^= tail[0]
        hash *= <uint32_t>MULTIPLIER
    hash ^= hash >> 13
    hash *= <uint32_t>MULTIPLIER
    hash ^= hash >> 15
    return hash


cdef uint16_t shard_of(const char* key, int32_t size, int shards) noexcept nogil:
    return <uint16_t>((murmur2(key, size) & 0x7FFFFFFF) % <uint32_t>shards)


def hash_key(bytes key not None):
    """Return murmur2 of the key as Kafka's Java client does: a signed 32-bit integer."""
    return <int32_t>murmur2(key, <int32_t>len(key))


def shard_of_key(bytes key not None, int shards):
    """Return the shard of a key, 0 <= shard < shards."""
    return shard_of(key, <int32_t>len(key), shards)
