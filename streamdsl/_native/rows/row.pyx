"""Rows as user code sees them: attribute and item access on one row of a batch, without a dict in between."""
from cpython.datetime cimport date_new, datetime_new, get_utc, import_datetime
from cpython.dict cimport PyDict_GetItem
from cpython.float cimport PyFloat_FromDouble
from cpython.object cimport PyObject_GenericGetAttr
from cpython.ref cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
cimport cython

from streamdsl._native.flow.batch cimport (
    KIND_BOOL, KIND_DEC, KIND_F64, KIND_I64, KIND_STR, KIND_U64, batch_release, batch_retain,
)

from streamdsl._native.includes.decimal cimport dec_load
from streamdsl._native.serdes.decimal_text cimport decimal_value

import copy
import datetime as datetimes
import difflib
import json
import re
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from decimal import Decimal
from types import SimpleNamespace

from streamdsl._native.flow.values import reader_of
from streamdsl.errors import DataError

import_datetime()

cdef object DECIMAL = Decimal
cdef object loads = json.loads
#: What changes a dict.
cdef frozenset CHANGING = frozenset({"update", "pop", "popitem", "setdefault", "clear"})
#: Attributes of a row that no column hides: dict(row), {**row} and match statements go by them.
cdef frozenset METHODS = frozenset({"keys", "values", "items", "get", "asdict"})
cdef object TIMEDELTA = datetimes.timedelta
cdef tuple UNIT_NAMES = ("ms", "s", "us", "ns")

KIND_OF_VALUE = {
    VALUE_BOOL: KIND_BOOL, VALUE_INT: KIND_I64, VALUE_UINT64: KIND_U64, VALUE_FLOAT: KIND_F64, VALUE_STR: KIND_STR,
    VALUE_BYTES: KIND_STR, VALUE_TIMESTAMP: KIND_I64, VALUE_DATE: KIND_I64, VALUE_DURATION: KIND_I64,
    VALUE_DECIMAL: KIND_DEC, VALUE_JSON: KIND_STR, VALUE_WIDE_DECIMAL: KIND_STR,
}
VALUE_OF_TYPE = {
    "bool": VALUE_BOOL, "int8": VALUE_INT, "int16": VALUE_INT, "int32": VALUE_INT, "int64": VALUE_INT,
    "uint8": VALUE_INT, "uint16": VALUE_INT, "uint32": VALUE_INT, "uint64": VALUE_UINT64,
    "halffloat": VALUE_FLOAT, "float": VALUE_FLOAT, "double": VALUE_FLOAT,
    "string": VALUE_STR, "large_string": VALUE_STR, "string_view": VALUE_STR,
    "binary": VALUE_BYTES, "large_binary": VALUE_BYTES, "binary_view": VALUE_BYTES,
    "date32[day]": VALUE_DATE, "date64[ms]": VALUE_DATE,
}
UNITS = {"ms": UNIT_MS, "s": UNIT_S, "us": UNIT_US, "ns": UNIT_NS}
cdef int64_t[4] PER_SECOND = [1000, 1, 1000000, 1000000000]
cdef object UNIT_OF = re.compile(r"(?:timestamp|duration)\[(s|ms|us|ns)")
cdef object SCALE_OF = re.compile(r"decimal\d+\(\d+, (\d+)\)")


cdef int value_code(str type_text) except -1:
    code = VALUE_OF_TYPE.get(type_text)
    if code is not None:
        return code
    unit = UNIT_OF.match(type_text)
    if unit is not None:
        return (VALUE_TIMESTAMP if type_text.startswith("t") else VALUE_DURATION) | <int>UNITS[unit[1]] << 8
    if type_text.startswith("decimal256"):
        return VALUE_WIDE_DECIMAL
    if type_text.startswith("decimal"):
        return VALUE_DECIMAL | <int>int(SCALE_OF.fullmatch(type_text)[1]) << 8
    if type_text.startswith("fixed_size_binary"):
        return VALUE_BYTES
    if type_text.startswith("time"):
        return VALUE_INT
    return VALUE_JSON


cdef class RowShape:
    """Names and types of the columns of a batch; made of a `Schema` (its `fields`)."""

    def __init__(self, schema):
        cdef int i
        fields = tuple(schema.fields)
        self.width = len(fields)
        self.names = tuple(field.name for field in fields)
        self.visible = tuple(field.name for field in fields if not field.hidden)
        self.types = tuple(field.type for field in fields)
        self.nullable = tuple(field.nullable for field in fields)
        self.hidden = tuple(field.hidden for field in fields)
        self.index = {field.name: i for i, field in enumerate(fields)}
        self.codes = <int*>calloc(self.width + 1, sizeof(int))
        self.kinds = <int*>calloc(self.width + 1, sizeof(int))
        if self.codes == NULL or self.kinds == NULL:
            raise MemoryError("no memory left for a schema")
        for i in range(self.width):
            self.codes[i] = value_code(str(self.types[i]))
            self.kinds[i] = KIND_OF_VALUE[plain_code(self.codes[i])]
        self.shadowed = not METHODS.isdisjoint(self.index)
        if any([self.codes[i] == VALUE_JSON for i in range(self.width)]):
            self.readers = tuple([reader_of(self.types[i]) if self.codes[i] == VALUE_JSON else None for i in range(self.width)])

    def __dealloc__(self):
        free(self.codes)
        free(self.kinds)

    cdef object unknown(self, object name):
        known = ", ".join(self.visible)
        near = difflib.get_close_matches(str(name), self.names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if name in CHANGING:
            return f"a row cannot be changed: no {name}(); dict(row) makes a copy that can"
        return f"no column {name!r}{hint} (known: {known})"


# Days since the epoch to a civil date (proleptic Gregorian), after Howard Hinnant.
cdef void civil(int64_t days, int* year, int* month, int* day) noexcept:
    cdef int64_t z = days + 719468
    cdef int64_t era = (z if z >= 0 else z - 146096) // 146097
    cdef int64_t doe = z - era * 146097
    cdef int64_t yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    cdef int64_t doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    cdef int64_t mp = (5 * doy + 2) // 153
    day[0] = <int>(doy - (153 * mp + 2) // 5 + 1)
    month[0] = <int>(mp + 3 if mp < 10 else mp - 9)
    year[0] = <int>(yoe + era * 400 + (1 if mp >= 10 else 0))

cdef enum:
    FIRST_DAY = -719162      # 0001-01-01
    LAST_DAY = 2932896       # 9999-12-31


cdef object timestamp_value(int64_t ms):
    return moment_value(UNIT_MS, ms)


cdef object moment_value(int unit, int64_t value):
    cdef int64_t per_second = PER_SECOND[unit]
    cdef int64_t seconds = value // per_second - (value % per_second < 0)
    cdef int64_t fraction = value - seconds * per_second
    cdef int64_t days = seconds // 86400 - (seconds % 86400 < 0)
    cdef int64_t rest = seconds - days * 86400
    cdef int year, month, day
    if days < FIRST_DAY or days > LAST_DAY:
        raise DataError(f"the timestamp {value} {UNIT_NAMES[unit]} is outside the years 1 to 9999 of Python's datetime",
                        remedy="read it as a whole number: cast(int) gives milliseconds")
    if unit == UNIT_NS:
        if fraction % 1000 != 0:
            raise no_datetime("timestamp", value)
        fraction //= 1000
    elif unit == UNIT_MS:
        fraction *= 1000
    civil(days, &year, &month, &day)
    return datetime_new(year, month, day, <int>(rest // 3600), <int>(rest // 60 % 60), <int>(rest % 60), <int>fraction, get_utc())


cdef object no_datetime(str what, int64_t value):
    return DataError(f"the {what} {value} ns has digits below a microsecond, which Python's {what} cannot hold",
                     remedy='cast the column first: cast(pa.timestamp("us")) drops them' if what == "timestamp"
                     else 'cast the column first: cast(pa.duration("us")) drops them')


cdef object span_value(int unit, int64_t value):
    if unit == UNIT_NS and value % 1000 != 0:
        raise no_datetime("duration", value)
    try:
        if unit == UNIT_NS:
            return TIMEDELTA(microseconds=value // 1000)
        return TIMEDELTA(**{("milliseconds", "seconds", "microseconds")[unit]: value})
    except OverflowError:
        raise DataError(f"the duration {value} {UNIT_NAMES[unit]} is outside the range of Python's timedelta",
                        remedy="read it as a whole number: cast(int) gives milliseconds") from None


cdef object date_value(int64_t days):
    cdef int year, month, day
    if days < FIRST_DAY or days > LAST_DAY:
        raise DataError(f"the date {days} days after 1970 is outside the years 1 to 9999 of Python's date",
                        remedy="declare the column as int64 to see the days")
    civil(days, &year, &month, &day)
    return date_new(year, month, day)


cdef object text_value(int code, const char* data, Py_ssize_t size):
    if code == VALUE_BYTES:
        return data[:size]
    text = PyUnicode_DecodeUTF8(data, size, "surrogateescape")
    if code == VALUE_WIDE_DECIMAL:
        return DECIMAL(text)
    return loads(text)


cdef object column_value(int code, const Column* column, int64_t row):
    cdef int32_t start
    if column.valid != NULL and column.valid[row] == 0:
        return None
    if code == VALUE_FLOAT:
        return PyFloat_FromDouble((<double*>column.values)[row])
    if code == VALUE_INT:
        return (<int64_t*>column.values)[row]
    if code == VALUE_STR:
        start = column.offsets[row]
        return PyUnicode_DecodeUTF8(column.values + start, column.offsets[row + 1] - start, "surrogateescape")
    if code == VALUE_BOOL:
        return column.values[row] != 0
    if plain_code(code) == VALUE_TIMESTAMP:
        return moment_value(detail(code), (<int64_t*>column.values)[row])
    if plain_code(code) == VALUE_DECIMAL:
        return decimal_value(dec_load(column.values + 16 * row), detail(code))
    if code == VALUE_UINT64:
        return (<uint64_t*>column.values)[row]
    if code == VALUE_DATE:
        return date_value((<int64_t*>column.values)[row])
    if plain_code(code) == VALUE_DURATION:
        return span_value(detail(code), (<int64_t*>column.values)[row])
    start = column.offsets[row]
    return text_value(code, column.values + start, column.offsets[row + 1] - start)


cdef str read_only(object name):
    return f"a row cannot be changed: return {{**row, {name!r}: ...}} instead"


# A row refers to nothing that could refer back to it.
@cython.final
@cython.no_gc
@cython.freelist(256)
@cython.collection_type("mapping")
cdef class Row:
    """One row of a stream, read-only.

    A row is a `Mapping` of its columns, which are attributes too: ``row.amount``, ``row["amount"]``, ``row.get("amount")``,
    ``"amount" in row``, ``{**row}``, ``dict(row)``. A column called like a method (``keys``, ``items``, ``get``, …) is an
    item only: ``row["keys"]``. A row may be kept as long as one likes, copied and pickled: it keeps the batch it belongs to
    in memory, its copy in another process does not.

    Values are bool, int, float, str, bytes or None; timestamps are `datetime` in UTC, dates `date`, durations
    `timedelta`, decimals `Decimal`, lists and structs lists and dicts.
    """

    def __dealloc__(self):
        batch_release(self.batch)

    cdef object value(self, int column):
        if self.batch == NULL:
            if self.shape.codes[column] == VALUE_JSON:
                return copy.deepcopy(self.own[column])       # a row never changes
            return self.own[column]
        value = column_value(self.shape.codes[column], &self.batch.columns[column], self.at)
        if self.shape.readers is None or value is None:
            return value
        read = self.shape.readers[column]
        return value if read is None else read(value)

    cdef void point(self, Batch* batch, int64_t at) noexcept:
        if batch != self.batch:
            batch_retain(batch)
            batch_release(self.batch)
            self.batch = batch
        self.at = at

    def __getattribute__(self, name):
        cdef PyObject* found = PyDict_GetItem(self.shape.index, name)
        if found != NULL and (not self.shape.shadowed or name not in METHODS):
            return self.value(<int><object>found)
        try:
            return PyObject_GenericGetAttr(self, name)
        except AttributeError:
            raise AttributeError(self.shape.unknown(name)) from None

    def __getitem__(self, name):
        cdef PyObject* found = PyDict_GetItem(self.shape.index, name)
        if found == NULL:
            raise KeyError(self.shape.unknown(name))
        return self.value(<int><object>found)

    def __contains__(self, name):
        return name in self.shape.index

    def __len__(self):
        return len(self.shape.visible)

    def __iter__(self):
        return iter(self.shape.visible)

    def keys(self):
        """Return a view of the names of the columns."""
        return KeysView(self)

    def values(self):
        """Return a view of the values."""
        return ValuesView(self)

    def items(self):
        """Return a view of the names with the values."""
        return ItemsView(self)

    def get(self, name, default=None):
        """Return the value of a column, `default` if there is no such column."""
        cdef PyObject* found = PyDict_GetItem(self.shape.index, name)
        return default if found == NULL else self.value(<int><object>found)

    def asdict(self):
        """Return a new dict of the row."""
        return dict_of(self)

    def __eq__(self, other):
        if isinstance(other, Row):
            return dict_of(self) == dict_of(<Row>other)
        if isinstance(other, Mapping):
            return dict_of(self) == dict(other)
        return NotImplemented

    __hash__ = None

    def __or__(self, other):
        return dict_of(self) | dict(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other):
        return dict(other) | dict_of(self) if isinstance(other, Mapping) else NotImplemented

    def __reversed__(self):
        return reversed(self.shape.visible)

    def __setattr__(self, name, value):
        raise AttributeError(read_only(name))

    def __delattr__(self, name):
        raise AttributeError(read_only(name))

    def __setitem__(self, name, value):
        raise TypeError(read_only(name))

    def __delitem__(self, name):
        raise TypeError(read_only(name))

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        cdef RowShape shape = self.shape
        values = tuple([self.value(i) for i in range(shape.width)])
        return restored_row, (shape.names, shape.types, shape.nullable, shape.hidden, values)

    def __repr__(self):
        return f"Row({', '.join(f'{name}={value!r}' for name, value in dict_of(self).items())})"


cdef dict dict_of(Row row):
    cdef dict index = row.shape.index
    return {name: row.value(index[name]) for name in row.shape.visible}


cdef Row row_new(RowShape shape, Batch* batch, int64_t at):
    cdef Row row = Row.__new__(Row)
    row.shape = shape
    row.point(batch, at)
    return row


cdef Row row_of_values(RowShape shape, tuple values):
    cdef Row row = Row.__new__(Row)
    row.shape = shape
    row.own = values
    return row


def row_of(schema, values):
    """Return a row with its own values; `values` maps column names to values. Missing columns are None."""
    cdef RowShape shape = schema if isinstance(schema, RowShape) else RowShape(schema)
    return row_of_values(shape, tuple([values.get(name) for name in shape.names]))


def restored_row(names, types, nullable, hidden, tuple values):
    """Return a row that was pickled."""
    columns = zip(names, types, nullable, hidden, strict=True)
    fields = [SimpleNamespace(name=name, type=kind, nullable=null, hidden=hide) for name, kind, null, hide in columns]
    return row_of_values(RowShape(SimpleNamespace(fields=fields)), values)


Mapping.register(Row)
