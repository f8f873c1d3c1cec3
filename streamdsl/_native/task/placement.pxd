"""Which split a record belongs into, where a source is partitioned by a column."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Column

# The first row whose key belongs into another split than `number` of so many, or -1. Null keys have no place; neither have
# `bad` rows (NULL: there are none).
cdef int64_t first_misplaced(const Column* key, const char* bad, int32_t n, int partitions, int number) noexcept nogil
