"""See decimal_text.pxd for what each function promises."""
from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtod
from libc.string cimport memcpy, memset

from streamdsl._native.includes.decimal cimport dec_fits, dec_load, int128, magnitude, ten_to, uint128

from decimal import Decimal

cdef object DECIMAL = Decimal
cdef double[23] EXACT_TENS
for _power in range(23):
    EXACT_TENS[_power] = 10.0**_power

cdef enum:
    MOST_DIGITS = 38


cdef int digits_of(uint128 value, char* out) noexcept nogil:
    """Write the digits; at least one."""
    cdef char[48] reversed
    cdef int n = 0, i
    cdef uint128 ten = 10
    while n == 0 or value > 0:
        reversed[n] = <char>(c"0" + <int>(value % ten))
        value = value // ten
        n += 1
    for i in range(n):
        out[i] = reversed[n - 1 - i]
    return n


cdef int decimal_text(int128 value, int64_t scale, char* out) noexcept nogil:
    cdef char[48] digits
    cdef int n = digits_of(magnitude(value), digits), at = 0, behind = <int>scale
    if value < 0:
        out[0] = c"-"
        at = 1
    if n <= behind:
        out[at] = c"0"
        at += 1
    else:
        memcpy(out + at, digits, n - behind)
        at += n - behind
    if behind == 0:
        return at
    out[at] = c"."
    at += 1
    if n < behind:
        memset(out + at, c"0", behind - n)
        at += behind - n
        memcpy(out + at, digits, n)
        return at + n
    memcpy(out + at, digits + n - behind, behind)
    return at + behind


cdef inline bint is_space(char c) noexcept nogil:
    return c == c" " or 9 <= c <= 13 or 28 <= c <= 31


cdef bint parse_exponent(const char* text, int64_t n, int64_t* out) noexcept nogil:
    cdef int64_t i = 0, value = 0
    cdef bint negative = n > 0 and text[0] == c"-"
    if n > 0 and (negative or text[0] == c"+"):
        i = 1
    if i == n:
        return False
    while i < n:
        if not c"0" <= text[i] <= c"9":
            return False
        if value < 1000000:
            value = value * 10 + (text[i] - c"0")
        i += 1
    out[0] = -value if negative else value
    return True


cdef bint parse_decimal(const char* text, int64_t n, int64_t scale, int64_t precision, int128* out) noexcept nogil:
    cdef int64_t i, first, point = -1, exponent = 0, end, n_digits = 0, place
    cdef bint negative, any_digit = False
    cdef uint128 value = 0
    cdef int digit
    while n > 0 and is_space(text[0]):
        text += 1
        n -= 1
    while n > 0 and is_space(text[n - 1]):
        n -= 1
    negative = n > 0 and text[0] == c"-"
    first = 1 if n > 0 and (negative or text[0] == c"+") else 0
    end = first
    while end < n and (c"0" <= text[end] <= c"9" or (text[end] == c"." and point < 0)):
        if text[end] == c".":
            point = end
        else:
            any_digit = True
        end += 1
    if not any_digit:
        return False
    if end < n and not ((text[end] == c"e" or text[end] == c"E") and parse_exponent(text + end + 1, n - end - 1, &exponent)):
        return False
    if point < 0:
        point = end
    # `place`: the power of ten of a digit, in units of the last digit that is kept.
    for i in range(first, end):
        if i == point:
            continue
        digit = text[i] - c"0"
        place = (point - i - 1 if i < point else point - i) + exponent + scale
        if digit == 0 and value == 0:
            continue
        if place < 0:
            if digit != 0:
                return False
            continue
        if value != 0 or digit != 0:
            n_digits += 1
            if n_digits > MOST_DIGITS or place > MOST_DIGITS:
                return False
        value = value * <uint128>10 + <uint128>digit
    # The digits that the text leaves out before the last one kept.
    place = exponent + scale - (end - point - 1 if point < end else 0)
    if value != 0 and place > 0:
        if place + n_digits > MOST_DIGITS:
            return False
        value = value * ten_to(place)
    out[0] = -<int128>value if negative else <int128>value
    return dec_fits(out[0], precision)


cdef bint decimal_of_double(double value, int64_t scale, int64_t precision, int128* out) noexcept nogil:
    cdef char[400] text
    if not isfinite(value) or value >= 1e39 or value <= -1e39:
        return False
    # The C library rounds the exact value of the double.
    return parse_decimal(text, snprintf(text, 400, "%.*f", <int>scale, value), scale, precision, out)


cdef double double_of_decimal(int128 value, int64_t scale) noexcept nogil:
    cdef char[DECIMAL_ROOM + 1] text
    if scale <= 22 and magnitude(value) <= <uint128>9007199254740992:
        return <double><int64_t>value / EXACT_TENS[scale]    # both are exact, so one rounding gives the nearest
    text[decimal_text(value, scale, text)] = 0
    return strtod(text, NULL)


cdef object decimal_value(int128 value, int64_t scale):
    cdef char[DECIMAL_ROOM] text
    cdef int n = decimal_text(value, scale, text)
    return DECIMAL(text[:n].decode("ascii"))


cdef bint decimal_of_python(object value, int64_t scale, int64_t precision, int128* out) except -1:
    cdef bytes text
    cdef bytes raw
    if isinstance(value, int):
        # As Python's ints: a power of C integers is a float.
        whole = int(value) * 10 ** <object>scale
        if abs(whole) >= 10 ** <object>precision:
            return False
        raw = whole.to_bytes(16, "little", signed=True)
        out[0] = dec_load(<const char*>raw)
        return True
    text = str(value).encode()
    return parse_decimal(text, len(text), scale, precision, out)


def unscaled_of_text(bytes text, int64_t scale, int64_t precision):
    """Return what `parse_decimal` reads as an int, None if it is no number that fits."""
    cdef int128 number
    if not parse_decimal(text, len(text), scale, precision, &number):
        return None
    return int.from_bytes((<char*>&number)[:16], "little", signed=True)


def text_of_unscaled(value, int64_t scale):
    """Return what `decimal_text` writes for an unscaled int."""
    cdef bytes raw = int(value).to_bytes(16, "little", signed=True)
    cdef char[DECIMAL_ROOM] text
    return text[:decimal_text(dec_load(<const char*>raw), scale, text)].decode()
