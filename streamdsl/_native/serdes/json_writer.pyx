"""Record batches as JSON lines: columns are read through the Arrow C data interface, rows are written without the GIL."""
import json
from functools import lru_cache

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport isfinite, isnan
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from streamdsl._native.flow.arrow cimport column_from_arrow
from streamdsl._native.flow.batch cimport (
    KIND_BOOL,
    KIND_DEC,
    KIND_I64,
    KIND_STR,
    KIND_U64,
    Column,
    column_clear,
    is_valid,
)
from streamdsl._native.includes.decimal cimport dec_load
from streamdsl._native.serdes.decimal_text cimport DECIMAL_ROOM, decimal_text
from streamdsl._native.serdes.number_text cimport (
    date_text,
    double_text,
    int_text,
    moment_text,
    uint_text,
)

import pyarrow as pa

from streamdsl._native.flow.convert import canonical_type, plain_values, to_canonical

cdef enum Style:
    NUMBER
    TIMESTAMP
    DATE
    TEXT                                     # to be quoted and escaped
    RAW                                      # JSON already

cdef struct Field:
    Column column
    int style
    int digits                               # behind the point: of decimals, and of the seconds of timestamps
    const char* prefix                       # , "name":
    int64_t prefix_size

cdef struct Output:
    char* data
    int64_t used
    int64_t size

cdef object TEXTS = pa.string()
cdef object PLAIN = frozenset([pa.int64(), pa.uint64(), pa.float64(), pa.bool_()])
cdef const char* HEX = b"0123456789abcdef"


# Values ------------------------------------------------------------------------------------------------------


cdef int grow(Output* output, int64_t n_bytes) except -1 nogil:
    cdef int64_t size = 2 * (output.used + n_bytes)
    cdef char* data = <char*>realloc(output.data, size)
    if data == NULL:
        with gil:
            raise MemoryError("no memory left for JSON")
    output.data = data
    output.size = size
    return 0


cdef inline char* room(Output* output, int64_t n_bytes) except NULL nogil:
    if output.used + n_bytes > output.size:
        grow(output, n_bytes)
    return output.data + output.used


cdef inline bint has_special(uint64_t word) noexcept nogil:
    """Whether one of eight bytes is below 0x20, a quote or a backslash (rarely also when none is)."""
    cdef uint64_t ones = 0x0101010101010101ULL
    cdef uint64_t quote = word ^ (ones * c'"')
    cdef uint64_t slash = word ^ (ones * c"\\")
    cdef uint64_t found = (word - ones * 0x20) & ~word
    found |= (quote - ones) & ~quote
    found |= (slash - ones) & ~slash
    return found & (ones << 7) != 0


cdef int64_t escape(const char* text, int64_t n, char* out) noexcept nogil:
    """Write up to 6 n bytes."""
    cdef int64_t i = 0, at = 0
    cdef uint64_t word
    cdef uint8_t c
    while i < n:
        while i + 8 <= n:
            memcpy(&word, text + i, 8)
            if has_special(word):
                break
            memcpy(out + at, &word, 8)
            i += 8
            at += 8
        if i >= n:
            break
        c = <uint8_t>text[i]
        i += 1
        if c >= 0x20 and c != c'"' and c != c"\\":
            out[at] = <char>c
            at += 1
            continue
        out[at] = c"\\"
        out[at + 1] = short_escape(c)
        at += 2
        if out[at - 1] == c"u":
            out[at] = c"0"
            out[at + 1] = c"0"
            out[at + 2] = HEX[c >> 4]
            out[at + 3] = HEX[c & 15]
            at += 4
    return at


cdef inline char short_escape(uint8_t c) noexcept nogil:
    if c == c'"' or c == c"\\":
        return <char>c
    if c == c"\n":
        return c"n"
    if c == c"\r":
        return c"r"
    if c == c"\t":
        return c"t"
    if c == 8:
        return c"b"
    if c == 12:
        return c"f"
    return c"u"


cdef int64_t put_text(const Field* field, int64_t row, Output* output) except -1 nogil:
    cdef const char* text = field.column.values + field.column.offsets[row]
    cdef int64_t n = field.column.offsets[row + 1] - field.column.offsets[row]
    cdef char* out
    if field.style == RAW:
        memcpy(room(output, n), text, n)
        return n
    out = room(output, 6 * n + 2)
    out[0] = c'"'
    n = 1 + escape(text, n, out + 1)
    out[n] = c'"'
    return n + 1


cdef inline int quoted(char* out, int n) noexcept nogil:
    out[0] = c'"'
    out[n + 1] = c'"'
    return n + 2


cdef inline int put_double(double value, char* out) noexcept nogil:
    """JSON has no numbers that are not finite: they are texts, as in the JSON of Protobuf, and are read again as what they were."""
    if isfinite(value):
        return double_text(value, out)
    if isnan(value):
        memcpy(out, b'"NaN"', 5)
        return 5
    if value > 0:
        memcpy(out, b'"Infinity"', 10)
        return 10
    memcpy(out, b'"-Infinity"', 11)
    return 11


cdef int64_t put_value(const Field* field, int64_t row, Output* output) except -1 nogil:
    """Write the value of a row; return the number of bytes."""
    cdef const Column* column = &field.column
    cdef char* out
    if column.kind == KIND_STR and is_valid(column, row):
        return put_text(field, row, output)
    out = room(output, DECIMAL_ROOM + 2)
    if is_valid(column, row):
        if column.kind == KIND_DEC:
            return quoted(out, decimal_text(dec_load(column.values + 16 * row), field.digits, out + 1))
        if column.kind == KIND_I64:
            if field.style == TIMESTAMP:
                return quoted(out, moment_text((<int64_t*>column.values)[row], field.digits, out + 1))
            if field.style == DATE:
                return quoted(out, date_text((<int64_t*>column.values)[row], out + 1))
            return int_text((<int64_t*>column.values)[row], out)
        if column.kind == KIND_U64:
            return uint_text((<uint64_t*>column.values)[row], out)
        if column.kind == KIND_BOOL:
            memcpy(out, "true" if column.values[row] else "false", 4 if column.values[row] else 5)
            return 4 if column.values[row] else 5
        return put_double((<double*>column.values)[row], out)
    memcpy(out, "null", 4)
    return 4


cdef int write_rows(const Field* fields, int width, int64_t n, Output* output) except -1 nogil:
    cdef int64_t row
    cdef int k
    for row in range(n):
        room(output, 1)[0] = c"{"
        output.used += 1
        for k in range(width):
            memcpy(room(output, fields[k].prefix_size), fields[k].prefix, fields[k].prefix_size)
            output.used += fields[k].prefix_size
            output.used += put_value(&fields[k], row, output)
        memcpy(room(output, 2), "}\n", 2)
        output.used += 2
    return 0


# Columns -----------------------------------------------------------------------------------------------------


cdef int prepare(array, Field* field) except -1:
    """Read a column in its canonical form."""
    type_ = array.type
    field.style = NUMBER
    if type_ == TEXTS:                       # as most are
        field.style = TEXT
        return column_from_arrow(array, &field.column)
    if type_ in PLAIN:
        return column_from_arrow(array, &field.column)
    if pa.types.is_dictionary(type_):
        array = array.cast(type_.value_type)
        type_ = array.type
    if pa.types.is_timestamp(type_):
        field.style = TIMESTAMP
        field.digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[type_.unit]
    elif pa.types.is_decimal128(canonical_type(type_)):
        field.digits = type_.scale
    elif pa.types.is_date(type_):
        field.style = DATE
    elif pa.types.is_nested(type_):
        field.style = RAW
        texts = [
            None if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            for value in plain_values(array, readable=True)
        ]
        array = pa.array(texts, pa.string())
        type_ = pa.string()
    elif canonical_type(type_) == pa.binary():
        field.style = TEXT
        array = pa.array(plain_values(array), pa.string())
        type_ = pa.string()
    elif canonical_type(type_) == pa.string():
        field.style = TEXT
    if array.type != canonical_type(type_):
        array = to_canonical(pa.record_batch([array], ["value"]), [type_]).column(0)
    column_from_arrow(array, &field.column)
    return 0


@lru_cache(maxsize=256)
def prefixes_of(names):
    """Return what stands in front of the value of each column."""
    return [(("," if k else "") + json.dumps(name, ensure_ascii=False) + ":").encode() for k, name in enumerate(names)]


def json_lines(record_batch):
    """Return the rows as JSON, one object a line, keys in the order of the columns.

    Timestamps are ISO 8601 in UTC with the digits of their unit, dates ISO 8601, decimals texts, bytes base64. NaN and
    infinities are the texts "NaN", "Infinity" and "-Infinity".

    Parameters
    ----------
    record_batch : pa.RecordBatch

    Returns
    -------
    bytes

    Examples
    --------
    >>> import pyarrow as pa
    >>> json_lines(pa.record_batch({"a": [1, None], "b": ["x", "y"]}))
    b'{"a":1,"b":"x"}\\n{"a":null,"b":"y"}\\n'
    """
    cdef int width = record_batch.num_columns
    cdef int64_t n = record_batch.num_rows
    cdef Field* fields = <Field*>calloc(width + 1, sizeof(Field))
    cdef Output output
    cdef int k
    cdef bytes prefix
    output.data = NULL
    output.used = output.size = 0
    if fields == NULL:
        raise MemoryError("no memory left for JSON")
    try:
        prefixes = prefixes_of(tuple(record_batch.schema.names))
        for k in range(width):
            prefix = prefixes[k]
            fields[k].prefix = PyBytes_AS_STRING(prefix)
            fields[k].prefix_size = PyBytes_GET_SIZE(prefix)
            prepare(record_batch.column(k), &fields[k])
        grow(&output, n * (width + 1) * 16 + 64)
        with nogil:
            write_rows(fields, width, n, &output)
        return PyBytes_FromStringAndSize(output.data, output.used)
    finally:
        for k in range(width):
            column_clear(&fields[k].column)
        free(fields)
        free(output.data)
