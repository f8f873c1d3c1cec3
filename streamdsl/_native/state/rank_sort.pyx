"""See rank_sort.pxd. A radix sort: it moves 16 bytes an item, as often as the greatest rank has eleven bits."""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

cdef enum:
    RADIX_BITS = 11            # of a rank, looked at together
    MOST_ROUNDS = 6            # for all bits


cdef RankedItem* by_rank(RankedItem* ranks, RankedItem* other, int64_t n, uint64_t most) noexcept nogil:
    """Sort by ranks, of which `most` is the greatest there may be: their last bits first. Return where the result is."""
    cdef int64_t[MOST_ROUNDS][1 << RADIX_BITS] starts
    cdef int64_t i, at, next, value
    cdef int bits = 0, width, round, rounds
    cdef uint64_t mask, rank
    cdef RankedItem* swapped
    while bits < 64 and most >> bits:
        bits += 1
    rounds = (bits + RADIX_BITS - 1) // RADIX_BITS
    width = (bits + rounds - 1) // rounds if rounds > 0 else 0
    mask = (<uint64_t>1 << width) - 1
    memset(starts, 0, rounds * sizeof(starts[0]))
    for i in range(n):
        rank = ranks[i].rank
        for round in range(rounds):
            starts[round][rank & mask] += 1
            rank >>= width
    for round in range(rounds):
        at = 0
        for value in range(<int64_t>mask + 1):
            next = at + starts[round][value]
            starts[round][value] = at
            at = next
        for i in range(n):
            value = <int64_t>(ranks[i].rank >> (round * width) & mask)
            other[starts[round][value]] = ranks[i]
            starts[round][value] += 1
        swapped = ranks
        ranks = other
        other = swapped
    return ranks
