"""What is known of the rows of one lane that are in the database alone: how many, about when, and behind what they all stand."""
from libc.stdint cimport int64_t


cdef struct ColdGroup:
    int64_t number             # time >> shift
    int64_t n                  # cold rows of such times


cdef struct ColdDeadlines:
    ColdGroup* groups          # by number; the first ones may be empty, and others
    int64_t n_groups
    int64_t capacity
    int shift                  # rises when there are too many groups
    int64_t n                  # cold rows
    char* bound                # a key: no cold row stands before it (of no meaning while n is 0)
    int64_t bound_size
    int64_t bound_capacity

cdef void cold_init(ColdDeadlines* cold) noexcept nogil
cdef void cold_free(ColdDeadlines* cold) noexcept nogil
cdef int64_t cold_memory(const ColdDeadlines* cold) noexcept nogil
cdef int cold_add(ColdDeadlines* cold, const char* entry, int64_t size) except -1 nogil
cdef int cold_remove(ColdDeadlines* cold, const char* entry, int64_t size) except -1 nogil
# No cold row comes before this time; INT64_MAX if there is none.
cdef int64_t cold_first(ColdDeadlines* cold) noexcept nogil
# No more cold rows than so many come at or before `now`.
cdef int64_t cold_until(const ColdDeadlines* cold, int64_t now) noexcept nogil
# Whether one may come before this key.
cdef bint cold_precedes(ColdDeadlines* cold, const char* entry, int64_t size) noexcept nogil
# Whether the key stands at the bound or behind it, as a cold one does.
cdef bint cold_behind(const ColdDeadlines* cold, const char* entry, int64_t size) noexcept nogil
# All before this key are hot now.
cdef int cold_raise(ColdDeadlines* cold, const char* entry, int64_t size) except -1 nogil
# Where to look for the first: a key, or how one begins.
cdef bytes cold_start(ColdDeadlines* cold, int lane)
