"""A sum of floats in 128 bits, without any rounding, as long as its terms are of magnitudes that let it.

It is a whole number of units of 2**exponent. Zeroed memory is an empty sum.
"""
from libc.stdint cimport int32_t

cdef extern from * nogil:
    """
    #ifndef SD_FLOAT_SUM
    #define SD_FLOAT_SUM
    #include <math.h>
    #include <stdint.h>
    #include <string.h>

    typedef struct {
        char units[16];                     /* __int128 */
        int32_t exponent;
        int32_t unused;
    } sd_float_sum;

    #define SD_FLOAT_SUM_BITS 124           /* of the magnitude of the units; and of that of a term in units */
    #define SD_FLOAT_SUM_MOST 840           /* of the exponent, so that every part of the units is a finite double */
    #define SD_FLOAT_SUM_PARTS 3            /* of 42 bits */

    static inline int sd_float_sum_bits(unsigned __int128 v) {
        uint64_t high = (uint64_t)(v >> 64), low = (uint64_t)v;
        return high ? 128 - __builtin_clzll(high) : low ? 64 - __builtin_clzll(low) : 0;
    }
    static inline unsigned __int128 sd_float_sum_magnitude(__int128 v) {
        return v < 0 ? -(unsigned __int128)v : (unsigned __int128)v;
    }
    /* Add units of 2**at. 0: they do not fit, and nothing has changed. */
    static inline int sd_float_sum_put(sd_float_sum *sum, __int128 units, int at) {
        __int128 total;
        int shift;
        memcpy(&total, sum->units, 16);
        if (total == 0) {
            sum->exponent = at;
            memcpy(sum->units, &units, 16);
            return 1;
        }
        shift = at - sum->exponent;
        if (shift < 0) {
            if (sd_float_sum_bits(sd_float_sum_magnitude(total)) - shift > SD_FLOAT_SUM_BITS) return 0;
            total = (__int128)((unsigned __int128)total << -shift);
        } else {
            if (sd_float_sum_bits(sd_float_sum_magnitude(units)) + shift > SD_FLOAT_SUM_BITS) return 0;
            units = (__int128)((unsigned __int128)units << shift);
        }
        total += units;
        if (sd_float_sum_magnitude(total) >> SD_FLOAT_SUM_BITS) return 0;
        if (shift < 0) sum->exponent = at;
        memcpy(sum->units, &total, 16);
        return 1;
    }
    static inline int sd_float_sum_add(sd_float_sum *sum, double term, int sign) {
        uint64_t bits, mantissa;
        int exponent, zeros;
        memcpy(&bits, &term, 8);
        exponent = (int)((bits >> 52) & 0x7ff);
        mantissa = bits & 0xfffffffffffffULL;
        if (exponent == 0x7ff) return 0;
        if (exponent) mantissa |= 1ULL << 52;
        else exponent = 1;
        if (mantissa == 0) return 1;
        zeros = __builtin_ctzll(mantissa);
        exponent += zeros - 1075;
        if (exponent > SD_FLOAT_SUM_MOST) return 0;
        mantissa >>= zeros;
        return sd_float_sum_put(sum, (bits >> 63) == (sign < 0) ? (__int128)mantissa : -(__int128)mantissa, exponent);
    }
    static inline int sd_float_sum_merge(sd_float_sum *sum, const sd_float_sum *other) {
        __int128 units;
        memcpy(&units, other->units, 16);
        return units == 0 || sd_float_sum_put(sum, units, other->exponent);
    }
    static inline double sd_float_sum_value(const sd_float_sum *sum) {
        __int128 units;
        memcpy(&units, sum->units, 16);
        return ldexp((double)units, sum->exponent);
    }
    static inline void sd_float_sum_split(const sd_float_sum *sum, double *parts) {
        __int128 units;
        unsigned __int128 rest;
        int i;
        memcpy(&units, sum->units, 16);
        rest = sd_float_sum_magnitude(units);
        for (i = 0; i < SD_FLOAT_SUM_PARTS; i++) {
            parts[i] = ldexp((double)(uint64_t)(rest & ((1ULL << 42) - 1)), sum->exponent + 42 * i);
            if (units < 0) parts[i] = -parts[i];
            rest >>= 42;
        }
    }
    #endif
    """
    ctypedef struct FloatSum "sd_float_sum":
        int32_t exponent

    enum:
        FLOAT_SUM_PARTS "SD_FLOAT_SUM_PARTS"

    bint float_sum_add "sd_float_sum_add"(FloatSum* sum, double term, int sign) noexcept        # sign -1: take a term out again
    bint float_sum_merge "sd_float_sum_merge"(FloatSum* sum, const FloatSum* other) noexcept
    double float_sum_value "sd_float_sum_value"(const FloatSum* sum) noexcept                   # rounded once
    void float_sum_split "sd_float_sum_split"(const FloatSum* sum, double* parts) noexcept      # doubles whose sum it is
    # add, merge: False if 128 bits do not hold the sum, or the term is not finite; nothing has changed then.
