"""Hashing and comparing keys, and memory for tables of any size: small C functions, inlined."""
from libc.stdint cimport int32_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    #include <unistd.h>

    static inline uint64_t sd_mix(uint64_t a, uint64_t b) {
        __uint128_t product = (__uint128_t)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    static inline uint64_t sd_read8(const char *p) { uint64_t v; memcpy(&v, p, 8); return v; }
    static inline uint64_t sd_read4(const char *p) { uint32_t v; memcpy(&v, p, 4); return v; }

    /* Multiply-and-fold, 16 bytes a round; seeded, so that nobody can send keys that all collide. */
    static inline uint64_t sd_hash(const char *p, int32_t size, uint64_t seed) {
        const uint64_t s0 = 0x2d358dccaa6c78a5ULL, s1 = 0x8bb84b93962eacc9ULL;
        uint64_t a, b;
        int32_t left = size;
        seed ^= s0;
        if (size <= 16) {
            if (size >= 8) { a = sd_read8(p); b = sd_read8(p + size - 8); }
            else if (size >= 4) { a = sd_read4(p); b = sd_read4(p + size - 4); }
            else if (size > 0) {
                a = ((uint64_t)(uint8_t)p[0] << 16) | ((uint64_t)(uint8_t)p[size >> 1] << 8) | (uint8_t)p[size - 1];
                b = 0;
            } else { a = b = 0; }
        } else {
            while (left > 16) {
                seed = sd_mix(sd_read8(p) ^ s1, sd_read8(p + 8) ^ seed);
                p += 16;
                left -= 16;
            }
            a = sd_read8(p + left - 16);
            b = sd_read8(p + left - 8);
        }
        return sd_mix(s1 ^ (uint64_t)size, sd_mix(a ^ s1, b ^ seed));
    }

    static inline int sd_same(const char *a, const char *b, int32_t size) {
        if (size >= 8 && size <= 16)
            return sd_read8(a) == sd_read8(b) && sd_read8(a + size - 8) == sd_read8(b + size - 8);
        if (size > 16 && size <= 32)
            return sd_read8(a) == sd_read8(b) && sd_read8(a + 8) == sd_read8(b + 8)
                && sd_read8(a + size - 16) == sd_read8(b + size - 16) && sd_read8(a + size - 8) == sd_read8(b + size - 8);
        return size == 0 || memcmp(a, b, (size_t)size) == 0;    /* no bytes may have no address */
    }

    static inline void *sd_aligned_alloc(size_t size) {
        void *block = NULL;
        return posix_memalign(&block, 64, size) ? NULL : block;
    }

    static inline void *sd_huge_alloc(size_t size) {
        void *block = NULL;
        if (posix_memalign(&block, 2097152, size)) return NULL;
    #ifdef MADV_HUGEPAGE
        madvise(block, size, MADV_HUGEPAGE);
    #endif
        return block;
    }

    /* Buffers that come and go: from the system and back to it. malloc would raise its threshold for mapping to the largest
       one that was ever freed, and from then on keep all that size in its arenas. */
    static inline void *sd_map(void *old, size_t old_size, size_t size) {
        void *grown;
    #ifdef MREMAP_MAYMOVE
        if (old) {
            grown = mremap(old, old_size, size, MREMAP_MAYMOVE);
            return grown == MAP_FAILED ? NULL : grown;
        }
    #endif
        grown = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (grown == MAP_FAILED) return NULL;
        if (old) { memcpy(grown, old, old_size < size ? old_size : size); munmap(old, old_size); }
        return grown;
    }
    /* The system may take the memory until it is written to again; then it holds zeros, or what it held. */
    static inline void sd_release(char *at, size_t size) {
    #ifdef MADV_DONTNEED
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        char *first = (char *)(((uintptr_t)at + page - 1) & ~(uintptr_t)(page - 1));
        char *end = (char *)((uintptr_t)(at + size) & ~(uintptr_t)(page - 1));
        if (first < end) madvise(first, (size_t)(end - first), MADV_DONTNEED);
    #endif
    }
    static inline void sd_unmap(void *old, size_t size) { if (old) munmap(old, size); }
    #define sd_prefetch(p) __builtin_prefetch((p), 0, 3)
    #define sd_lowest_bit(bits) __builtin_ctzll(bits)
    """
    enum: CACHE_LINE "64"
    uint64_t hash_bytes "sd_hash"(const char* data, int32_t size, uint64_t seed) noexcept
    bint same_bytes "sd_same"(const char* a, const char* b, int32_t size) noexcept
    void* aligned_alloc "sd_aligned_alloc"(size_t size) noexcept     # at the beginning of a line of the cache
    void* huge_alloc "sd_huge_alloc"(size_t size) noexcept
    void* map_memory "sd_map"(void* old, size_t old_size, size_t size) noexcept      # new, or grown; NULL: there is none
    void unmap_memory "sd_unmap"(void* old, size_t size) noexcept
    void release_memory "sd_release"(char* at, size_t size) noexcept
    int lowest_bit "sd_lowest_bit"(uint64_t bits) noexcept             # of those that are one; there is one
    void prefetch "sd_prefetch"(const void* address) noexcept
