"""Rows as JSON lines."""
from libc.stdint cimport int64_t

# The text with what JSON escapes, without quotes: up to 6 n bytes. Returns how many.
cdef int64_t escape(const char* text, int64_t n, char* out) noexcept nogil
