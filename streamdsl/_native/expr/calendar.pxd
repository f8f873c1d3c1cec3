"""Days, months and time zones, for times in milliseconds since 1970-01-01 UTC."""
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t

from streamdsl._native.expr.vector cimport Instruction
from streamdsl._native.serdes.number_text cimport civil_from_days, floor_div

cdef enum:
    DAY_MS = 86400000

cdef enum Unclear:                           # what becomes of a wall time that is there twice, or not at all
    REFUSE = 0
    EARLIEST = 1
    LATEST = 2
    NULL_VALUE = 3

# A stretch of time in which a zone's clocks differ from UTC by `offset`.
cdef struct Stretch:
    int64_t start                            # ms
    int64_t offset                           # ms
    char[8] name                             # abbreviation, filled up with NUL

# `zone` of an instruction: text1 holds its stretches, size1 of them; none is UTC.
cdef int with_zone(Instruction* ins, str zone, list keep) except -1
cdef const Stretch* stretch_at(Instruction* ins, int64_t ms) noexcept nogil      # NULL: UTC
# The instant of a wall time. Returns 1; 0 if the zone has it twice, -1 if not at all, and that is refused (or null).
# `near`, if given, is an offset that is kept if it can be.
cdef int from_wall(Instruction* ins, int64_t wall, int unclear, int missing, const int64_t* near, int64_t* out) noexcept nogil


cdef inline int64_t offset_at(Instruction* ins, int64_t ms) noexcept nogil:
    cdef const Stretch* stretch = stretch_at(ins, ms)
    return 0 if stretch == NULL else stretch.offset


cdef inline int64_t saturating(int64_t a, int64_t b) noexcept nogil:
    if b > 0 and a > INT64_MAX - b:
        return INT64_MAX
    if b < 0 and a < INT64_MIN - b:
        return INT64_MIN
    return a + b


cdef inline bint is_leap(int64_t year) noexcept nogil:
    return (year % 4 == 0 and year % 100 != 0) or year % 400 == 0


cdef inline int days_in(int64_t year, int month) noexcept nogil:
    if month == 2:
        return 29 if is_leap(year) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


cdef inline int64_t days_from_civil(int64_t year, int month, int day) noexcept nogil:
    # Years begin in March: the leap day is the last one.
    cdef int64_t y = year - (month <= 2)
    cdef int64_t era = floor_div(y, 400)
    cdef int64_t in_era = y - era * 400
    cdef int64_t in_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + in_era * 365 + in_era // 4 - in_era // 100 + in_year - 719468


cdef inline int64_t weekday(int64_t days) noexcept nogil:
    """0 = Monday."""
    return days + 3 - floor_div(days + 3, 7) * 7


cdef inline int ordinal_day(int64_t days) noexcept nogil:
    cdef int64_t year
    cdef int month, day
    civil_from_days(days, &year, &month, &day)
    return <int>(days - days_from_civil(year, 1, 1) + 1)


cdef inline void iso_week(int64_t days, int64_t* year, int64_t* week) noexcept nogil:
    """The week that holds the day's Thursday, and its year."""
    cdef int month, day
    cdef int64_t thursday = days - weekday(days) + 3
    civil_from_days(thursday, year, &month, &day)
    week[0] = (thursday - days_from_civil(year[0], 1, 1)) // 7 + 1
