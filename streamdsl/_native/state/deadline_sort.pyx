"""See deadline_sort.pxd.

Many deadlines share a time and a number, and keys are often digits: most bytes of an item say nothing. Each byte in which items
differ is replaced by the place of its value among those that occur. These digits make one number, which is short; a radix sort of
it moves 16 bytes an item. Items that are still equal are compared.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.state.deadline_key cimport key_order, key_part
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.rank_sort cimport by_rank
from streamdsl._native.state.row_table cimport RowHeader

cdef enum:
    FEW_SORTED = 64            # are sorted by comparing
    FEW_MOVED = 12             # the same by moving each to its place
    MOST_DIGITS = 32           # bytes of an item that it is sorted by
    ENOUGH = 16                # times as many ranks as items: few are equal then
    MOST_ALIKE = 32            # items of one time and number that are sorted by moving each to its place
    AHEAD = 16                 # items whose rows are fetched before they are looked at
    SAMPLE = 256               # keys that tell how all begin, most likely
    FEW_COMMON = 8             # bytes that keys begin with alike: so many may be looked at


# A byte of the items that counts.
cdef struct Digit:
    int part                   # 3: of the time, 2: of the number, 1 and 0: of the key
    int shift
    uint64_t values            # that occur
    uint64_t[256] place        # of each among them; then what it adds to the rank


# 16 bytes of a key behind what all begin with; it stands where the ranks will be sorted.
cdef struct KeyPart:
    uint64_t[2] parts          # the last ones first


cdef inline uint64_t part_of(const SlotDeadline* item, const KeyPart* key, int part) noexcept nogil:
    if part == 3:
        return <uint64_t>item.time ^ (<uint64_t>1 << 63)
    return <uint64_t>item.id ^ (<uint64_t>1 << 63) if part == 2 else key.parts[part]


cdef int order_of(const SlotDeadline* left, const SlotDeadline* right, RowTable keys) noexcept nogil:
    cdef const RowHeader* a
    cdef const RowHeader* b
    if left.time != right.time:
        return -1 if left.time < right.time else 1
    if left.id != right.id:
        return -1 if left.id < right.id else 1
    if left.begins != right.begins:
        return -1 if left.begins < right.begins else 1
    if PLANTED("long-keys-unsorted"):
        return 0
    a, b = keys.header(left.slot), keys.header(right.slot)
    return key_order(a.key, a.key_size, b.key, b.key_size)


cdef int64_t common(const SlotDeadline* items, int64_t n, RowTable keys) noexcept nogil:
    """Return how many bytes all keys begin with alike, 0 if there are few."""
    cdef const RowHeader* first = keys.header(items[0].slot)
    cdef const RowHeader* header
    cdef int64_t size = first.key_size, i
    for i in range(1, n):
        if size <= FEW_COMMON:
            return 0
        if i + AHEAD < n:
            prefetch(keys.header(items[i + AHEAD].slot).key)
        header = keys.header(items[i].slot)
        size = min(size, <int64_t>header.key_size)
        while memcmp(first.key, header.key, size) != 0:
            size -= 1
    return size


cdef void read_keys(const SlotDeadline* items, KeyPart* parts, int64_t n, RowTable keys) noexcept nogil:
    cdef int64_t i = 0, alike = common(items, min(n, <int64_t>SAMPLE), keys)
    cdef const RowHeader* first = keys.header(items[0].slot)
    cdef const RowHeader* header
    while i < n:
        if i + 2 * AHEAD < n:
            prefetch(keys.header(items[i + 2 * AHEAD].slot))
        if i + AHEAD < n:
            prefetch(keys.header(items[i + AHEAD].slot).key)
        header = keys.header(items[i].slot)
        if header.key_size < alike or (alike > 0 and memcmp(first.key, header.key, alike) != 0):
            alike = common(items, n, keys)   # the sample was of a kind
            i = 0
            continue
        parts[i].parts[1] = key_part(header.key, header.key_size, alike)
        parts[i].parts[0] = key_part(header.key, header.key_size, alike + 8)
        i += 1


cdef int find_digits(const SlotDeadline* items, const KeyPart* keys, int64_t n, Digit* digits) noexcept nogil:
    """Find the first bytes in which items differ, until they tell most of them apart; return how many."""
    cdef uint64_t part, differ, kinds = 1
    cdef int64_t i
    cdef int count = 0, first, at, d, value
    for at in range(3, -1, -1):
        first = count
        differ = 0
        part = part_of(&items[0], &keys[0], at)
        for i in range(1, n):
            differ |= part_of(&items[i], &keys[i], at) ^ part
        for d in range(56, -1, -8):
            if differ >> d & 255:
                memset(&digits[count], 0, sizeof(Digit))
                digits[count].part, digits[count].shift = at, d
                count += 1
        if first == count:
            continue
        for i in range(n):
            part = part_of(&items[i], &keys[i], at)
            for d in range(first, count):
                digits[d].place[part >> digits[d].shift & 255] = 1
        for d in range(first, count):
            for value in range(256):
                if digits[d].place[value]:
                    digits[d].place[value] = digits[d].values
                    digits[d].values += 1
            kinds *= digits[d].values
            if kinds >= <uint64_t>ENOUGH * <uint64_t>n:
                return d + 1
    return count


cdef bint tell_apart(const Digit* digits, int count, int64_t n) noexcept nogil:
    """Whether few items are equal in these bytes."""
    cdef uint64_t kinds = 1
    cdef int d
    for d in range(count):
        kinds *= digits[d].values
        if kinds >= <uint64_t>ENOUGH * <uint64_t>n:
            return True
    return False


cdef void by_order(RankedItem* ranks, RankedItem* other, int64_t n, const SlotDeadline* items, RowTable keys) noexcept nogil:
    """Sort what is equal as far as ranks tell (a merge sort)."""
    cdef int64_t i, at, half = n >> 1, left = 0, right = n >> 1
    cdef RankedItem moved
    if n <= FEW_MOVED:
        for i in range(1, n):
            moved = ranks[i]
            at = i
            while at > 0 and order_of(&items[moved.item], &items[ranks[at - 1].item], keys) < 0:
                ranks[at] = ranks[at - 1]
                at -= 1
            ranks[at] = moved
        return
    by_order(ranks, other, half, items, keys)
    by_order(ranks + half, other, n - half, items, keys)
    memcpy(other, ranks, half * sizeof(RankedItem))
    for i in range(n):
        if left < half and (right == n or order_of(&items[ranks[right].item], &items[other[left].item], keys) >= 0):
            ranks[i] = other[left]
            left += 1
        else:
            ranks[i] = ranks[right]
            right += 1


cdef void place(SlotDeadline* items, const RankedItem* ranks, SlotDeadline* room, int64_t n) noexcept nogil:
    """Move each item to its place. Many are on their way from memory at once: none says where the next one is."""
    cdef int64_t i
    for i in range(n):
        if i + AHEAD < n:
            prefetch(&items[ranks[i + AHEAD].item])
        room[i] = items[ranks[i].item]
    memcpy(items, room, n * sizeof(SlotDeadline))


cdef bint in_order(const SlotDeadline* items, int64_t n, RowTable keys) noexcept nogil:
    """Whether they are sorted: as they are where windows that end together are filed when those before them close."""
    cdef int64_t i
    for i in range(1, n):
        if order_of(&items[i - 1], &items[i], keys) > 0:
            return False
    return True


cdef bint few_alike(const SlotDeadline* items, int64_t n) noexcept nogil:
    """Whether times and numbers stand in order, and few items have the same: as they come where records come in order."""
    cdef int64_t i, first = 0
    for i in range(1, n):
        if items[i].time == items[i - 1].time and items[i].id == items[i - 1].id:
            if i - first == MOST_ALIKE:
                return False
        elif items[i].time < items[i - 1].time or (items[i].time == items[i - 1].time and items[i].id < items[i - 1].id):
            return False
        else:
            first = i
    return True


cdef void sort_alike(SlotDeadline* items, int64_t n, RowTable keys) noexcept nogil:
    """Sort items of one time and number, MOST_ALIKE at most."""
    cdef SlotDeadline moved
    cdef int64_t i, at
    for i in range(1, n):
        moved = items[i]
        at = i
        while at > 0 and order_of(&moved, &items[at - 1], keys) < 0:
            items[at] = items[at - 1]
            at -= 1
        items[at] = moved


cdef void sort_each_time(SlotDeadline* items, int64_t n, RowTable keys) noexcept nogil:
    cdef int64_t i, first = 0
    for i in range(1, n + 1):
        if i == n or items[i].time != items[first].time or items[i].id != items[first].id:
            sort_alike(items + first, i - first, keys)
            first = i


cdef void sort_deadlines(SlotDeadline* items, RankedItem* scratch, int64_t n, RowTable keys) noexcept nogil:
    cdef Digit[MOST_DIGITS] digits
    cdef KeyPart* parts = <KeyPart*>(scratch + n)
    cdef RankedItem* ranks = scratch
    cdef uint64_t[4] of_item
    cdef RankedItem* other
    cdef int64_t i, end
    cdef uint64_t rank, kinds = 1
    cdef int count = 0, d, value
    if few_alike(items, n):
        sort_each_time(items, n, keys)
        return
    if in_order(items, n, keys):
        return
    CHECK(sizeof(RankedItem) + max(sizeof(SlotDeadline), sizeof(RankedItem)) <= SORT_BYTES, "what is sorted has room")
    if n > FEW_SORTED:
        # The bytes that keys begin with are at hand; all of a key costs a look at its row.
        for i in range(n):
            parts[i].parts[1], parts[i].parts[0] = items[i].begins, 0
        count = find_digits(items, parts, n, digits)
        if not tell_apart(digits, count, n):
            read_keys(items, parts, n, keys)
            count = find_digits(items, parts, n, digits)
    for d in range(count - 1, -1, -1):       # the last digit counts least
        for value in range(256):
            digits[d].place[value] *= kinds
        kinds *= digits[d].values
    for i in range(n):
        rank = 0
        for d in range(4):
            of_item[d] = part_of(&items[i], &parts[i], d)
        for d in range(count):
            rank += digits[d].place[of_item[digits[d].part] >> digits[d].shift & 255]
        ranks[i].rank, ranks[i].item = rank, <uint32_t>i
    if count > 0:
        ranks = by_rank(ranks, ranks + n, n, kinds - 1)
    other = scratch + n if ranks == scratch else scratch
    i = 0
    while i < n:
        end = i + 1
        while end < n and ranks[end].rank == ranks[i].rank:
            end += 1
        if end - i > 1:
            by_order(ranks + i, other, end - i, items, keys)
        i = end
    if ranks != scratch:
        memcpy(scratch, ranks, n * sizeof(RankedItem))
    place(items, scratch, <SlotDeadline*>(scratch + n), n)
