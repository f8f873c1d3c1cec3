"""See deadline_sort.pxd."""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset

from streamdsl._native.state.deadline_key cimport big_endian, key_order
from streamdsl._native.state.row_table cimport RowHeader

cdef enum:
    FEW_SORTED = 256           # are sorted by comparing
    DIGITS = 32                # bytes of an item that it is sorted by


cdef uint64_t part_at(const RowHeader* header, int64_t offset) noexcept nogil:
    cdef char[8] padded
    cdef int64_t left = header.key_size - offset
    if left >= 8:
        return big_endian(header.key + offset)
    (<uint64_t*>padded)[0] = 0
    if left > 0:
        memcpy(padded, header.key + offset, left)
    return big_endian(padded)


cdef int by_parts(const void* left, const void* right) noexcept nogil:
    cdef const SortedItem* a = <const SortedItem*>left
    cdef const SortedItem* b = <const SortedItem*>right
    cdef int i
    for i in range(3, -1, -1):
        if a.parts[i] != b.parts[i]:
            return -1 if a.parts[i] < b.parts[i] else 1
    return key_order(a.header.key, a.header.key_size, b.header.key, b.header.key_size)


cdef SortedItem* by_digits(SortedItem* items, SortedItem* other, int64_t n, uint64_t* looked_at) noexcept nogil:
    """Sort by some bytes of the parts, the last of them first (a radix sort), and return where the result is.

    These are so many of the first ones in which items differ that few items are equal in all of them; `looked_at` masks them.
    """
    cdef int64_t[DIGITS][256] counts
    cdef int64_t i, at, next, values
    cdef double kinds = 1
    cdef int digit, value, last = 0
    cdef SortedItem* swapped
    cdef uint8_t* bytes
    memset(counts, 0, sizeof(counts))
    for i in range(n):
        bytes = <uint8_t*>items[i].parts
        for digit in range(DIGITS):
            counts[digit][bytes[digit]] += 1
    for digit in range(DIGITS - 1, -1, -1):  # numbers are little-endian: their first byte stands last
        if kinds > 16.0 * n:
            last = digit + 1
            break
        values = 0
        for value in range(256):
            values += counts[digit][value] > 0
        kinds *= values
        (<uint8_t*>looked_at)[digit] = 255
    for digit in range(last, DIGITS):
        if counts[digit][(<uint8_t*>items[0].parts)[digit]] == n:
            continue
        at = 0
        for value in range(256):
            next = at + counts[digit][value]
            counts[digit][value] = at
            at = next
        for i in range(n):
            value = (<uint8_t*>items[i].parts)[digit]
            other[counts[digit][value]] = items[i]
            counts[digit][value] += 1
        swapped = items
        items = other
        other = swapped
    return items


cdef inline bint same_digits(const SortedItem* a, const SortedItem* b, const uint64_t* looked_at) noexcept nogil:
    cdef int i
    for i in range(4):
        if (a.parts[i] ^ b.parts[i]) & looked_at[i]:
            return False
    return True


cdef SortedItem* sorted_items(SortedItem* rows, int64_t n) noexcept nogil:
    cdef uint64_t[4] looked_at
    cdef int64_t i = 0, end
    memset(looked_at, 0, sizeof(looked_at))
    if n > FEW_SORTED:
        rows = by_digits(rows, rows + n, n, looked_at)
    while i < n:                         # what is equal in what has been looked at
        end = i + 1
        while end < n and same_digits(&rows[i], &rows[end], looked_at):
            end += 1
        if end - i > 1:
            qsort(rows + i, end - i, sizeof(SortedItem), by_parts)
        i = end
    return rows
