"""Loops over the rows of a frame, as C macros: one body makes the loops for vectors, constants and chosen rows.

A macro keeps each loop free of branches, so that the compiler can vectorise it, and the object code small.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from * nogil:
    """
    #ifndef SD_ELEMENTWISE
    #define SD_ELEMENTWISE
    #include <stdint.h>

    typedef void (*sd_unary)(const void* values, void* target, const int32_t* rows, int64_t m);
    typedef void (*sd_binary)(const void* left, int left_constant, const void* right, int right_constant, void* target,
                              const int32_t* rows, int64_t m);
    typedef int64_t (*sd_checked)(const void* left, int left_constant, const void* right, int right_constant, void* target,
                                  const uint8_t* valid, const int32_t* rows, int64_t m);

    #define SD_UNARY(NAME, IN, OUT, EXPRESSION)                                                                     \\
        static void NAME(const void* values, void* target, const int32_t* rows, int64_t m) {                        \\
            const IN* a = (const IN*)values;                                                                        \\
            OUT* restrict out = (OUT*)target;                                                                       \\
            if (rows)                                                                                               \\
                for (int64_t i = 0; i < m; i++) { const IN x = a[rows[i]]; out[rows[i]] = (EXPRESSION); }           \\
            else                                                                                                    \\
                for (int64_t r = 0; r < m; r++) { const IN x = a[r]; out[r] = (EXPRESSION); }                       \\
        }

    #define SD_BINARY(NAME, IN, OUT, EXPRESSION)                                                                    \\
        static void NAME(const void* left, int lc, const void* right, int rc, void* target, const int32_t* rows,    \\
                         int64_t m) {                                                                               \\
            const IN* a = (const IN*)left;                                                                          \\
            const IN* b = (const IN*)right;                                                                         \\
            OUT* restrict out = (OUT*)target;                                                                       \\
            if (rows)                                                                                               \\
                for (int64_t i = 0; i < m; i++) {                                                                   \\
                    const int32_t r = rows[i];                                                                      \\
                    const IN x = a[lc ? 0 : r], y = b[rc ? 0 : r];                                                  \\
                    out[r] = (EXPRESSION);                                                                          \\
                }                                                                                                   \\
            else if (rc) {                                                                                          \\
                const IN y = b[0];                                                                                  \\
                for (int64_t r = 0; r < m; r++) { const IN x = a[lc ? 0 : r]; out[r] = (EXPRESSION); }              \\
            } else if (lc) {                                                                                        \\
                const IN x = a[0];                                                                                  \\
                for (int64_t r = 0; r < m; r++) { const IN y = b[r]; out[r] = (EXPRESSION); }                       \\
            } else                                                                                                  \\
                for (int64_t r = 0; r < m; r++) { const IN x = a[r], y = b[r]; out[r] = (EXPRESSION); }             \\
        }

    /* WRAPPED is the result modulo 2**64; BAD has its top bit set if that is not the true result. Returns the first row with
       a value that overflowed, or -1. Rows without a value hold anything, so only a second look tells. */
    #define SD_CHECKED(NAME, IN, WRAPPED, BAD, BUILTIN)                                                             \\
        static int64_t NAME(const void* left, int lc, const void* right, int rc, void* target,                      \\
                            const uint8_t* valid, const int32_t* rows, int64_t m) {                                 \\
            const IN* a = (const IN*)left;                                                                          \\
            const IN* b = (const IN*)right;                                                                         \\
            IN* restrict out = (IN*)target;                                                                         \\
            uint64_t bad = 0;                                                                                       \\
            if (rows)                                                                                               \\
                for (int64_t i = 0; i < m; i++) {                                                                   \\
                    const int32_t r = rows[i];                                                                      \\
                    const IN x = a[lc ? 0 : r], y = b[rc ? 0 : r];                                                  \\
                    const IN s = WRAPPED;                                                                           \\
                    bad |= (uint64_t)(BAD); out[r] = s;                                                             \\
                }                                                                                                   \\
            else if (rc) {                                                                                          \\
                const IN y = b[0];                                                                                  \\
                for (int64_t r = 0; r < m; r++) {                                                                   \\
                    const IN x = a[lc ? 0 : r]; const IN s = WRAPPED; bad |= (uint64_t)(BAD); out[r] = s;           \\
                }                                                                                                   \\
            } else                                                                                                  \\
                for (int64_t r = 0; r < m; r++) {                                                                   \\
                    const IN x = a[lc ? 0 : r], y = b[r]; const IN s = WRAPPED; bad |= (uint64_t)(BAD); out[r] = s; \\
                }                                                                                                   \\
            if (!(bad >> 63)) return -1;                                                                            \\
            for (int64_t i = 0; i < m; i++) {                                                                       \\
                const int64_t r = rows ? rows[i] : i;                                                               \\
                IN s;                                                                                               \\
                if ((!valid || valid[r]) && BUILTIN(a[lc ? 0 : r], b[rc ? 0 : r], &s)) return r;                    \\
            }                                                                                                       \\
            return -1;                                                                                              \\
        }
    #endif
    """
    ctypedef void (*Unary "sd_unary")(const void* values, void* target, const int32_t* rows, int64_t m) noexcept nogil
    ctypedef void (*Binary "sd_binary")(
        const void* left, int left_constant, const void* right, int right_constant, void* target,
        const int32_t* rows, int64_t m,
    ) noexcept nogil
    ctypedef int64_t (*Checked "sd_checked")(
        const void* left, int left_constant, const void* right, int right_constant, void* target,
        const uint8_t* valid, const int32_t* rows, int64_t m,
    ) noexcept nogil
