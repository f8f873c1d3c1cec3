"""See entry_sort.pxd.

Few bytes of keys differ from each other: those of a shard, and the last ones of a number. These bytes make one short number, and a
radix sort of it moves 16 bytes an entry. What is still equal is compared.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp, memcpy

from streamdsl._native.state.rank_sort cimport RankedItem, by_rank
from streamdsl._native.state.write_stream cimport EntryHeader

cdef enum:
    FEW_SORTED = 256           # are sorted by comparing
    RANK_BYTES = 8


cdef int compare_items(const void* left, const void* right) noexcept nogil:
    cdef const SortItem* a = <const SortItem*>left
    cdef const SortItem* b = <const SortItem*>right
    cdef int order
    if a.high != b.high:
        return -1 if a.high < b.high else 1
    if a.low != b.low:
        return -1 if a.low < b.low else 1
    if a.key_size > 16 or b.key_size > 16:
        order = memcmp(a.entry + sizeof(EntryHeader), b.entry + sizeof(EntryHeader), min(a.key_size, b.key_size))
        if order != 0:
            return order
    return (a.key_size > b.key_size) - (a.key_size < b.key_size)


cdef int differing(const SortItem* items, int64_t n, int* shifts) noexcept nogil:
    """Find the bytes in which keys differ, the first ones first; return how many. A shift from 64 on is one of `high`."""
    cdef uint64_t high = 0, low = 0
    cdef int64_t i
    cdef int shift, count = 0
    for i in range(1, n):
        high |= items[i].high ^ items[0].high
        low |= items[i].low ^ items[0].low
    for shift in range(120, -1, -8):
        if (high >> (shift - 64) if shift >= 64 else low >> shift) & 255:
            shifts[count] = shift
            count += 1
    return count


cdef void fill_ranks(RankedItem* ranks, const SortItem* items, int64_t n, const int* shifts, int count) noexcept nogil:
    cdef int64_t i
    cdef int k
    cdef uint64_t rank
    for i in range(n):
        rank = 0
        for k in range(count):
            rank = rank << 8 | ((items[i].high >> (shifts[k] - 64) if shifts[k] >= 64 else items[i].low >> shifts[k]) & 255)
        ranks[i].rank, ranks[i].item = rank, <uint32_t>i


cdef void sort_entries(SortItem* items, int64_t n) noexcept nogil:
    cdef int[16] shifts
    cdef int count = min(differing(items, n, shifts), <int>RANK_BYTES)
    cdef RankedItem* ranks
    cdef RankedItem* sorted_ranks
    cdef SortItem* moved
    cdef int64_t i, end
    ranks = <RankedItem*>malloc(2 * n * sizeof(RankedItem)) if n > FEW_SORTED and count > 0 else NULL
    moved = <SortItem*>malloc(n * sizeof(SortItem)) if ranks != NULL else NULL
    if moved == NULL:
        free(ranks)
        qsort(items, n, sizeof(SortItem), compare_items)
        return
    fill_ranks(ranks, items, n, shifts, count)
    sorted_ranks = by_rank(ranks, ranks + n, n, (<uint64_t>1 << 8 * count) - 1 if count < RANK_BYTES else ~<uint64_t>0)
    for i in range(n):
        moved[i] = items[sorted_ranks[i].item]
    i = 0
    while i < n:
        end = i + 1
        while end < n and sorted_ranks[end].rank == sorted_ranks[i].rank:
            end += 1
        if end - i > 1:
            qsort(moved + i, end - i, sizeof(SortItem), compare_items)
        i = end
    memcpy(items, moved, n * sizeof(SortItem))
    free(moved)
    free(ranks)
