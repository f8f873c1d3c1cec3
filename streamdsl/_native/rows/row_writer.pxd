"""What user code returns, as typed columns of an output schema."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch, Buffer, Column, StringBuilder
from streamdsl._native.rows.row cimport RowShape

cdef struct ColumnBuilder:
    int code                                 # VALUE_*, with its detail
    int kind                                 # KIND_*
    bint nullable
    int source                               # hidden columns: the input column they are taken from, -1 = null
    bint hidden
    bint narrow                              # float32
    int64_t low                              # range of the declared integer type
    int64_t high
    Buffer* values                           # every kind but KIND_STR
    Buffer* valid                            # NULL until the first null
    StringBuilder strings                    # KIND_STR


cdef class RowWriter:
    cdef readonly RowShape shape
    cdef str operator                        # its name, for errors
    cdef ColumnBuilder* columns
    cdef int width                           # columns of the shape
    cdef tuple types                         # names of the declared types, for errors
    cdef tuple converters                    # of the columns of times and nested values: what checks their values
    cdef readonly int n                      # rows waiting
    cdef int capacity
    cdef bint keyed                          # rows carry SYS_SLOT
    cdef bint identity                       # row i stems from input row i
    cdef int32_t* rows                       # input row of each row; -1: none (timers, windows)
    cdef int64_t* times                      # event time, ms
    cdef int64_t* slots                      # slot of the key

    # Appends a row. A row that does not fit the schema leaves no trace and raises BadRow.
    cdef int append(self, object result, int32_t row, int64_t time, int64_t slot) except -1
    cdef int append_values(self, tuple values, int32_t row, int64_t time, int64_t slot) except -1
    cdef void set_time(self, int column, int64_t value) noexcept    # of the last row, whether Python has a date for it or not
    cdef object value_at(self, int column, int row)                 # of a waiting row, as it will be read again
    cdef void truncate(self, int n) noexcept                        # forget rows n ..
    # The waiting rows as a batch, the caller releases it; `source` is the input batch (NULL: rows of no input row).
    cdef Batch* take(self, Batch* source) except NULL
    cdef int start(self) except -1
    cdef int grow(self) except -1
    cdef int put(self, int column, object value) except -1
    cdef int put_text(self, int column, object value) except -1
    cdef int put_null(self, int column) except -1
    cdef int refuse(self, int column, object value, str why=*) except -1
    cdef double exact(self, int column, object value) except? -1    # an integer as the float that equals it
    cdef double narrowed(self, int column, double real, object value) except? -1   # rounded to float32
    cdef object picked(self, object result, int kind, int column)
    cdef int missing(self, int column, object result) except -1
    cdef int end_row(self, int32_t row, int64_t time, int64_t slot) except -1
    cdef int resize_places(self) except -1
    cdef int take_hidden(self, int column, Batch* source, Column* target, bint same) except -1
