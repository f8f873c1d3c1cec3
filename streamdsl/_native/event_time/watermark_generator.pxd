"""Bounded disorder: W = greatest time seen − disorder − 1."""
from libc.stdint cimport int64_t

cdef struct WatermarkGenerator:
    int64_t max_seen         # ms; INT64_MIN before the first record
    int64_t disorder         # ms
    int64_t watermark        # ms; never goes back
    bint external            # watermarks come from elsewhere

# Looks at the rows of times[0 .. n) that are not `bad` (NULL: all), as if one by one; returns how many rows belong into this batch. It
# ends in front of a record that is at or below the watermark, if the watermark has advanced since the batch began (promise P5),
# and in front of the first one that lets the greatest time seen pass `until`.
cdef int64_t generator_scan(WatermarkGenerator* generator, const int64_t* times, const char* bad, int64_t n, int64_t until) noexcept nogil
