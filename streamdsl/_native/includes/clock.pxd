"""The monotonic clock, without the GIL."""
from libc.stdint cimport int64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <time.h>
    static int64_t sd_monotonic_ns(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec; }
    static int64_t sd_wall_ms(void) {
        struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000; }
    static void sd_sleep_ns(int64_t ns) {
        struct timespec t = { ns / 1000000000, ns % 1000000000 }; nanosleep(&t, 0); }
    """
    int64_t monotonic_ns "sd_monotonic_ns"() noexcept
    int64_t wall_ms "sd_wall_ms"() noexcept
    void sleep_ns "sd_sleep_ns"(int64_t ns) noexcept
