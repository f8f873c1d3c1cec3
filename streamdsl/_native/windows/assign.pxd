"""Which windows hold a moment. Windows are [start, end), aligned to the epoch plus an offset; nothing wraps."""
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t


cdef inline int64_t saturating_add(int64_t a, int64_t b) noexcept nogil:
    if b > 0 and a > INT64_MAX - b:
        return INT64_MAX
    if b < 0 and a < INT64_MIN - b:
        return INT64_MIN
    return a + b


cdef inline int64_t saturating_subtract(int64_t a, int64_t b) noexcept nogil:
    if b < 0 and a > INT64_MAX + b:
        return INT64_MAX
    if b > 0 and a < INT64_MIN + b:
        return INT64_MIN
    return a - b


cdef inline int64_t floor_mod(int64_t value, int64_t divisor) noexcept nogil:
    cdef int64_t rest = value % divisor
    return rest + divisor if rest < 0 else rest


cdef inline int64_t since_start(int64_t time, int64_t every_ms, int64_t offset_ms) noexcept nogil:
    # How long before `time` the last window began: 0 .. every - 1. (Subtracting the offset first could wrap.)
    cdef int64_t rest = floor_mod(time, every_ms) - floor_mod(offset_ms, every_ms)
    return rest + every_ms if rest < 0 else rest


cdef inline int64_t windows_of(int64_t time, int64_t size_ms, int64_t every_ms, int64_t offset_ms) noexcept nogil:
    # How many windows hold `time`: they begin since_start + k * every before it, k = n - 1 .. 0 in ascending start.
    cdef int64_t since = since_start(time, every_ms, offset_ms)
    return (size_ms - 1 - since) // every_ms + 1 if since < size_ms else 0


# The number of the last window that begins at or before `time`, in ascending start: there are windows whose start lies before time.
cdef inline int64_t window_number(int64_t time, int64_t every_ms, int64_t offset_ms) noexcept nogil:
    cdef int64_t rest = floor_mod(time, every_ms)
    return (time // every_ms) - (time % every_ms < 0) - (rest < floor_mod(offset_ms, every_ms))


# A window that ends at `end` takes records, and has not been closed, while this is true.
cdef inline bint window_is_open(int64_t end, int64_t grace_ms, int64_t watermark) noexcept nogil:
    return watermark < saturating_add(end - 1, grace_ms)
