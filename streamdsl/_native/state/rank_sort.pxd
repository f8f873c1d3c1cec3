"""Sorts what is told apart by a number: deadlines and entries of the database, by the bytes in which they differ."""
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef struct RankedItem:
    uint64_t rank              # among the others, as far as the first bytes in which they differ tell
    uint32_t item

# Sorts by ranks, of which `most` is the greatest there may be. `other` has room for n, too; the result is in one of the two.
cdef RankedItem* by_rank(RankedItem* ranks, RankedItem* other, int64_t n, uint64_t most) noexcept nogil
