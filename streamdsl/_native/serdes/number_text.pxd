"""Numbers and times from and to text, without the GIL and independent of the locale."""
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    NUMBER_ROOM = 40                         # bytes that any writer below but fixed_text may need
    FIXED_ROOM = 320                         # fixed_text needs this and `digits` more

# Writers return the number of bytes written; no NUL at the end.
cdef int int_text(int64_t value, char* out) noexcept nogil
cdef int uint_text(uint64_t value, char* out) noexcept nogil
cdef int double_text(double value, char* out) noexcept nogil             # shortest that reads back, exactly repr(float)
cdef int fixed_text(double value, int digits, char* out) noexcept nogil  # format(value, ".<digits>f"), digits <= 100
cdef int timestamp_text(int64_t ms, char* out) noexcept nogil            # 2026-01-02T03:04:05.678Z
# `digits` behind the second, which say the unit too: 0 = s, 3 = ms, 6 = µs, 9 = ns.
cdef int moment_text(int64_t value, int digits, char* out) noexcept nogil
cdef int date_text(int64_t days, char* out) noexcept nogil               # 2026-01-02

# Readers take white space around the number and return False if the text is none (or is out of range).
cdef bint parse_int(const char* text, int64_t n, int64_t* out) noexcept nogil
cdef bint parse_uint(const char* text, int64_t n, uint64_t* out) noexcept nogil
cdef bint parse_double(const char* text, int64_t n, double* out) noexcept nogil   # also nan, inf, infinity
cdef bint parse_bool(const char* text, int64_t n, char* out) noexcept nogil       # true, false, 1, 0

# The proleptic Gregorian calendar, for days since 1970-01-01 of either sign.
cdef void civil_from_days(int64_t days, int64_t* year, int* month, int* day) noexcept nogil


cdef inline int64_t floor_div(int64_t value, int64_t divisor) noexcept nogil:
    """For a positive divisor."""
    return value // divisor - (value % divisor < 0)
