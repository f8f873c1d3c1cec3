"""Bounded disorder: W = greatest time seen − disorder − 1."""
from libc.stdint cimport int64_t

cdef struct WatermarkGenerator:
    int64_t max_seen         # ms; INT64_MIN before the first record
    int64_t disorder         # ms
    int64_t watermark        # ms; never goes back
    bint external            # watermarks come from elsewhere

# Looks at times[0 .. n) as if one by one; returns how many belong into this batch: it ends in front of a record that
# is at or below the watermark, if the watermark has advanced since the batch began (promise P5).
cdef int64_t generator_scan(WatermarkGenerator* generator, const int64_t* times, int64_t n) noexcept nogil
