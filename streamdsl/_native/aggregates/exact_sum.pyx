"""See exact_sum.pxd."""
from libc.math cimport INFINITY, NAN, isinf, isnan, ldexp
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    ROUND_DIGITS = 2 * SQUARE_DIGITS


cdef inline void widen(int32_t* low, int32_t* high, int32_t first, int32_t end) noexcept nogil:
    if high[0] == 0:
        low[0] = first
        high[0] = end
        return
    low[0] = min(low[0], first)
    high[0] = max(high[0], end)


cdef inline void add_shifted(int64_t* at, uint64_t value, int shift, int64_t sign) noexcept nogil:
    # value * 2**shift, shift < 32, into three digits.
    cdef uint64_t lower = (value & 0xffffffffu) << shift
    cdef uint64_t upper = (value >> 32) << shift
    at[0] += sign * <int64_t>(lower & 0xffffffffu)
    at[1] += sign * <int64_t>((lower >> 32) + (upper & 0xffffffffu))
    at[2] += sign * <int64_t>(upper >> 32)


cdef void exact_add(ExactMoments* total, double term, bint squared) noexcept nogil:
    changed(total, term, squared, 1)


cdef void exact_withdraw(ExactMoments* total, double term, bint squared) noexcept nogil:
    changed(total, term, squared, -1)


cdef inline void changed(ExactMoments* total, double term, bint squared, int64_t by) noexcept nogil:
    cdef uint64_t bits, mantissa, lower, upper
    cdef int exponent, place
    cdef int64_t sign
    total.n += by
    if isnan(term):
        total.n_nan += by
        return
    if isinf(term):
        if term > 0:
            total.n_positive += by
        else:
            total.n_negative += by
        return
    if term == 0:
        return
    memcpy(&bits, &term, 8)
    sign = -by if bits >> 63 else by
    exponent = <int>((bits >> 52) & 0x7ff)
    mantissa = bits & 0xfffffffffffffu
    if exponent > 0:
        mantissa |= <uint64_t>1 << 52
        exponent -= 1
    place = exponent >> 5
    widen(&total.sum.low, &total.sum.high, place, place + 3)
    add_shifted(total.sum.digits + place, mantissa, exponent & 31, sign)
    if not squared:
        return
    lower = mantissa & 0xffffffffu
    upper = mantissa >> 32
    exponent *= 2
    place = exponent >> 5
    widen(&total.squares.low, &total.squares.high, place, place + 5)
    add_shifted(total.squares.digits + place, lower * lower, exponent & 31, by)
    add_shifted(total.squares.digits + place + 1, 2 * lower * upper, exponent & 31, by)
    add_shifted(total.squares.digits + place + 2, upper * upper, exponent & 31, by)


cdef void exact_merge(ExactMoments* total, const ExactMoments* other, bint squared) noexcept nogil:
    cdef int32_t i
    total.n += other.n
    total.n_nan += other.n_nan
    total.n_positive += other.n_positive
    total.n_negative += other.n_negative
    if other.sum.high > 0:
        widen(&total.sum.low, &total.sum.high, other.sum.low, other.sum.high)
        for i in range(other.sum.low, other.sum.high):
            total.sum.digits[i] += other.sum.digits[i]
    if squared and other.squares.high > 0:
        widen(&total.squares.low, &total.squares.high, other.squares.low, other.squares.high)
        for i in range(other.squares.low, other.squares.high):
            total.squares.digits[i] += other.squares.digits[i]


cdef void exact_clear(ExactMoments* total, bint squared) noexcept nogil:
    total.n = total.n_nan = total.n_positive = total.n_negative = 0
    if total.sum.high > 0:
        memset(total.sum.digits + total.sum.low, 0, (total.sum.high - total.sum.low) * sizeof(int64_t))
        total.sum.low = total.sum.high = 0
    if squared and total.squares.high > 0:
        memset(total.squares.digits + total.squares.low, 0, (total.squares.high - total.squares.low) * sizeof(int64_t))
        total.squares.low = total.squares.high = 0


cdef void carry_digits(int64_t* digits, int32_t* low, int32_t* high, int32_t limit) noexcept nogil:
    """Bring the digits back to 32 bits, all but the sign of the highest, and leave those out that are zero at either end."""
    cdef int64_t value, carry = 0
    cdef int64_t room = <int64_t>1 << 40     # the highest digit stays below it, so that no later term overflows it
    cdef int32_t i = low[0]
    while i < high[0]:
        value = digits[i] + carry
        carry = 0
        if i + 1 < high[0] or (i + 1 < limit and not -room < value < room):
            digits[i] = value & ((<int64_t>1 << 32) - 1)
            carry = value >> 32              # towards minus infinity
            if i + 1 == high[0] and carry != 0:
                high[0] += 1
        else:
            digits[i] = value
        i += 1
    while high[0] - low[0] > 1 and digits[high[0] - 1] == -1:
        high[0] -= 1
        digits[high[0]] = 0
        digits[high[0] - 1] -= <int64_t>1 << 32
    while high[0] > low[0] and digits[high[0] - 1] == 0:
        high[0] -= 1
    while low[0] < high[0] and digits[low[0]] == 0:
        low[0] += 1
    if low[0] == high[0]:
        low[0] = high[0] = 0


cdef void exact_carry(ExactMoments* total, bint squared) noexcept nogil:
    carry_digits(total.sum.digits, &total.sum.low, &total.sum.high, SUM_DIGITS)
    if squared:
        carry_digits(total.squares.digits, &total.squares.low, &total.squares.high, SQUARE_DIGITS)


# A whole number without a sign: digits[0] is the lowest.
cdef struct Whole:
    int n
    uint32_t digits[ROUND_DIGITS]


cdef int carried(Whole* out, const int64_t* digits, int low, int high) noexcept nogil:
    """Put the magnitude of digits [low, high) into `out`, from digit `low` on, and return the sign."""
    cdef int64_t carry = 0
    cdef int i, n = 0
    cdef uint64_t borrowed = 1
    for i in range(low, high):
        carry += digits[i]
        out.digits[n] = <uint32_t><uint64_t>carry
        carry >>= 32                         # towards minus infinity
        n += 1
    out.digits[n] = <uint32_t><uint64_t>carry
    carry >>= 32
    out.digits[n + 1] = <uint32_t><uint64_t>carry
    carry >>= 32
    n += 2
    if carry < 0:                            # two's complement
        for i in range(n):
            borrowed += <uint64_t>(out.digits[i] ^ 0xffffffffu)
            out.digits[i] = <uint32_t>borrowed
            borrowed >>= 32
    while n > 0 and out.digits[n - 1] == 0:
        n -= 1
    out.n = n
    return 0 if n == 0 else (-1 if carry < 0 else 1)


cdef double rounded(const Whole* whole, int* exponent, int least) noexcept nogil:
    """Return a double d, d * 2**exponent[0] being the number to 53 bits, half to even; no bits below 2**least are asked for."""
    cdef int top, i, lowest, shift
    cdef uint64_t kept = 0
    cdef bint rest = False
    cdef uint32_t digit
    if whole.n == 0:
        exponent[0] = 0
        return 0.0
    top = 32 * (whole.n - 1)
    digit = whole.digits[whole.n - 1]
    while digit:
        top += 1
        digit >>= 1
    # The number has `top` bits. The lowest that is kept stands at `lowest`; one more says how to round, the rest whether it is half.
    lowest = max(top - 54, least - 1)
    if lowest <= 0:
        for i in range(whole.n - 1, -1, -1):
            kept = (kept << 32) | whole.digits[i]
        kept <<= -lowest
    else:
        for i in range(whole.n - 1, -1, -1):
            if 32 * i >= lowest:
                kept = (kept << 32) | whole.digits[i]
            elif 32 * i + 32 > lowest:
                shift = lowest - 32 * i
                kept = (kept << (32 - shift)) | (whole.digits[i] >> shift)
                rest = rest or (whole.digits[i] & ((<uint64_t>1 << shift) - 1)) != 0
            else:
                rest = rest or whole.digits[i] != 0
    if kept & 1 and (rest or kept & 2):
        kept += 2
    exponent[0] = lowest + 1
    return <double>(kept >> 1)


cdef double exact_sum(const ExactMoments* total) noexcept nogil:
    cdef Whole whole
    cdef int sign, exponent
    cdef double found
    if total.n_nan or (total.n_positive and total.n_negative):
        return NAN
    if total.n_positive or total.n_negative:
        return INFINITY if total.n_positive else -INFINITY
    if total.sum.high == 0:
        return 0.0
    sign = carried(&whole, total.sum.digits, total.sum.low, total.sum.high)
    found = rounded(&whole, &exponent, -32 * total.sum.low)
    return sign * ldexp(found, exponent + 32 * total.sum.low - 1074)


cdef void times_small(Whole* whole, uint64_t factor) noexcept nogil:
    # factor < 2**31
    cdef int i
    cdef uint64_t carry = 0
    for i in range(whole.n):
        carry += whole.digits[i] * factor
        whole.digits[i] = <uint32_t>carry
        carry >>= 32
    if carry:
        whole.digits[whole.n] = <uint32_t>carry
        whole.n += 1


cdef void squared_of(Whole* out, const Whole* whole) noexcept nogil:
    cdef int i, k
    cdef uint64_t carry
    out.n = 2 * whole.n
    memset(out.digits, 0, out.n * sizeof(uint32_t))
    for i in range(whole.n):
        carry = 0
        for k in range(whole.n):
            carry += <uint64_t>whole.digits[i] * whole.digits[k] + out.digits[i + k]
            out.digits[i + k] = <uint32_t>carry
            carry >>= 32
        out.digits[i + whole.n] = <uint32_t>carry


cdef void less(Whole* whole, const Whole* other, int places) noexcept nogil:
    """Take `other`, whose lowest digit stands at `places` of `whole`, away; the result is not negative."""
    cdef int i
    cdef int64_t borrowed = 0
    for i in range(places, whole.n):
        borrowed += whole.digits[i]
        if i - places < other.n:
            borrowed -= other.digits[i - places]
        whole.digits[i] = <uint32_t><uint64_t>borrowed
        borrowed >>= 32
    while whole.n > 0 and whole.digits[whole.n - 1] == 0:
        whole.n -= 1


cdef double exact_variance(const ExactMoments* total, int64_t ddof) noexcept nogil:
    """(n * sum of squares - square of the sum) / (n * (n - ddof)): exact up to the division."""
    cdef Whole whole, squares, square
    cdef int exponent, shift, base = 0
    cdef double found
    if total.n_nan or total.n_positive or total.n_negative:
        return NAN
    if total.squares.high == 0:
        return 0.0
    carried(&whole, total.sum.digits, total.sum.low, total.sum.high)
    squared_of(&square, &whole)
    carried(&squares, total.squares.digits, total.squares.low, total.squares.high)
    times_small(&squares, <uint64_t>total.n)
    # Digit i of a square stands for 2**(32 i + 64 low - 2148), of the squares for 2**(32 (i + low) - 2148).
    base = min(2 * total.sum.low, total.squares.low)
    shift = total.squares.low - base
    if shift > 0:
        move_up(&squares, shift)
    less(&squares, &square, 2 * total.sum.low - base)
    found = rounded(&squares, &exponent, -100000)
    return ldexp(found / (<double>total.n * <double>(total.n - ddof)), exponent + 32 * base - 2148)


cdef void move_up(Whole* whole, int places) noexcept nogil:
    cdef int i
    for i in range(whole.n - 1, -1, -1):
        whole.digits[i + places] = whole.digits[i]
    memset(whole.digits, 0, places * sizeof(uint32_t))
    whole.n += places
