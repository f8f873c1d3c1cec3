"""Sums of floats, and of their squares, without any rounding: the order of the terms does not matter, nor how they are grouped.

A double is a whole number of 2**-1074, its square one of 2**-2148. A sum holds that number in digits of 32 bits; each digit
has 64 bits of room and a sign of its own, so that adding needs no carry. Zeroed memory is an empty sum.
"""
from libc.stdint cimport int32_t, int64_t

cdef enum:
    SUM_DIGITS = 68
    SQUARE_DIGITS = 136

# Digits outside [low, high) are zero.
cdef struct ExactSum:
    int32_t low
    int32_t high
    int64_t digits[SUM_DIGITS]

cdef struct ExactSquares:
    int32_t low
    int32_t high
    int64_t digits[SQUARE_DIGITS]

# What has no digits is counted.
cdef struct ExactMoments:
    int64_t n                                # terms
    int64_t n_nan
    int64_t n_positive                       # infinities
    int64_t n_negative
    ExactSum sum
    ExactSquares squares                     # only where `squared`: shorter memory will do without


cdef void exact_add(ExactMoments* total, double term, bint squared) noexcept nogil
cdef void exact_withdraw(ExactMoments* total, double term, bint squared) noexcept nogil    # a term that was added before
cdef void exact_carry(ExactMoments* total, bint squared) noexcept nogil     # the same sums in as few and small digits as can be
cdef void exact_merge(ExactMoments* total, const ExactMoments* other, bint squared) noexcept nogil
cdef void exact_clear(ExactMoments* total, bint squared) noexcept nogil     # touches what is not zero only
cdef double exact_sum(const ExactMoments* total) noexcept nogil             # rounded once; IEEE for NaN and infinities
cdef double exact_variance(const ExactMoments* total, int64_t ddof) noexcept nogil      # n > ddof
