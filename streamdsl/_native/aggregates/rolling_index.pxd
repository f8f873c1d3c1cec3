"""What rolling aggregates keep of a key, and an index over it: partial results of blocks of records.

Records are numbered by arrival. A node of level 0 holds what a block of 64 records adds up to, one of level l + 1 that of 16
nodes below. A frame is put together from few nodes, so a record costs about the logarithm of the frame. Results do not depend
on how it is put together: sums are exact, the rest is a choice among the records. So the index is no part of the stored
state; it is made when a frame gets long.
"""
from libc.stdint cimport int32_t, int64_t, uint64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.aggregates.exact_sum cimport ExactMoments
from streamdsl._native.state.arena cimport Arena

cdef enum:
    BLOCK_BITS = 6
    LEVEL_BITS = 4
    MOST_LEVELS = 7

# How an aggregate's partial results look.
cdef enum Partial:
    PARTIAL_VISIT = 0        # none: every record of the frame is visited (to_list, user's aggregates)
    PARTIAL_COUNT = 1        # int64_t
    PARTIAL_INTEGERS = 2     # int64_t, and a sum in 128 bits
    PARTIAL_SUM = 3          # ExactMoments without squares
    PARTIAL_MOMENTS = 4      # ExactMoments
    PARTIAL_DECIMALS = 5     # int64_t, and a sum in 192 bits
    PARTIAL_FIRST = 6        # the number of a record, -1 = none
    PARTIAL_LAST = 7
    PARTIAL_BEST = 8         # of the greatest (sign = 1) or least value, of equal ones the first
    PARTIAL_TOP = 9          # a count, then so many numbers, best first
    PARTIAL_UNIQUE = 10      # int64_t: records that are the latest of their value

cdef struct Slot:
    Partial partial
    int argument                             # cell of the entry, -1 = none
    int by
    int where
    int rank                                 # the cell that PARTIAL_BEST and PARTIAL_TOP order by
    int rank_kind
    int argument_kind
    int sign
    int64_t top                              # PARTIAL_TOP: at most so many
    int64_t at                               # byte in a node
    int64_t size
    int unique                               # PARTIAL_UNIQUE: which of the maps

cdef struct Level:
    char* nodes                              # a ring: node i at i & (capacity - 1)
    int64_t low                              # nodes [low, high) are there
    int64_t high
    int64_t capacity

# Of a record, for PARTIAL_UNIQUE: the one of the same value before it in time (-1 = none), and whether there is none behind it.
cdef struct Link:
    int64_t before
    int64_t latest

cdef struct Mention:
    uint64_t hash
    int64_t number                           # 1 + the latest record of the value; 0 = free

cdef struct UniqueMap:
    Mention* table                           # open addressing; records that have left stand until it is made anew
    int64_t used
    int64_t capacity
    Link* links                              # a ring
    int64_t links_capacity

cdef struct Index:
    int64_t first                            # number of the ring's oldest record
    int64_t compacted                        # records left when the ring was last compacted
    int n_levels
    Level levels[MOST_LEVELS]
    UniqueMap* maps

# An entry is the record's time (int64_t) and a Cell for each column that some aggregate reads.
cdef struct Ring:
    char* block                              # in the arena, NULL = empty
    int32_t capacity                         # entries, a power of two
    int32_t head                             # the oldest
    int32_t count
    int32_t unsorted                         # a time went back since the ring was last in order
    Index* index                             # NULL = none
    int64_t newest                           # time; no entry is newer (not if it is empty)


cdef inline void count_entry(Ring* ring, int64_t time) noexcept nogil:
    ring.newest = time if ring.count == 0 else max(ring.newest, time)
    ring.count += 1


cdef inline char* entry_at(Ring* ring, int64_t i, int64_t stride) noexcept nogil:
    return ring.block + ((ring.head + i) & (ring.capacity - 1)) * stride


cdef inline int64_t time_at(Ring* ring, int64_t i, int64_t stride) noexcept nogil:
    return (<int64_t*>entry_at(ring, i, stride))[0]


cdef inline bint within(int64_t time, int64_t now, int64_t size_ms) noexcept nogil:
    # now - size < time <= now, without wrapping at the ends of int64.
    return time <= now and <uint64_t>now - <uint64_t>time < <uint64_t>size_ms


cdef class RollingIndex:
    cdef Arena arena
    cdef int64_t stride                      # of an entry
    cdef Slot* slots                         # one for each aggregate
    cdef int n_slots
    cdef int n_maps
    cdef int64_t node_size
    cdef char* total                         # of the frame at hand: a node

    cdef int build(self, Ring* ring) except -1 nogil
    cdef void drop(self, Ring* ring) noexcept nogil
    cdef int added(self, Ring* ring) except -1 nogil                 # the newest entry of the ring
    cdef void leaving(self, Ring* ring) noexcept nogil               # the oldest is about to go
    # Adds up slot `k` of `total` over the entries from `start` on that lie in the frame of `now`; takes `total` as it is.
    cdef int collect(self, Ring* ring, int k, int64_t start, int64_t now, int64_t size_ms) except -1 nogil
    cdef void reset(self, int k) noexcept nogil                      # slot `k` of `total`: empty
    cdef bint takes(self, const Slot* slot, const char* entry) noexcept nogil

    cdef int add(self, Ring* ring, const Slot* slot, char* node, int64_t number) except -1 nogil
    cdef bint exceeds(self, const Slot* slot, const Cell* one, const Cell* other) noexcept nogil
    cdef int merge(self, Ring* ring, const Slot* slot, char* node, const char* other) except -1 nogil
    cdef int offer(self, Ring* ring, const Slot* slot, int64_t* top, int64_t number) noexcept nogil
    cdef char* entry(self, Ring* ring, int64_t number) noexcept nogil
    cdef int push(self, Level* level) except -1 nogil
    cdef char* node(self, Level* level, int64_t i) noexcept nogil
    cdef int note(self, Ring* ring, const Slot* slot, int64_t number) except -1 nogil
    cdef void mark(self, Ring* ring, const Slot* slot, int64_t number, int64_t by) noexcept nogil
    cdef Mention* mention(self, Ring* ring, const Slot* slot, UniqueMap* map, const char* entry, uint64_t hash) noexcept nogil
    cdef int grow_map(self, Ring* ring, UniqueMap* map) except -1 nogil
    cdef int grow_links(self, Ring* ring, UniqueMap* map) except -1 nogil
    cdef int visit(self, Ring* ring, const Slot* slot, int64_t number, int64_t now, int64_t size_ms) except -1 nogil
    cdef int complete(self, Ring* ring, int level, int64_t i) except -1 nogil
    cdef bint same(self, const Slot* slot, const char* one, const char* other) noexcept nogil
