"""See cold_filter.pxd."""
from libc.stdlib cimport calloc, free

cdef enum:
    FIRST_BLOCKS = 2           # 128 bytes: a small store pays little
    KEYS_A_BLOCK = 48          # 512 bits for 48 keys: about one absent key in a hundred is asked for, by each layer
    SMALL_BLOCKS = 1 << 13     # smaller layers, of which there are many, ask for one in a thousand each
    KEYS_A_SMALL_BLOCK = 32
    MOST_LAYERS = 24
    BITS = 6                   # set for each key


cdef inline uint64_t spread(uint64_t hash) noexcept nogil:
    # The index takes the low bits of the hash: what is used here must not depend on them alone.
    hash ^= hash >> 32
    hash *= <uint64_t>0xD6E8FEB86659FD93
    return hash ^ (hash >> 32)


cdef inline uint64_t bits_of(uint64_t spread_hash) noexcept nogil:
    return (spread_hash * <uint64_t>0x9E3779B97F4A7C15) >> 10      # 54 bits: 9 for each of the six


cdef bint layer_has(const FilterLayer* layer, uint64_t spread_hash) noexcept nogil:
    cdef const uint64_t* block = layer.blocks + ((spread_hash & layer.mask) << 3)
    cdef uint64_t bits = bits_of(spread_hash)
    cdef int _
    for _ in range(BITS):
        if not block[(bits >> 6) & 7] >> (bits & 63) & 1:
            return False
        bits >>= 9
    return True


cdef bint filter_has(const ColdFilter* filter, uint64_t hash) noexcept nogil:
    cdef int i
    if filter.everything:
        return True
    hash = spread(hash)
    for i in range(filter.n_layers - 1, -1, -1):     # the largest first
        if layer_has(&filter.layers[i], hash):
            return True
    return False


cdef bint add_layer(ColdFilter* filter) noexcept nogil:
    cdef int64_t blocks = <int64_t>FIRST_BLOCKS << filter.n_layers
    cdef FilterLayer* layer
    if filter.n_layers == MOST_LAYERS:
        return False
    layer = &filter.layers[filter.n_layers]
    layer.blocks = <uint64_t*>calloc(blocks, 64)
    if layer.blocks == NULL:
        return False
    layer.mask = blocks - 1
    layer.added = 0
    layer.room = blocks * (KEYS_A_BLOCK if blocks >= SMALL_BLOCKS else KEYS_A_SMALL_BLOCK)
    filter.n_layers += 1
    return True


cdef void filter_add(ColdFilter* filter, uint64_t hash) noexcept nogil:
    cdef FilterLayer* layer = &filter.layers[max(filter.n_layers, 1) - 1]
    cdef uint64_t* block
    cdef uint64_t bits
    cdef int _
    if filter_has(filter, hash):
        return
    if filter.n_layers == 0 or layer.added == layer.room:
        if not add_layer(filter):
            filter.everything = True
            return
        layer = &filter.layers[filter.n_layers - 1]
    hash = spread(hash)
    block = layer.blocks + ((hash & layer.mask) << 3)
    bits = bits_of(hash)
    for _ in range(BITS):
        block[(bits >> 6) & 7] |= <uint64_t>1 << (bits & 63)
        bits >>= 9
    layer.added += 1


cdef void filter_clear(ColdFilter* filter) noexcept nogil:
    cdef int i
    for i in range(filter.n_layers):
        free(filter.layers[i].blocks)
    filter.n_layers = 0
    filter.everything = False


cdef int64_t filter_bytes(const ColdFilter* filter) noexcept nogil:
    cdef int i
    cdef int64_t size = 0
    for i in range(filter.n_layers):
        size += <int64_t>(filter.layers[i].mask + 1) * 64
    return size
