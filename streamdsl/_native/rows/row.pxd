"""Rows as user code sees them: views into a batch, read when asked for."""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Batch, Column

# What a column's values are in Python (its kind says how they lie in memory). A code is one of these and, in the bits above
# the lowest eight, the unit of a time or the scale of a decimal: see `plain_code` and `detail`.
cdef enum:
    VALUE_BOOL = 0
    VALUE_INT = 1
    VALUE_UINT64 = 2
    VALUE_FLOAT = 3
    VALUE_STR = 4
    VALUE_BYTES = 5
    VALUE_TIMESTAMP = 6    # datetime, UTC
    VALUE_DATE = 7
    VALUE_DURATION = 8     # timedelta
    VALUE_DECIMAL = 9
    VALUE_JSON = 10        # list, struct, map: as parsed from JSON; `RowShape.readers` make Python values of it
    VALUE_WIDE_DECIMAL = 11    # decimal256: kept as text

# Units of times: the detail of VALUE_TIMESTAMP and VALUE_DURATION.
cdef enum:
    UNIT_MS = 0
    UNIT_S = 1
    UNIT_US = 2
    UNIT_NS = 3


cdef class RowShape:
    cdef readonly tuple names                # of all columns, hidden ones included
    cdef readonly tuple visible              # names of the columns that are not hidden
    cdef readonly tuple types                # pyarrow types
    cdef readonly tuple nullable
    cdef readonly tuple hidden
    cdef readonly dict index                 # name -> column
    cdef tuple readers                       # of each column, what makes Python values of parsed JSON or None; None: there is none
    cdef bint shadowed                       # whether a column is called like a method of a row
    cdef int width
    cdef int* codes                          # VALUE_* of each column, with its detail
    cdef int* kinds                          # KIND_* of each column

    cdef object unknown(self, object name)   # the text of an error: known names, the nearest


cdef class Row:
    cdef RowShape shape
    cdef Batch* batch                        # retained; NULL: the row has its `own` values
    cdef int64_t at                          # row of the batch
    cdef tuple own                           # values of all columns, or None

    cdef object value(self, int column)
    cdef void point(self, Batch* batch, int64_t at) noexcept   # releases the old batch, retains the new one

cdef Row row_new(RowShape shape, Batch* batch, int64_t at)
cdef Row row_of_values(RowShape shape, tuple values)
cdef object column_value(int code, const Column* column, int64_t row)   # the Python value; None for null
cdef object timestamp_value(int64_t ms)
cdef object moment_value(int unit, int64_t value)                       # a datetime in UTC
cdef object span_value(int unit, int64_t value)                         # a timedelta
cdef int value_code(str type_text) except -1                            # of the text of a pyarrow type


cdef inline int plain_code(int code) noexcept nogil:
    return code & 0xFF


cdef inline int detail(int code) noexcept nogil:
    return code >> 8
