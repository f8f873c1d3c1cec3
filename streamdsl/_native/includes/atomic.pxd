"""Atomic counters: GCC and Clang builtins, sequentially consistent."""
from libc.stdint cimport int64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #define sd_atomic_add(p, d) __atomic_add_fetch((p), (d), __ATOMIC_SEQ_CST)
    #define sd_atomic_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define sd_atomic_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    """
    int64_t atomic_add "sd_atomic_add"(int64_t* counter, int64_t delta) noexcept
    int64_t atomic_load "sd_atomic_load"(int64_t* counter) noexcept
    void atomic_store "sd_atomic_store"(int64_t* counter, int64_t value) noexcept
