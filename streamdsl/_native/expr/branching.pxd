"""Rows that go different ways: and, or, when, coalesce, filters."""
from libc.stdint cimport int16_t, int32_t, int64_t

from streamdsl._native.expr.vector cimport Frame, Vector

# left = left (and | or) right by Kleene's rules, at the rows of `work`; other rows of left stay as they are.
# stop is the value that decides: 0 for and, 1 for or.
cdef int combine_logic(Frame* frame, Frame* work, Vector* left, Vector* right, bint stop) except -1 nogil
# Rows of the frame that are not `stop` (null is not); returns their number.
cdef int64_t rows_undecided(Frame* frame, const Vector* vector, bint stop, int32_t* rows) noexcept nogil
# Split the frame's rows into those where the vector is true (or, for null tests, has a value) and the rest.
# `rest` may be the frame's own rows.
cdef int64_t split_rows(
    Frame* frame, const Vector* vector, bint test_value, int16_t part, int16_t* which, int32_t* taken, int32_t* rest,
) noexcept nogil
# out[row] = parts[which[row]][row] at the rows of the frame.
cdef int merge(Frame* frame, int kind, Vector* parts, int n_parts, const int16_t* which, Vector* out) except -1 nogil
# Filters: mask &= vector (null is 0), all rows; then the rows where it is 1.
cdef void narrow_mask(Frame* frame, const Vector* vector, char* mask) noexcept nogil
cdef int64_t rows_of_mask(const char* mask, int64_t n, int32_t* rows) noexcept nogil
