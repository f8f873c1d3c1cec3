"""What the accumulators of numbers share."""
from libc.stdint cimport int64_t, uint64_t

cdef extern from * nogil:
    """
    #define sd_mul_overflows(a, b, out) __builtin_mul_overflow((a), (b), (out))
    """
    bint mul_overflows "sd_mul_overflows"(int64_t a, int64_t b, int64_t* out) noexcept
    bint unsigned_mul_overflows "sd_mul_overflows"(uint64_t a, uint64_t b, uint64_t* out) noexcept

cdef enum Between:                           # what stands for a place between two values
    NEAREST = 0                              # the nearer one, the upper one in the middle
    LOWER = 1
    HIGHER = 2
    MIDPOINT = 3
    LINEAR = 4


# What stands between two neighbours in order, `part` (0 to 1) of the way from the lower to the higher one.
cdef double value_between(Between how, double low, double high, double part) noexcept nogil
