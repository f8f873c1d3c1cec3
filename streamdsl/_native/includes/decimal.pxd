"""Decimals: 128-bit whole numbers whose scale the column's type knows. No magnitude reaches 10**38.

What does not fit is told by False; nothing wraps. Products and quotients are formed with 256 bits and rounded once.
"""
from libc.stdint cimport int64_t

cdef extern from * nogil:
    """
    #ifndef SD_DECIMAL
    #define SD_DECIMAL
    #include <stdint.h>
    #include <string.h>

    /* Arrow's buffers are aligned to eight bytes at least. */
    typedef __int128 sd_i128 __attribute__((aligned(8)));
    typedef unsigned __int128 sd_u128;

    #define SD_E19 ((sd_u128)10000000000000000000ULL)
    static inline sd_u128 sd_ten_to(int64_t n) {        /* 0 <= n <= 38 */
        static const uint64_t TENS[20] = {
            1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL, 1000000000ULL,
            10000000000ULL, 100000000000ULL, 1000000000000ULL, 10000000000000ULL, 100000000000000ULL, 1000000000000000ULL,
            10000000000000000ULL, 100000000000000000ULL, 1000000000000000000ULL, 10000000000000000000ULL};
        return n < 20 ? (sd_u128)TENS[n] : SD_E19 * (sd_u128)TENS[n - 19];
    }
    static inline sd_u128 sd_magnitude(sd_i128 v) { return v < 0 ? (sd_u128)0 - (sd_u128)v : (sd_u128)v; }
    static inline int sd_dec_fits(sd_i128 v, int64_t digits) { return sd_magnitude(v) < sd_ten_to(digits); }
    static inline int sd_dec_add(sd_i128 a, sd_i128 b, sd_i128 *out) {
        __int128 s;
        if (__builtin_add_overflow((__int128)a, (__int128)b, &s)) return 0;
        *out = s;
        return 1;
    }
    static inline int sd_dec_sub(sd_i128 a, sd_i128 b, sd_i128 *out) {
        __int128 s;
        if (__builtin_sub_overflow((__int128)a, (__int128)b, &s)) return 0;
        *out = s;
        return 1;
    }
    static inline int sd_dec_mul(sd_i128 a, sd_i128 b, sd_i128 *out) {
        sd_u128 x = sd_magnitude(a), y = sd_magnitude(b), limit = sd_ten_to(38);
        if (x != 0 && y > (limit - 1) / x) return 0;
        *out = (a < 0) != (b < 0) ? -(sd_i128)(x * y) : (sd_i128)(x * y);
        return 1;
    }
    /* a * 10**n; where that has more than 38 digits, the result is 0. */
    static inline int sd_dec_shift(sd_i128 a, int64_t n, sd_i128 *out) { return sd_dec_mul(a, (sd_i128)sd_ten_to(n), out); }

    /* Magnitudes: x * y / z, rounded half to even; 0 if the quotient does not fit 128 bits. */
    static inline int sd_mul_div(sd_u128 x, sd_u128 y, sd_u128 z, sd_u128 *out) {
        sd_u128 high, low, quotient = 0, rest;
        uint64_t x0 = (uint64_t)x, x1 = (uint64_t)(x >> 64), y0 = (uint64_t)y, y1 = (uint64_t)(y >> 64);
        sd_u128 p00 = (sd_u128)x0 * y0, p01 = (sd_u128)x0 * y1, p10 = (sd_u128)x1 * y0, p11 = (sd_u128)x1 * y1;
        sd_u128 middle = (p00 >> 64) + (uint64_t)p01 + (uint64_t)p10;
        int i;
        low = (middle << 64) | (uint64_t)p00;
        high = p11 + (p01 >> 64) + (p10 >> 64) + (middle >> 64);
        if (high >= z) return 0;
        if (high == 0) {
            quotient = low / z;
            rest = low % z;
        } else {
            rest = high;                    /* below z, and z is below 2**127: doubling it never overflows */
            for (i = 127; i >= 0; i--) {
                rest = (rest << 1) | ((low >> i) & 1);
                quotient <<= 1;
                if (rest >= z) {
                    rest -= z;
                    quotient |= 1;
                }
            }
        }
        rest <<= 1;
        quotient += rest > z || (rest == z && (quotient & 1));
        *out = quotient;
        return 1;
    }
    /* a * 10**up / b, b not 0, rounded half to even. */
    static inline int sd_dec_quotient(sd_i128 a, int64_t up, sd_i128 b, sd_i128 *out) {
        sd_u128 q;
        if (!sd_mul_div(sd_magnitude(a), sd_ten_to(up), sd_magnitude(b), &q) || q >= sd_ten_to(38)) return 0;
        *out = (a < 0) != (b < 0) ? -(sd_i128)q : (sd_i128)q;
        return 1;
    }
    static inline int sd_dec_compare(sd_i128 a, sd_i128 b) { return (a > b) - (a < b); }
    static inline sd_i128 sd_dec_of(int64_t high, uint64_t low) { return (sd_i128)(((sd_u128)(uint64_t)high << 64) | low); }
    static inline int64_t sd_dec_high(sd_i128 v) { return (int64_t)(v >> 64); }
    static inline uint64_t sd_dec_low(sd_i128 v) { return (uint64_t)v; }
    static inline sd_i128 sd_dec_load(const void *at) { sd_i128 v; memcpy(&v, at, 16); return v; }
    static inline void sd_dec_store(void *at, sd_i128 v) { memcpy(at, &v, 16); }

    /* Sums in 192 bits, in 24 bytes of memory: they do not overflow. */
    static inline void sd_wide_put(void *at, sd_u128 low, int64_t high) {
        memcpy(at, &low, 16);
        memcpy((char *)at + 16, &high, 8);
    }
    static inline void sd_wide_add(void *at, sd_i128 v, int64_t v_high) {
        sd_u128 low, sum; int64_t high;
        memcpy(&low, at, 16);
        memcpy(&high, (char *)at + 16, 8);
        sum = low + (sd_u128)v;
        sd_wide_put(at, sum, high + v_high + (sum < low));
    }
    static inline void sd_wide_add_decimal(void *at, sd_i128 v) { sd_wide_add(at, v, v < 0 ? -1 : 0); }
    static inline void sd_wide_merge(void *at, const void *other) {
        sd_i128 low; int64_t high;
        memcpy(&low, other, 16);
        memcpy(&high, (const char *)other + 16, 8);
        sd_wide_add(at, low, high);
    }
    static inline int sd_wide_decimal(const void *at, sd_i128 *out) {
        sd_i128 low; int64_t high;
        memcpy(&low, at, 16);
        memcpy(&high, (const char *)at + 16, 8);
        *out = low;
        return high == (low < 0 ? -1 : 0) && sd_dec_fits(low, 38);
    }
    #endif
    """
    ctypedef long long int128 "sd_i128"      # the compiler knows its width; never let Cython convert it to or from Python
    ctypedef unsigned long long uint128 "sd_u128"
    uint128 ten_to "sd_ten_to"(int64_t n) noexcept
    uint128 magnitude "sd_magnitude"(int128 value) noexcept
    bint dec_fits "sd_dec_fits"(int128 value, int64_t digits) noexcept
    bint dec_add "sd_dec_add"(int128 a, int128 b, int128* out) noexcept
    bint dec_sub "sd_dec_sub"(int128 a, int128 b, int128* out) noexcept
    bint dec_mul "sd_dec_mul"(int128 a, int128 b, int128* out) noexcept
    bint dec_shift "sd_dec_shift"(int128 a, int64_t n, int128* out) noexcept
    bint dec_quotient "sd_dec_quotient"(int128 a, int64_t up, int128 b, int128* out) noexcept
    int dec_compare "sd_dec_compare"(int128 a, int128 b) noexcept
    int128 dec_of "sd_dec_of"(int64_t high, unsigned long long low) noexcept
    int64_t dec_high "sd_dec_high"(int128 value) noexcept
    unsigned long long dec_low "sd_dec_low"(int128 value) noexcept
    int128 dec_load "sd_dec_load"(const void* at) noexcept
    void dec_store "sd_dec_store"(void* at, int128 value) noexcept
    # `at`: 24 bytes, zero at first.
    void wide_add "sd_wide_add_decimal"(void* at, int128 value) noexcept
    void wide_merge "sd_wide_merge"(void* at, const void* other) noexcept
    bint wide_decimal "sd_wide_decimal"(const void* at, int128* out) noexcept        # whether it has at most 38 digits
