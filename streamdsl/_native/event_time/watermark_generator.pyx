"""Bounded disorder, one generator for each split."""
from libc.stdint cimport INT64_MIN
from streamdsl._native.includes.checked cimport PLANTED


cdef int64_t generator_scan(WatermarkGenerator* generator, const int64_t* times, const char* bad, int64_t n, int64_t until) noexcept nogil:
    cdef int64_t i, t, at_start = generator.watermark
    cdef int64_t floor = INT64_MIN + generator.disorder + 1      # below it the subtraction would wrap
    for i in range(n):
        if bad != NULL and bad[i]:
            continue
        t = times[i]
        if t > until:
            return i
        if generator.external:
            generator.max_seen = max(generator.max_seen, t)
            continue
        if t <= generator.watermark and generator.watermark > at_start and not PLANTED("batch-not-cut"):
            return i
        if t > generator.max_seen:
            generator.max_seen = t
            if t >= floor and t - generator.disorder - 1 > generator.watermark:
                generator.watermark = t - generator.disorder - 1
    return n
