"""Short strings as two words: they hash, compare and copy without a loop or a branch on their length.

Lengths in real columns vary from row to row, so whatever branches on them is mispredicted. Up to 16 bytes are read as two
words, and what lies behind the string is masked away; so 16 bytes must be readable, which the caller tells by `end`, the end
of the column's bytes. The last strings of a column are copied first.
"""
from libc.stdint cimport int64_t, uint64_t

cdef extern from * nogil:
    """
    #ifndef SD_SHORT_TEXT
    #define SD_SHORT_TEXT
    #include <stdint.h>
    #include <string.h>

    typedef struct { uint64_t low, high; } sd_words_t;

    static inline sd_words_t sd_words(const char *p, int64_t size, const char *end) {
        static const uint64_t MASKS[9] = {0, 0xff, 0xffff, 0xffffff, 0xffffffffULL, 0xffffffffffULL, 0xffffffffffffULL,
                                          0xffffffffffffffULL, 0xffffffffffffffffULL};
        sd_words_t words = {0, 0};
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        if (end - p >= 16) {
            memcpy(&words, p, 16);
            words.low &= MASKS[size < 8 ? size : 8];
            words.high &= MASKS[size > 8 ? size - 8 : 0];
            return words;
        }
    #endif
        (void)MASKS;
        memcpy(&words, p, (size_t)size);
        return words;
    }

    static inline uint64_t sd_hash_words(sd_words_t words, int64_t size) {
        uint64_t h = (words.low ^ (uint64_t)size) * 0x9E3779B97F4A7C15ULL;
        h ^= (words.high ^ (h >> 32)) * 0xd6e8feb86659fd93ULL;
        return h ^ (h >> 32);
    }

    static inline int sd_same_text(const char *a, int64_t a_size, const char *a_end, const char *b, int64_t b_size,
                                   const char *b_end) {
        sd_words_t x, y;
        if (a_size != b_size) return 0;
        if (a_size > 16) return memcmp(a, b, (size_t)a_size) == 0;
        x = sd_words(a, a_size, a_end);
        y = sd_words(b, b_size, b_end);
        return ((x.low ^ y.low) | (x.high ^ y.high)) == 0;
    }

    /* 16 bytes must be writable at target, whatever the size. */
    static inline void sd_copy_text(char *target, const char *p, int64_t size, const char *end) {
        if (size <= 16 && end - p >= 16) { sd_words_t words; memcpy(&words, p, 16); memcpy(target, &words, 16); }
        else memcpy(target, p, (size_t)size);
    }

    /* 0 < size <= 16; both sides have room for the size rounded up to a multiple of 8. */
    static inline void sd_copy_eights(char *target, const char *p, int64_t size) {
        const int64_t last = (size - 1) & 8;
        uint64_t first, second;
        memcpy(&first, p, 8);
        memcpy(&second, p + last, 8);
        memcpy(target, &first, 8);
        memcpy(target + last, &second, 8);
    }
    #endif
    """
    ctypedef struct Words "sd_words_t":
        uint64_t low
        uint64_t high
    Words words_of "sd_words"(const char* data, int64_t size, const char* end) noexcept    # size <= 16
    uint64_t hash_words "sd_hash_words"(Words words, int64_t size) noexcept
    bint same_text "sd_same_text"(const char* a, int64_t a_size, const char* a_end, const char* b, int64_t b_size,
                                  const char* b_end) noexcept
    void copy_eights "sd_copy_eights"(char* target, const char* data, int64_t size) noexcept
    void copy_text "sd_copy_text"(char* target, const char* data, int64_t size, const char* end) noexcept
