"""See number_text.pxd for what each function promises."""
from libc.math cimport fabs, isnan
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef extern from * nogil:
    """
    #include <locale.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    #ifdef __APPLE__
    #include <xlocale.h>
    #endif
    /* strtod goes by the decimal point of the process's locale, which anyone may set. */
    static locale_t sd_c_locale;
    static int sd_locale_ready(void) { sd_c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); return sd_c_locale != (locale_t)0; }
    static inline double sd_strtod(const char* text) { return strtod_l(text, NULL, sd_c_locale); }
    static inline void sd_mul128(uint64_t a, uint64_t b, uint64_t* high, uint64_t* low) {
        unsigned __int128 product = (unsigned __int128)a * b;
        *high = (uint64_t)(product >> 64);
        *low = (uint64_t)product;
    }
    static inline uint64_t sd_bits_of(double value) {
        uint64_t bits;
        memcpy(&bits, &value, 8);
        return bits;
    }
    static const char SD_PAIRS[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960"
        "616263646566676869707172737475767778798081828384858687888990919293949596979899";
    static inline int sd_digits(uint64_t value) {
        static const uint64_t TENS[20] = {
            0, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000, 1000000000000,
            10000000000000, 100000000000000, 1000000000000000, 10000000000000000, 100000000000000000, 1000000000000000000,
            10000000000000000000u};
        const int about = (64 - __builtin_clzll(value | 1)) * 1233 >> 12;       /* by the logarithm of 2: this many, or one more */
        return about + (value >= TENS[about]);
    }
    """
    int digits_of "sd_digits"(uint64_t value) noexcept
    void mul128 "sd_mul128"(uint64_t a, uint64_t b, uint64_t* high, uint64_t* low) noexcept
    uint64_t bits_of "sd_bits_of"(double value) noexcept
    const char* PAIRS "SD_PAIRS"
    bint locale_ready "sd_locale_ready"() noexcept
    double read_double "sd_strtod"(const char* text) noexcept

cdef enum:
    POWER_MIN = -292
    POWER_MAX = 324

# 10**k as 128-bit significands in [2**127, 2**128), rounded up: high and low half.
cdef uint64_t[617][2] POWERS
cdef double[23] EXACT_TENS                   # the powers of ten that a double holds exactly


cdef int floor_log2_pow10(int k) noexcept nogil:
    return (k * 1741647) >> 19


def _fill_powers():
    for k in range(POWER_MIN, POWER_MAX + 1):
        shift = 127 - floor_log2_pow10(k)
        numerator, denominator = (10**k, 1) if k >= 0 else (1, 10**-k)
        numerator, denominator = (numerator << shift, denominator) if shift >= 0 else (numerator, denominator << -shift)
        significand = -(-numerator // denominator)
        POWERS[k - POWER_MIN][0] = significand >> 64
        POWERS[k - POWER_MIN][1] = significand & 0xFFFFFFFFFFFFFFFF
    for k in range(23):
        EXACT_TENS[k] = 10.0**k


_fill_powers()
del _fill_powers
if not locale_ready():
    raise MemoryError("no memory left for the C locale")


# Integers ----------------------------------------------------------------------------------------------------


cdef int uint_text(uint64_t value, char* out) noexcept nogil:
    cdef int size = digits_of(value)
    cdef int at = size
    cdef uint64_t rest
    while value >= 100:
        rest = value // 100
        at -= 2
        memcpy(out + at, PAIRS + 2 * (value - rest * 100), 2)
        value = rest
    if at == 2:
        memcpy(out, PAIRS + 2 * value, 2)
    else:
        out[0] = <char>(c"0" + value)
    return size


cdef int int_text(int64_t value, char* out) noexcept nogil:
    if value >= 0:
        return uint_text(<uint64_t>value, out)
    out[0] = c"-"
    return 1 + uint_text(0 - <uint64_t>value, out + 1)


# Floats: Schubfach (Giulietti, "The Schubfach way to render doubles") ------------------------------------------


cdef uint64_t round_to_odd(const uint64_t* power, uint64_t cp) noexcept nogil:
    cdef uint64_t x_high, x_low, y_high, y_low
    mul128(power[1], cp, &x_high, &x_low)
    mul128(power[0], cp, &y_high, &y_low)
    y_low += x_high
    if y_low < x_high:
        y_high += 1
    return y_high | (y_low > 1)


cdef uint64_t shortest(uint64_t fraction, int32_t biased, int32_t* exponent) noexcept nogil:
    """The shortest decimal significand, nearest to the value if several are; its exponent of ten in `exponent`."""
    cdef uint64_t c, lower, upper, vb, s, sp, odd
    cdef int32_t q, k, h
    cdef bint up_inside, down_inside, narrow = fraction == 0 and biased > 1
    cdef const uint64_t* power
    if biased != 0:
        c = fraction | (<uint64_t>1 << 52)
        q = biased - 1075
        if -53 < q <= 0 and c & ((<uint64_t>1 << -q) - 1) == 0:
            exponent[0] = 0
            return c >> -q
    else:
        c = fraction
        q = -1074
    odd = c & 1
    k = (q * 1262611 - (524031 if narrow else 0)) >> 22
    h = q + floor_log2_pow10(-k) + 1
    power = POWERS[-k - POWER_MIN]
    lower = round_to_odd(power, (4 * c - 2 + narrow) << h) + odd
    vb = round_to_odd(power, (4 * c) << h)
    upper = round_to_odd(power, (4 * c + 2) << h) - odd
    s = vb // 4
    if s >= 10:
        sp = s // 10
        down_inside = lower <= 40 * sp
        up_inside = 40 * sp + 40 <= upper
        if down_inside != up_inside:
            exponent[0] = k + 1
            return sp + up_inside
    exponent[0] = k
    down_inside = lower <= 4 * s
    up_inside = 4 * s + 4 <= upper
    if down_inside != up_inside:
        return s + up_inside
    return s + (1 if vb > 4 * s + 2 or (vb == 4 * s + 2 and s & 1 == 1) else 0)


cdef uint64_t short_decimal(double value, int32_t* exponent) noexcept nogil:
    """Most numbers in data have few decimals: found by trial. 0 if this one has not."""
    cdef int k
    cdef double scaled
    for k in range(0, 7):
        scaled = value * EXACT_TENS[k]
        if scaled >= 1e15:
            return 0
        # Below 10**15 a decimal and its double determine each other, so an exact division back proves it.
        if scaled == <double><int64_t>scaled and scaled / EXACT_TENS[k] == value:
            exponent[0] = -k
            return <uint64_t>scaled
    return 0


cdef int double_text(double value, char* out) noexcept nogil:
    cdef uint64_t bits = bits_of(value)
    cdef int32_t biased = <int32_t>(bits >> 52) & 0x7FF
    cdef int32_t exponent = 0
    cdef uint64_t significand
    cdef char[24] digits
    cdef int n, point, at = 0
    if biased == 0x7FF:
        if bits & 0xFFFFFFFFFFFFFULL:
            memcpy(out, b"nan", 3)
            return 3
        memcpy(out, "-inf" if bits >> 63 else "inf", 3 + <int>(bits >> 63))
        return 3 + <int>(bits >> 63)
    if bits >> 63:
        out[0] = c"-"
        at = 1
    if bits << 1 == 0:
        memcpy(out + at, b"0.0", 3)
        return at + 3
    significand = short_decimal(fabs(value), &exponent)
    if significand == 0:
        significand = shortest(bits & 0xFFFFFFFFFFFFFULL, biased, &exponent)
    n = uint_text(significand, digits)
    point = n + exponent                     # digits before the decimal point
    while n > 1 and digits[n - 1] == c"0":
        n -= 1
    return at + place_point(digits, n, point, out + at)


cdef int place_point(const char* digits, int n, int point, char* out) noexcept nogil:
    cdef int at
    if 0 < point <= 16:
        if n <= point:
            memcpy(out, digits, n)
            memset(out + n, c"0", point - n)
            memcpy(out + point, b".0", 2)
            return point + 2
        memcpy(out, digits, point)
        out[point] = c"."
        memcpy(out + point + 1, digits + point, n - point)
        return n + 1
    if -4 < point <= 0:
        memcpy(out, b"0.000", 5)
        memcpy(out + 2 - point, digits, n)
        return 2 - point + n
    out[0] = digits[0]
    at = 1
    if n > 1:
        out[1] = c"."
        memcpy(out + 2, digits + 1, n - 1)
        at = n + 1
    point -= 1
    out[at] = c"e"
    out[at + 1] = c"-" if point < 0 else c"+"
    point = -point if point < 0 else point
    at += 2
    if point < 10:
        out[at] = c"0"
        at += 1
    return at + uint_text(point, out + at)


cdef int fixed_text(double value, int digits, char* out) noexcept nogil:
    cdef double scaled
    cdef uint64_t whole, part
    cdef int at = 0, i
    if isnan(value):
        memcpy(out, b"nan", 3)
        return 3
    if digits <= 6 and fabs(value) * EXACT_TENS[digits] < 1e12:
        # Exact unless the scaled value is next to a half, where only the true digits decide.
        scaled = fabs(value) * EXACT_TENS[digits]
        whole = <uint64_t>scaled
        if fabs(scaled - <double>whole - 0.5) > 1e-3:
            if scaled - <double>whole > 0.5:
                whole += 1
            if bits_of(value) >> 63:
                out[0] = c"-"
                at = 1
            part = whole % <uint64_t>EXACT_TENS[digits]
            at += uint_text(whole // <uint64_t>EXACT_TENS[digits], out + at)
            if digits > 0:
                out[at] = c"."
                for i in range(digits):
                    out[at + digits - i] = <char>(c"0" + part % 10)
                    part //= 10
                at += digits + 1
            return at
    return snprintf(out, FIXED_ROOM + digits, "%.*f", digits, value)


# Time --------------------------------------------------------------------------------------------------------


cdef void civil_from_days(int64_t days, int64_t* year, int* month, int* day) noexcept nogil:
    # Hinnant's algorithm: years begin in March, eras have 400 years.
    cdef int64_t shifted = (days if days < INT64_MAX - 719468 else INT64_MAX - 719468) + 719468
    cdef int64_t era = floor_div(shifted, 146097)
    cdef int of_era = <int>(shifted - era * 146097)
    cdef int year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    cdef int of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    cdef int shifted_month = (5 * of_year + 2) // 153
    day[0] = of_year - (153 * shifted_month + 2) // 5 + 1
    month[0] = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year[0] = year_of_era + era * 400 + (month[0] <= 2)


cdef inline void pair(int value, char* out) noexcept nogil:
    memcpy(out, PAIRS + 2 * value, 2)


cdef int date_text(int64_t days, char* out) noexcept nogil:
    cdef int64_t year
    cdef int month, day, at = 0
    civil_from_days(days, &year, &month, &day)
    if 0 <= year <= 9999:
        pair(<int>(year // 100), out)
        pair(<int>(year % 100), out + 2)
        at = 4
    else:
        # ISO 8601 marks years outside 0000 to 9999 by a sign.
        out[0] = c"-" if year < 0 else c"+"
        year = -year if year < 0 else year
        at = 1
        if year < 1000:
            memset(out + 1, c"0", 3)
            at = 4 if year < 10 else (3 if year < 100 else 2)
        at += uint_text(<uint64_t>year, out + at)
    out[at] = c"-"
    pair(month, out + at + 1)
    out[at + 3] = c"-"
    pair(day, out + at + 4)
    return at + 6


cdef int timestamp_text(int64_t ms, char* out) noexcept nogil:
    return moment_text(ms, 3, out)


cdef int moment_text(int64_t value, int digits, char* out) noexcept nogil:
    cdef int64_t per_second = 1 if digits == 0 else (1000 if digits == 3 else (1000000 if digits == 6 else 1000000000))
    cdef int64_t seconds = floor_div(value, per_second)
    cdef int64_t fraction = value - seconds * per_second
    cdef int64_t days = floor_div(seconds, 86400)
    cdef int rest = <int>(seconds - days * 86400), i
    cdef int at = date_text(days, out)
    out[at] = c"T"
    pair(rest // 3600, out + at + 1)
    out[at + 3] = c":"
    pair(rest // 60 % 60, out + at + 4)
    out[at + 6] = c":"
    pair(rest % 60, out + at + 7)
    at += 9
    if digits > 0:
        out[at] = c"."
        for i in range(digits):
            out[at + digits - i] = <char>(c"0" + fraction % 10)
            fraction //= 10
        at += digits + 1
    out[at] = c"Z"
    return at + 1


# Reading -----------------------------------------------------------------------------------------------------


cdef inline bint is_space(char c) noexcept nogil:
    return c == c" " or 9 <= c <= 13 or 28 <= c <= 31


cdef void trim(const char** text, int64_t* n) noexcept nogil:
    while n[0] > 0 and is_space(text[0][0]):
        text[0] += 1
        n[0] -= 1
    while n[0] > 0 and is_space(text[0][n[0] - 1]):
        n[0] -= 1


cdef bint parse_digits(const char* text, int64_t n, uint64_t* out) noexcept nogil:
    cdef int64_t i
    cdef uint64_t value = 0, digit
    if n == 0:
        return False
    for i in range(n):
        digit = <uint64_t>(<unsigned char>text[i]) - c"0"
        if digit > 9 or value > 1844674407370955161ULL or (value == 1844674407370955161ULL and digit > 5):
            return False
        value = value * 10 + digit
    out[0] = value
    return True


cdef bint parse_int(const char* text, int64_t n, int64_t* out) noexcept nogil:
    cdef uint64_t size
    cdef bint negative
    trim(&text, &n)
    negative = n > 0 and text[0] == c"-"
    if n > 0 and (negative or text[0] == c"+"):
        text += 1
        n -= 1
    if not parse_digits(text, n, &size) or size > <uint64_t>INT64_MAX + negative:
        return False
    out[0] = <int64_t>(0 - size) if negative else <int64_t>size
    return True


cdef bint parse_uint(const char* text, int64_t n, uint64_t* out) noexcept nogil:
    cdef bint negative
    trim(&text, &n)
    negative = n > 0 and text[0] == c"-"
    if n > 0 and (negative or text[0] == c"+"):
        text += 1
        n -= 1
    return parse_digits(text, n, out) and not (negative and out[0] != 0)


cdef bint same_letters(const char* text, int64_t n, const char* lower, int64_t n_lower) noexcept nogil:
    cdef int64_t i
    if n != n_lower:
        return False
    for i in range(n):
        if text[i] | 32 != lower[i]:
            return False
    return True


cdef bint parse_bool(const char* text, int64_t n, char* out) noexcept nogil:
    trim(&text, &n)
    if n == 1 and (text[0] == c"0" or text[0] == c"1"):
        out[0] = <char>(text[0] - c"0")
        return True
    out[0] = same_letters(text, n, "true", 4)
    return out[0] or same_letters(text, n, "false", 5)


cdef bint parse_special(const char* text, int64_t n, bint negative, double* out) noexcept nogil:
    if same_letters(text, n, "nan", 3):
        out[0] = read_double("nan")
    elif same_letters(text, n, "inf", 3) or same_letters(text, n, "infinity", 8):
        out[0] = read_double("inf")
    else:
        return False
    if negative:
        out[0] = -out[0]
    return True


cdef bint read_slowly(const char* text, int64_t n, double* out) noexcept nogil:
    """A number of checked form whose digits need exact arithmetic; `text` begins behind the sign."""
    cdef char[72] room
    cdef char* copy = room
    if n > 70:
        copy = <char*>malloc(n + 1)
        if copy == NULL:
            return False
    memcpy(copy, text, n)
    copy[n] = 0
    out[0] = read_double(copy)
    if copy != room:
        free(copy)
    return True


cdef bint parse_double(const char* text, int64_t n, double* out) noexcept nogil:
    cdef int64_t i = 0, significand = 0, exponent = 0, n_digits = 0, scale = 0
    cdef bint negative, exponent_negative, any_digit = False, point = False
    trim(&text, &n)
    negative = n > 0 and text[0] == c"-"
    if n > 0 and (negative or text[0] == c"+"):
        text += 1
        n -= 1
    while i < n and (c"0" <= text[i] <= c"9" or (text[i] == c"." and not point)):
        if text[i] == c".":
            point = True
        else:
            any_digit = True
            scale -= point
            if n_digits < 18:
                significand = significand * 10 + (text[i] - c"0")
            n_digits += significand != 0
        i += 1
    if not any_digit:
        return parse_special(text, n, negative, out)
    if i < n and text[i] | 32 == c"e":
        i += 1
        exponent_negative = i < n and text[i] == c"-"
        if i < n and (exponent_negative or text[i] == c"+"):
            i += 1
        if i == n:
            return False
        while i < n and c"0" <= text[i] <= c"9":
            if exponent < 100000:
                exponent = exponent * 10 + (text[i] - c"0")
            i += 1
        exponent = -exponent if exponent_negative else exponent
    if i < n:
        return False
    exponent += scale
    if n_digits <= 15 and -22 <= exponent <= 22:
        # Both factors are exact, so one rounding gives the nearest double.
        out[0] = <double>significand / EXACT_TENS[-exponent] if exponent < 0 else <double>significand * EXACT_TENS[exponent]
    elif not read_slowly(text, n, out):
        return False
    if negative:
        out[0] = -out[0]
    return True


# For tests ---------------------------------------------------------------------------------------------------


def text_of_double(double value):
    """Return what `double_text` writes."""
    cdef char[NUMBER_ROOM] out
    return out[:double_text(value, out)].decode()


def text_of_fixed(double value, int digits):
    """Return what `fixed_text` writes."""
    cdef char[FIXED_ROOM + 128] out
    if not 0 <= digits <= 100:
        raise ValueError("between 0 and 100 decimals")
    return out[:fixed_text(value, digits, out)].decode()


def text_of_timestamp(int64_t ms):
    """Return what `timestamp_text` writes."""
    cdef char[NUMBER_ROOM] out
    return out[:timestamp_text(ms, out)].decode()


def double_of_text(bytes text):
    """Return what `parse_double` reads, None if it is no number."""
    cdef double value
    return value if parse_double(text, len(text), &value) else None
