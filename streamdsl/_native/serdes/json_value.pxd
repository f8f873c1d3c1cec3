"""Values as JSON text, into memory that has room for them."""
from libc.stdint cimport int64_t

# A text in quotes: up to 6 * size + 2 bytes. Returns how many.
cdef int64_t put_json_text(const char* data, int64_t size, char* out) noexcept nogil
# As Python's json writes and reads it, with NaN and Infinity: up to NUMBER_ROOM bytes.
cdef int64_t put_json_double(double value, char* out) noexcept nogil
# Bytes as Base64 in quotes: up to 4 * (size // 3 + 1) + 2 bytes.
cdef int64_t put_json_bytes(const char* data, int64_t size, char* out) noexcept nogil
