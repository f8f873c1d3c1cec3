"""What is known of the timers of one clock that are in the database alone: how many, about when, and behind what they all stand."""
from libc.stdint cimport int64_t


cdef struct ColdGroup:
    int64_t number             # time >> shift
    int64_t n                  # cold timers of such times


cdef struct ColdTimers:
    ColdGroup* groups          # by number; the first ones may be empty, and others
    int64_t n_groups
    int64_t capacity
    int shift                  # rises when there are too many groups
    int64_t n                  # cold timers
    char* bound                # an entry: no cold timer stands before it (of no meaning while n is 0)
    int64_t bound_size
    int64_t bound_capacity

cdef void cold_init(ColdTimers* cold) noexcept nogil
cdef void cold_free(ColdTimers* cold) noexcept nogil
cdef int64_t cold_memory(const ColdTimers* cold) noexcept nogil
cdef int cold_add(ColdTimers* cold, const char* entry, int64_t size) except -1 nogil
cdef int cold_remove(ColdTimers* cold, const char* entry, int64_t size) except -1 nogil
# No cold timer comes before this time; INT64_MAX if there is none.
cdef int64_t cold_first(ColdTimers* cold) noexcept nogil
# No more cold timers than so many come at or before `now`.
cdef int64_t cold_until(const ColdTimers* cold, int64_t now) noexcept nogil
# Whether one may come before this entry.
cdef bint cold_precedes(ColdTimers* cold, const char* entry, int64_t size) noexcept nogil
# Whether the entry stands at the bound or behind it, as a cold one does.
cdef bint cold_behind(const ColdTimers* cold, const char* entry, int64_t size) noexcept nogil
# All before this entry are hot now.
cdef int cold_raise(ColdTimers* cold, const char* entry, int64_t size) except -1 nogil
# Where to look for the first: an entry, or how one begins.
cdef bytes cold_start(ColdTimers* cold, int clock)
