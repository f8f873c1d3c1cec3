"""Decimals from and to text and Python, without the GIL where no object is touched."""
from libc.stdint cimport int64_t

from streamdsl._native.includes.decimal cimport int128

cdef enum:
    DECIMAL_ROOM = 48                        # bytes that decimal_text may need

# Plain digits, `scale` of them behind the point; returns the number of bytes.
cdef int decimal_text(int128 value, int64_t scale, char* out) noexcept nogil
# White space around it, a sign, a point and an exponent are taken. False: no number, more than `precision` digits, or a digit
# other than 0 behind the scale.
cdef bint parse_decimal(const char* text, int64_t n, int64_t scale, int64_t precision, int128* out) noexcept nogil
# The nearest decimal of the scale, of two equally near ones the even one; False: not finite, or too many digits.
cdef bint decimal_of_double(double value, int64_t scale, int64_t precision, int128* out) noexcept nogil
cdef double double_of_decimal(int128 value, int64_t scale) noexcept nogil        # the nearest double

cdef object decimal_value(int128 value, int64_t scale)                   # as a decimal.Decimal
# A Python Decimal or int; False: no number, more than `precision` digits, or a digit other than 0 behind the scale.
cdef bint decimal_of_python(object value, int64_t scale, int64_t precision, int128* out) except -1
