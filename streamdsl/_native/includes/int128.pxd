"""Sums of 64-bit integers in 128 bits, in 16 bytes of memory: they do not overflow."""
from libc.stdint cimport int64_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>

    static inline void sd_i128_add(void* at, int64_t value) {
        __int128 total; memcpy(&total, at, 16); total += value; memcpy(at, &total, 16);
    }
    static inline void sd_u128_add(void* at, uint64_t value) {
        __int128 total; memcpy(&total, at, 16); total += value; memcpy(at, &total, 16);
    }
    static inline void sd_i128_merge(void* at, const void* other) {
        __int128 total, more; memcpy(&total, at, 16); memcpy(&more, other, 16); total += more; memcpy(at, &total, 16);
    }
    static inline double sd_i128_as_double(const void* at) {
        __int128 total; memcpy(&total, at, 16); return (double)total;
    }
    static inline int sd_i128_fits(const void* at, int is_unsigned) {
        __int128 total; memcpy(&total, at, 16);
        return is_unsigned ? total >= 0 && total <= UINT64_MAX : total >= INT64_MIN && total <= INT64_MAX;
    }
    """
    void i128_add "sd_i128_add"(void* at, int64_t value) noexcept
    void u128_add "sd_u128_add"(void* at, uint64_t value) noexcept
    void i128_merge "sd_i128_merge"(void* at, const void* other) noexcept
    double i128_as_double "sd_i128_as_double"(const void* at) noexcept        # rounded once
    bint i128_fits "sd_i128_fits"(const void* at, bint is_unsigned) noexcept  # in 64 bits
