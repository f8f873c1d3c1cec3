"""See cold_deadlines.pxd.

The bound says where to read on; the groups say where nothing is to be read, though many rows that are hot may
stand there in the database.
"""
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from streamdsl._native.includes.checked cimport CHECK, CHECKED_BUILD, PLANTED
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, deadline_in, key_order, put_deadline

cdef enum:
    FIRST_SHIFT = 16           # a group is about a minute at first
    LAST_SHIFT = 62
    MOST_GROUPS = 1024
    FEW_GROUPS = 4             # in the checked build, whose groups begin with FEW_BITS
    FEW_BITS = 4


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for deadlines")


cdef int64_t most_groups() noexcept nogil:
    return FEW_GROUPS if CHECKED_BUILD else MOST_GROUPS


cdef void cold_init(ColdDeadlines* cold) noexcept nogil:
    cold.shift = FEW_BITS if CHECKED_BUILD else FIRST_SHIFT


cdef void cold_free(ColdDeadlines* cold) noexcept nogil:
    free(cold.groups)
    free(cold.bound)


cdef int64_t cold_memory(const ColdDeadlines* cold) noexcept nogil:
    return cold.capacity * sizeof(ColdGroup) + cold.bound_capacity


cdef int64_t find_group(const ColdDeadlines* cold, int64_t number) noexcept nogil:
    cdef int64_t low = 0, high = cold.n_groups, middle
    while low < high:
        middle = (low + high) >> 1
        if cold.groups[middle].number < number:
            low = middle + 1
        else:
            high = middle
    return low


cdef int64_t start_of(const ColdDeadlines* cold, int64_t number) noexcept nogil:
    return number * (<int64_t>1 << cold.shift)     # a negative number may not be shifted


cdef void widen(ColdDeadlines* cold) noexcept nogil:
    """Drop what is empty, and unite neighbours until half of the places are free."""
    cdef int64_t i, n, number, by = 0
    while True:
        n = 0
        for i in range(cold.n_groups):
            number = cold.groups[i].number >> by
            if cold.groups[i].n == 0:
                continue
            if n > 0 and cold.groups[n - 1].number == number:
                cold.groups[n - 1].n += cold.groups[i].n
                continue
            cold.groups[n].n = cold.groups[i].n
            cold.groups[n].number = number
            n += 1
        cold.n_groups = n
        cold.shift += <int>by
        if n <= most_groups() >> 1 or cold.shift == LAST_SHIFT:
            return
        by = 1


cdef ColdGroup* group_of(ColdDeadlines* cold, int64_t time) except NULL nogil:
    cdef ColdGroup* more
    cdef int64_t at = find_group(cold, time >> cold.shift)
    if at < cold.n_groups and cold.groups[at].number == time >> cold.shift:
        return &cold.groups[at]
    if cold.n_groups >= most_groups():
        widen(cold)
        at = find_group(cold, time >> cold.shift)
        if at < cold.n_groups and cold.groups[at].number == time >> cold.shift:
            return &cold.groups[at]
    if cold.n_groups == cold.capacity:
        more = <ColdGroup*>realloc(cold.groups, (2 * cold.n_groups + 8) * sizeof(ColdGroup))
        if more == NULL:
            no_memory()
        cold.groups = more
        cold.capacity = 2 * cold.n_groups + 8
    memmove(cold.groups + at + 1, cold.groups + at, (cold.n_groups - at) * sizeof(ColdGroup))
    cold.groups[at].number = time >> cold.shift
    cold.groups[at].n = 0
    cold.n_groups += 1
    return &cold.groups[at]


cdef int set_bound(ColdDeadlines* cold, const char* entry, int64_t size) except -1 nogil:
    cdef char* more
    if size > cold.bound_capacity:
        more = <char*>realloc(cold.bound, 2 * size)
        if more == NULL:
            no_memory()
        cold.bound = more
        cold.bound_capacity = 2 * size
    memcpy(cold.bound, entry, size)
    cold.bound_size = size
    return 0


cdef int cold_add(ColdDeadlines* cold, const char* entry, int64_t size) except -1 nogil:
    group_of(cold, deadline_in(entry)).n += 1
    if cold.n == 0 or (key_order(entry, size, cold.bound, cold.bound_size) < 0 and not PLANTED("cold-timer-passed")):
        set_bound(cold, entry, size)
    cold.n += 1
    return 0


cdef int cold_remove(ColdDeadlines* cold, const char* entry, int64_t size) except -1 nogil:
    cdef ColdGroup* group = group_of(cold, deadline_in(entry))
    CHECK(group.n > 0, "a row that comes back was counted as cold")
    CHECK(cold_behind(cold, entry, size) or PLANTED("cold-timer-passed"), "no cold row stands before the bound")
    group.n -= 1
    cold.n -= 1
    return 0


cdef bint cold_behind(const ColdDeadlines* cold, const char* entry, int64_t size) noexcept nogil:
    return cold.n == 0 or key_order(entry, size, cold.bound, cold.bound_size) >= 0


cdef int64_t cold_first(ColdDeadlines* cold) noexcept nogil:
    cdef int64_t empty = 0
    if cold.n == 0:
        return INT64_MAX
    while cold.groups[empty].n == 0:
        empty += 1
    if empty > 0:
        cold.n_groups -= empty
        memmove(cold.groups, cold.groups + empty, cold.n_groups * sizeof(ColdGroup))
    return max(start_of(cold, cold.groups[0].number), deadline_in(cold.bound))


cdef int64_t cold_until(const ColdDeadlines* cold, int64_t now) noexcept nogil:
    cdef int64_t n = 0, i = 0
    while i < cold.n_groups and start_of(cold, cold.groups[i].number) <= now:
        n += cold.groups[i].n
        i += 1
    return n


cdef bint cold_precedes(ColdDeadlines* cold, const char* entry, int64_t size) noexcept nogil:
    cdef int64_t first = cold_first(cold), time = deadline_in(entry)
    if cold.n == 0 or first != time:
        return cold.n > 0 and first < time
    return deadline_in(cold.bound) < time or key_order(cold.bound, cold.bound_size, entry, size) < 0


cdef int cold_raise(ColdDeadlines* cold, const char* entry, int64_t size) except -1 nogil:
    if cold.n == 0 or key_order(entry, size, cold.bound, cold.bound_size) <= 0:
        return 0
    return set_bound(cold, entry, size)


cdef bytes cold_start(ColdDeadlines* cold, int lane):
    cdef char[DEADLINE_BYTES] start
    cdef int64_t first = cold_first(cold)
    if deadline_in(cold.bound) == first:
        return cold.bound[:cold.bound_size]
    put_deadline(start, lane, first)
    return start[:DEADLINE_BYTES]
