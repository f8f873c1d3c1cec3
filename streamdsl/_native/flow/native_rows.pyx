"""See native_rows.pxd."""
from array import array

from cpython.array cimport array as Array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from streamdsl._native.flow.arrow cimport batch_to_arrow
from streamdsl._native.flow.batch cimport (
    KIND_I64, KIND_STR, Batch, Column, batch_release, batch_share, batch_slice, column_alloc, column_share, i64,
)


cdef NativeRows wrap_rows(Batch* batch, object schema):
    cdef NativeRows rows = NativeRows.__new__(NativeRows)
    rows.batch, rows.schema = batch, schema
    return rows


cdef int fill_numbers(Column* out, object numbers, int32_t n) except -1:
    """`numbers`: an array of int64, or the one number of all rows."""
    cdef int64_t number
    cdef int32_t row
    column_alloc(out, KIND_I64, n, 0)
    if isinstance(numbers, array):
        if (<Array>numbers).typecode != "q" or len(numbers) != n:
            raise ValueError(f"{len(numbers)} numbers of type {(<Array>numbers).typecode!r} for {n} rows")
        memcpy(out.values, (<Array>numbers).data.as_longlongs, 8 * n)
        return 0
    number = numbers
    for row in range(n):
        i64(out)[row] = number
    return 0


cdef int fill_text(Column* out, bytes text, int32_t n) except -1:
    cdef int64_t size = PyBytes_GET_SIZE(text)
    cdef int32_t row
    column_alloc(out, KIND_STR, n, n * size)
    for row in range(n):
        memcpy(out.values + row * size, PyBytes_AS_STRING(text), size)
        out.offsets[row + 1] = <int32_t>((row + 1) * size)
    return 0


cdef class NativeRows:
    """Rows that become a `pa.RecordBatch` where one is asked for: of a few rows, that takes longer than what is done with them.

    It has `num_rows`, `schema` and `slice` itself; whatever else a record batch has is asked of the one that is made then.
    """

    def __init__(self):
        raise TypeError("native rows are made by a decoder")

    def __dealloc__(self):
        batch_release(self.batch)

    def __getattr__(self, str name):
        return getattr(self.to_arrow(), name)

    @property
    def num_rows(self):
        """Number of rows."""
        return self.batch.n

    def to_arrow(self):
        """Return the rows as a `pa.RecordBatch`."""
        if self.made is None:
            self.made = batch_to_arrow(self.batch, self.schema)
        return self.made

    def slice(self, int32_t offset=0, length=None):
        """Return `length` rows from `offset` on (default: all), without copying them."""
        cdef int32_t n = self.batch.n - offset if length is None else length
        if not (0 <= offset and 0 <= n and offset + n <= self.batch.n):
            raise IndexError(f"rows {offset} to {offset + n} of {self.batch.n}")
        return wrap_rows(batch_slice(self.batch, offset, n), self.schema)

    def with_columns(self, list inserted, schema):
        """Return the rows with more columns.

        Parameters
        ----------
        inserted : list of (int, value)
            Where a column is put, the first one first; and what it holds: ``array('q')``, or the number or text (as bytes) of all rows.
        schema : pa.Schema
            Of the result.
        """
        cdef int place, own = 0, width = self.batch.width + <int>len(inserted)
        cdef Batch* batch = batch_share(self.batch, width)
        cdef NativeRows rows = wrap_rows(batch, schema)
        values = dict(inserted)
        for place in range(width):
            value = values.get(place)
            if value is None and own == self.batch.width:
                raise ValueError(f"columns at {[place for place, _ in inserted]} do not fit {width} columns")
            if value is None:
                column_share(&batch.columns[place], &self.batch.columns[own])
                own += 1
            elif isinstance(value, bytes):
                fill_text(&batch.columns[place], value, batch.n)
            else:
                fill_numbers(&batch.columns[place], value, batch.n)
        return rows
