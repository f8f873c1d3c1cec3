"""See arrow.pxd for what each function promises."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset, strcmp

import pyarrow as pa

from streamdsl._native.flow.batch cimport (
    KIND_BOOL,
    KIND_DEC,
    KIND_F64,
    KIND_I64,
    KIND_NONE,
    KIND_STR,
    KIND_U64,
    SYS_COUNT,
    Buffer,
    batch_new,
    batch_release,
    batch_slice,
    batch_take,
    buffer_new,
    buffer_release,
    buffer_retain,
    column_alloc,
    column_clear,
    column_share,
)

cdef char NOTHING[16]                        # where empty columns point
memset(NOTHING, 0, sizeof(NOTHING))


# From Arrow --------------------------------------------------------------------------------------------------


cdef void release_foreign(void* owner) noexcept nogil:
    cdef ArrowArray* array = <ArrowArray*>owner
    if array.release != NULL:
        array.release(array)
    free(array)


cdef Buffer* adopt(ArrowArray* array) except NULL:
    """Move the array out of its capsule into a buffer that owns it."""
    cdef Buffer* buffer = buffer_new(0)
    cdef ArrowArray* moved = <ArrowArray*>malloc(sizeof(ArrowArray))
    if moved == NULL:
        buffer_release(buffer)
        raise MemoryError("no memory left for an Arrow array")
    moved[0] = array[0]
    array.release = NULL
    buffer.owner = moved
    buffer.release = release_foreign
    return buffer


cdef int64_t spread_bits(const uint8_t* bits, int64_t offset, int64_t n, uint8_t* out) noexcept nogil:
    """One byte for each bit; returns the number of ones."""
    cdef int64_t i = 0, ones = 0
    cdef uint8_t byte
    while i < n and (offset + i) & 7:
        out[i] = bits[(offset + i) >> 3] >> ((offset + i) & 7) & 1
        ones += out[i]
        i += 1
    while i + 8 <= n:
        byte = bits[(offset + i) >> 3]
        out[i] = byte & 1
        out[i + 1] = byte >> 1 & 1
        out[i + 2] = byte >> 2 & 1
        out[i + 3] = byte >> 3 & 1
        out[i + 4] = byte >> 4 & 1
        out[i + 5] = byte >> 5 & 1
        out[i + 6] = byte >> 6 & 1
        out[i + 7] = byte >> 7
        ones += out[i] + out[i + 1] + out[i + 2] + out[i + 3] + out[i + 4] + out[i + 5] + out[i + 6] + out[i + 7]
        i += 8
    while i < n:
        out[i] = bits[(offset + i) >> 3] >> ((offset + i) & 7) & 1
        ones += out[i]
        i += 1
    return ones


cdef int import_valid(Column* out, const ArrowArray* array, int64_t offset, int64_t n) except -1:
    cdef Buffer* valid
    if array.null_count == 0 or array.buffers[0] == NULL or n == 0:
        return 0
    valid = buffer_new(n)
    if spread_bits(<const uint8_t*>array.buffers[0], offset, n, <uint8_t*>valid.data) == n:
        buffer_release(valid)                # the nulls are outside this slice
    else:
        out.valid_buffer = valid
        out.valid = <uint8_t*>valid.data
    return 0


cdef int import_strings(Column* out, const ArrowArray* array, int64_t offset, int64_t n, Buffer* owner) except -1:
    out.kind = KIND_STR
    out.values = <char*>array.buffers[2] if array.buffers[2] != NULL else NOTHING
    out.values_buffer = owner
    buffer_retain(owner)
    if n == 0:
        # Arrow allows an empty array to have no offsets at all.
        out.offsets = <int32_t*>NOTHING
        return 0
    out.offsets = <int32_t*>array.buffers[1] + offset
    out.offsets_buffer = owner
    buffer_retain(owner)
    return 0


cdef bint is_decimal128(const char* format) noexcept:
    """d:precision,scale; other widths have a third number."""
    cdef int commas = 0
    while format[0] != 0:
        commas += format[0] == c","
        format += 1
    return commas == 1


cdef int import_column(Column* out, const ArrowArray* array, const char* format, int64_t extra_offset, int64_t n, Buffer* owner) except -1:
    """Fill `out`, or return 1 if the format is not canonical."""
    cdef int64_t offset = array.offset + extra_offset
    cdef char code = format[0]
    memset(out, 0, sizeof(Column))
    if code == 0 or array.dictionary != NULL:
        return 1
    if code == c"d":
        if not is_decimal128(format):
            return 1
        out.kind = KIND_DEC
        out.values = <char*>array.buffers[1] + 16 * offset if array.buffers[1] != NULL else NOTHING
        out.values_buffer = owner
        buffer_retain(owner)
        import_valid(out, array, offset, n)
        return 0
    if format[1] != 0:
        return 1
    if code == c"u" or code == c"z":
        import_strings(out, array, offset, n, owner)
    elif code == c"b":
        column_alloc(out, KIND_BOOL, n, 0)
        if n > 0:
            spread_bits(<const uint8_t*>array.buffers[1], offset, n, <uint8_t*>out.values)
    elif code == c"l" or code == c"L" or code == c"g":
        out.kind = KIND_I64 if code == c"l" else (KIND_U64 if code == c"L" else KIND_F64)
        out.values = <char*>array.buffers[1] + 8 * offset if array.buffers[1] != NULL else NOTHING
        out.values_buffer = owner
        buffer_retain(owner)
    else:
        return 1
    import_valid(out, array, offset, n)
    return 0


cdef object not_canonical(object name, object type):
    return TypeError(
        f"column {name!r} has type {type}; a batch is made of int64, uint64, float64, bool, string, binary and decimal128"
        " (streamdsl._native.flow.convert.to_canonical)"
    )


cdef Batch* batch_from_arrow(object record_batch) except NULL:
    schema_capsule, array_capsule = record_batch.__arrow_c_array__()
    cdef ArrowSchema* schema = <ArrowSchema*>PyCapsule_GetPointer(schema_capsule, "arrow_schema")
    cdef ArrowArray* array = <ArrowArray*>PyCapsule_GetPointer(array_capsule, "arrow_array")
    cdef Batch* batch
    cdef Buffer* owner
    cdef ArrowArray* moved
    cdef int i
    if strcmp(schema.format, "+s") != 0:
        raise TypeError(f"a batch is made of a record batch, not of {type(record_batch).__name__}")
    if array.length > INT32_MAX:
        raise OverflowError(f"a batch holds at most {INT32_MAX} rows, not {array.length}")
    owner = adopt(array)
    moved = <ArrowArray*>owner.owner
    batch = NULL
    try:
        batch = batch_new(<int32_t>moved.length, <int32_t>moved.n_children)
        for i in range(moved.n_children):
            if import_column(&batch.columns[i], moved.children[i], schema.children[i].format, moved.offset, moved.length, owner):
                raise not_canonical(record_batch.schema.names[i], record_batch.schema.types[i])
    except BaseException:
        batch_release(batch)
        raise
    finally:
        buffer_release(owner)
    return batch


cdef int column_from_arrow(object array, Column* out) except -1:
    schema_capsule, array_capsule = array.__arrow_c_array__()
    cdef ArrowSchema* schema = <ArrowSchema*>PyCapsule_GetPointer(schema_capsule, "arrow_schema")
    cdef ArrowArray* given = <ArrowArray*>PyCapsule_GetPointer(array_capsule, "arrow_array")
    cdef Buffer* owner = adopt(given)
    cdef ArrowArray* moved = <ArrowArray*>owner.owner
    try:
        if import_column(out, moved, schema.format, 0, moved.length, owner):
            raise not_canonical("", array.type)
    except BaseException:
        column_clear(out)
        raise
    finally:
        buffer_release(owner)
    return 0


# To Arrow ----------------------------------------------------------------------------------------------------


cdef struct Exported:                        # private_data of an exported column
    Column column                            # our references
    Buffer* bits                             # packed validity, or NULL
    Buffer* values                           # packed bools, or NULL
    const void* buffers[3]


cdef void release_column(ArrowArray* array) noexcept nogil:
    cdef Exported* exported = <Exported*>array.private_data
    column_clear(&exported.column)
    buffer_release(exported.bits)
    buffer_release(exported.values)
    free(exported)
    array.release = NULL


cdef void release_struct(ArrowArray* array) noexcept nogil:
    cdef int64_t i
    for i in range(array.n_children):
        # A child that the consumer has moved out has no release any more.
        if array.children[i].release != NULL:
            array.children[i].release(array.children[i])
    free(array.private_data)
    array.release = NULL


cdef Buffer* pack_bits(const uint8_t* bytes, int64_t n, int64_t* n_ones) except NULL nogil:
    cdef Buffer* bits = buffer_new((n + 7) // 8)
    cdef uint8_t* out = <uint8_t*>bits.data
    cdef int64_t i, ones = 0
    memset(out, 0, (n + 7) // 8)
    for i in range(n):
        if bytes[i]:
            out[i >> 3] |= <uint8_t>(1 << (i & 7))
            ones += 1
    n_ones[0] = ones
    return bits


cdef int export_column(ArrowArray* out, const Column* column, int64_t n) except -1:
    cdef Exported* exported = <Exported*>calloc(1, sizeof(Exported))
    cdef int64_t ones = n
    if exported == NULL:
        raise MemoryError("no memory left for an Arrow array")
    memset(out, 0, sizeof(ArrowArray))
    column_share(&exported.column, column)
    out.private_data = exported
    out.release = release_column
    out.length = n
    out.buffers = exported.buffers
    out.n_buffers = 3 if column.kind == KIND_STR else 2
    if column.valid != NULL:
        exported.bits = pack_bits(column.valid, n, &ones)
        exported.buffers[0] = exported.bits.data
        out.null_count = n - ones
    if column.kind == KIND_BOOL:
        exported.values = pack_bits(<uint8_t*>column.values, n, &ones)
        exported.buffers[1] = exported.values.data
    elif column.kind == KIND_STR:
        exported.buffers[1] = column.offsets
        exported.buffers[2] = column.values
    else:
        exported.buffers[1] = column.values
    return 0


cdef bint fits(int kind, object type) except -1:
    if kind == KIND_I64:
        return type == INT64
    if kind == KIND_F64:
        return type == pa.float64()
    if kind == KIND_STR:
        return type == pa.string() or type == pa.binary()
    if kind == KIND_BOOL:
        return type == pa.bool_()
    if kind == KIND_U64:
        return type == pa.uint64()
    return kind == KIND_DEC and pa.types.is_decimal128(type)


cdef int check_columns(const Batch* batch, object schema) except -1:
    """Refuse a batch whose columns are not of `schema`. One that is asked about often is compared by what was found before."""
    cdef int i
    cdef bytes kinds = bytes([batch.columns[i].kind for i in range(batch.width)])
    known = FITTING.get(id(schema))
    if known is not None and known[0] is schema and known[1] == kinds:
        return 0
    types = schema.types
    if len(types) != batch.width:
        raise TypeError(f"the batch has {batch.width} columns, the schema {len(types)}")
    for i in range(batch.width):
        if not fits(batch.columns[i].kind, types[i]):
            raise TypeError(f"column {schema.names[i]!r} is {KIND_NAMES[batch.columns[i].kind]}, not {types[i]}")
    if len(FITTING) >= MOST_FITTING:
        FITTING.clear()
    FITTING[id(schema)] = (schema, kinds)
    return 0


cdef object INT64 = pa.int64()
cdef enum:
    MOST_FITTING = 256
cdef dict FITTING = {}                       # by id: a schema, and the kinds of columns that were found to fit
cdef object KIND_NAMES = ("absent", "bool", "int64", "uint64", "float64", "string or binary", "decimal128")


cdef object import_into(object cls, object type, ArrowArray* array):
    """Move the array into an object of Arrow; by its address and not in a capsule, so that the type is not described anew each time."""
    try:
        return cls._import_from_c(<size_t>array, type)
    finally:
        free(array)


cdef object batch_to_arrow(Batch* batch, object schema):
    cdef ArrowArray* array
    cdef char* block
    cdef int i
    cdef int64_t width = batch.width
    check_columns(batch, schema)
    array = <ArrowArray*>calloc(1, sizeof(ArrowArray))
    # The struct's one (absent) buffer, the table of children and the children, in one block.
    block = <char*>calloc(1, sizeof(void*) + width * (sizeof(void*) + sizeof(ArrowArray)))
    if array == NULL or block == NULL:
        free(array)
        free(block)
        raise MemoryError("no memory left for an Arrow array")
    array.length = batch.n
    array.n_buffers = 1
    array.buffers = <const void**>block
    array.n_children = width
    array.children = <ArrowArray**>(block + sizeof(void*))
    array.private_data = block
    array.release = release_struct
    for i in range(width):
        array.children[i] = <ArrowArray*>(block + sizeof(void*) * (1 + width)) + i
    try:
        for i in range(width):
            export_column(array.children[i], &batch.columns[i], batch.n)
    except BaseException:
        release_struct(array)
        free(array)
        raise
    return import_into(pa.RecordBatch, schema, array)


cdef object column_to_arrow(const Column* column, int64_t n, object type):
    cdef ArrowArray* array
    if not fits(column.kind, type):
        raise TypeError(f"the column is {KIND_NAMES[column.kind]}, not {type}")
    array = <ArrowArray*>calloc(1, sizeof(ArrowArray))
    if array == NULL:
        raise MemoryError("no memory left for an Arrow array")
    try:
        export_column(array, column, n)
    except BaseException:
        if array.release != NULL:
            array.release(array)
        free(array)
        raise
    return import_into(pa.Array, type, array)


# For Python --------------------------------------------------------------------------------------------------


cdef PyBatch wrap_batch(Batch* batch):
    cdef PyBatch wrapped = PyBatch.__new__(PyBatch)
    wrapped.batch = batch
    return wrapped


cdef class PyBatch:
    """A batch as a Python object.

    Examples
    --------
    >>> import pyarrow as pa
    >>> PyBatch.from_arrow(pa.record_batch({"a": [1, None]})).to_arrow(["a"]).to_pydict()
    {'a': [1, None]}
    """

    def __dealloc__(self):
        batch_release(self.batch)

    def __init__(self):
        if self.batch == NULL:
            self.batch = batch_new(0, 0)

    @staticmethod
    def from_arrow(record_batch, time=None):
        """Return the batch of a canonical `pa.RecordBatch`; `time` is an int64 array, the rows' event times."""
        cdef PyBatch wrapped = wrap_batch(batch_from_arrow(record_batch))
        if time is not None:
            wrapped.set_system(0, time)
        return wrapped

    def set_system(self, int index, array):
        """Set system column `index` (see `SYS_*` in batch.pxd) before anyone else sees the batch."""
        if not 0 <= index < SYS_COUNT or len(array) != self.batch.n:
            raise ValueError(f"system column {index} of {len(array)} rows does not fit a batch of {self.batch.n} rows")
        column_clear(&self.batch.sys[index])
        column_from_arrow(array, &self.batch.sys[index])

    def system(self, int index):
        """Return system column `index` as a pa.Array, None if it is absent."""
        if not 0 <= index < SYS_COUNT:
            raise ValueError(f"there is no system column {index}")
        if self.batch.sys[index].kind == KIND_NONE:
            return None
        return column_to_arrow(&self.batch.sys[index], self.batch.n, canonical_type(self.batch.sys[index].kind))

    def to_arrow(self, names):
        """Return a `pa.RecordBatch`. `names`: a canonical pa.Schema, or column names (text columns become string)."""
        cdef int i
        if isinstance(names, pa.Schema):
            return batch_to_arrow(self.batch, names)
        names = list(names)
        if len(names) != self.batch.width:
            raise ValueError(f"{len(names)} names for {self.batch.width} columns")
        fields = [(names[i], canonical_type(self.batch.columns[i].kind)) for i in range(self.batch.width)]
        return batch_to_arrow(self.batch, pa.schema(fields))

    def slice(self, int32_t offset, int32_t n):
        """Return `n` rows from `offset` on, without copying."""
        if not (0 <= offset and 0 <= n and offset + n <= self.batch.n):
            raise IndexError(f"rows {offset} to {offset + n} of {self.batch.n}")
        return wrap_batch(batch_slice(self.batch, offset, n))

    def take(self, rows):
        """Return the rows with these indices."""
        cdef list wanted = [int(row) for row in rows]
        cdef int32_t n = <int32_t>len(wanted)
        cdef Buffer* indices
        cdef int32_t i
        if any(not 0 <= row < self.batch.n for row in wanted):
            raise IndexError(f"a row is outside the batch of {self.batch.n}")
        indices = buffer_new(4 * n)
        try:
            for i in range(n):
                (<int32_t*>indices.data)[i] = wanted[i]
            return wrap_batch(batch_take(self.batch, <int32_t*>indices.data, n))
        finally:
            buffer_release(indices)

    @property
    def n(self):
        """Number of rows."""
        return self.batch.n

    @property
    def width(self):
        """Number of named columns."""
        return self.batch.width


cdef object canonical_type(int kind):
    if kind == KIND_NONE:
        raise TypeError("the column is absent")
    return (None, pa.bool_(), pa.int64(), pa.uint64(), pa.float64(), pa.string(), pa.decimal128(38, 0))[kind]


def roundtrip(record_batch):
    """Return the record batch after a way through the native batch."""
    return PyBatch.from_arrow(record_batch).to_arrow(record_batch.schema)
