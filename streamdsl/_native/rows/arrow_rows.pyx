"""Whole batches to user code and back, as pyarrow record batches in the declared types."""
from libc.stdint cimport int32_t
from libc.stdlib cimport free, malloc

from streamdsl._native.flow.arrow cimport batch_from_arrow, batch_to_arrow
from streamdsl._native.flow.batch cimport (
    SYS_COUNT, batch_new, batch_release, batch_share, column_fill_null, column_share, column_take,
)
from streamdsl._native.flow.convert import canonical_type, from_canonical, to_canonical
from streamdsl._native.rows.row_results import BadRow

#: A column of this name in what `map_batches` and `process_batch` return says which input row each row stems from.
ROW_COLUMN = "_row"


cdef class ArrowRows:
    """Between batches and what the function of the operator gets and returns."""

    def __init__(self, str operator, input_schema, schema):
        self.operator = operator
        self.input_shape = RowShape(input_schema)
        self.shape = RowShape(schema)
        self.input_columns, self.input_types, self.input_canonical = described(self.input_shape)
        self.columns, self.types, self.canonical = described(self.shape)

    cdef object to_arrow(self, Batch* batch):
        cdef int i
        cdef Batch* narrow = batch_share(batch, len(self.input_columns))
        try:
            for i in range(narrow.width):
                column_share(&narrow.columns[i], &batch.columns[<int>self.input_columns[i]])
            return from_canonical(batch_to_arrow(narrow, self.input_canonical), self.input_types)
        finally:
            batch_release(narrow)

    def checked(self, result):
        """Return what the function returned as a record batch in the declared types, and its column `_row` or None."""
        import pyarrow as pa

        if isinstance(result, pa.Table):
            merged = result.combine_chunks().to_batches()
            result = merged[0] if merged else pa.RecordBatch.from_pylist([], schema=result.schema)
        if not isinstance(result, pa.RecordBatch):
            raise BadRow(f"a batch function returns a pyarrow.RecordBatch, a Table or None, not {type(result).__name__}")
        rows = result.column(ROW_COLUMN) if ROW_COLUMN in result.schema.names and ROW_COLUMN not in self.shape.index else None
        arrays = []
        for field in self.types:
            place = result.schema.get_all_field_indices(field.name)
            if len(place) != 1:
                raise BadRow(f"the batch has {'no' if not place else 'more than one'} column {field.name!r} of the declared "
                             f"output; it has {', '.join(result.schema.names)}", field.name)
            array = result.column(place[0])
            if array.type != field.type:
                if not same_sort(array.type, field.type):
                    raise BadRow(f"the column {field.name!r} is {array.type}, not {field.type}; cast it in the function", field.name)
                try:
                    array = array.cast(field.type)
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                    raise BadRow(f"the column {field.name!r} is {array.type}, not {field.type}: {error}", field.name) from None
            if array.null_count and not field.nullable:
                raise BadRow(f"the column {field.name!r} has nulls, but is declared not null", field.name)
            arrays.append(array)
        for name in result.schema.names:
            if name not in self.shape.index and name != ROW_COLUMN:
                raise BadRow(f"the batch has {self.shape.unknown(name)}", name)
        return pa.RecordBatch.from_arrays(arrays, schema=self.types), rows

    cdef Batch* from_arrow(self, object result, Batch* source) except? NULL:
        cdef Batch* narrow
        cdef Batch* out = NULL
        cdef int32_t* rows = NULL
        cdef int i, k = 0
        if result is None:
            return NULL
        record_batch, origin = self.checked(result)
        if record_batch.num_rows == 0:
            return NULL
        narrow = batch_from_arrow(to_canonical(record_batch, record_batch.schema.types))
        try:
            rows = origins(origin, narrow.n, source.n)
            out = batch_new(narrow.n, self.shape.width)
            out.read_ns = source.read_ns
            for i in range(self.shape.width):
                if self.shape.hidden[i]:
                    self.take_hidden(i, source, rows, out)
                else:
                    column_share(&out.columns[i], &narrow.columns[k])
                    k += 1
            for i in range(SYS_COUNT):
                column_take(&out.sys[i], &source.sys[i], rows, out.n)
            return out
        except BaseException:
            batch_release(out)
            raise
        finally:
            batch_release(narrow)
            free(rows)

    cdef int take_hidden(self, int column, Batch* source, const int32_t* rows, Batch* out) except -1:
        at = self.input_shape.index.get(self.shape.names[column])
        if at is None or self.input_shape.kinds[<int>at] != self.shape.kinds[column]:
            return column_fill_null(&out.columns[column], self.shape.kinds[column], out.n)
        return column_take(&out.columns[column], &source.columns[<int>at], rows, out.n)


cdef tuple described(RowShape shape):
    """Columns that are not hidden: their places, declared types and canonical types."""
    import pyarrow as pa

    columns = [i for i in range(shape.width) if not shape.hidden[i]]
    declared = pa.schema([pa.field(shape.names[i], shape.types[i], shape.nullable[i]) for i in columns])
    canonical = pa.schema([pa.field(shape.names[i], canonical_type(shape.types[i])) for i in columns])
    return columns, declared, canonical


cdef bint same_sort(object found, object declared) except -1:
    """Whether values of one type are values of the other: numbers, texts, bytes, times; a text is never parsed, a boolean no number."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(found):
        found = found.value_type
    if types.is_null(found) or found == declared:
        return True
    sorts = (
        types.is_boolean,
        lambda kind: types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind),
        lambda kind: types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind),
        lambda kind: types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind),
        lambda kind: types.is_timestamp(kind) or types.is_date(kind),
        types.is_nested,
    )
    return any([sort(found) and sort(declared) for sort in sorts])


cdef int32_t* origins(object origin, int32_t n, int32_t n_source) except NULL:
    """The input row of each row: as the column `_row` says, else row by row."""
    cdef int32_t i
    cdef int32_t* rows
    if origin is None and n != n_source:
        raise BadRow(f"the function got {n_source} rows and returned {n}, and nothing says which of them these are: return as many rows "
                     f"in the same order, or add the column {ROW_COLUMN!r} with the number (from 0) of the input row that each stems from; "
                     "filter(...) and flat_map(...) do without", ROW_COLUMN)
    rows = <int32_t*>malloc((n + 1) * sizeof(int32_t))
    if rows == NULL:
        raise MemoryError("no memory left for a batch function")
    if origin is None:
        for i in range(n):
            rows[i] = i
        return rows
    values = origin.to_pylist()
    for i in range(n):
        value = values[i]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < n_source:
            free(rows)
            raise BadRow(f"the column '_row' has {value!r}; it names input rows, 0 to {n_source - 1}", "_row")
        rows[i] = value
    return rows
