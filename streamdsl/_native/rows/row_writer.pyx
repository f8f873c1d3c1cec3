"""What user code returns, as typed columns: every value is checked against the declared type."""
from cpython.dict cimport PyDict_GetItem
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_Check
from cpython.object cimport PyObject_GetAttr
from cpython.ref cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_Check
from libc.math cimport isinf
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from streamdsl._native.flow.batch cimport (
    KIND_I64, KIND_NONE, KIND_STR, SYS_COUNT, SYS_SLOT, SYS_TIME, Column, batch_new, batch_release, buffer_new,
    buffer_release, column_alloc, column_fill_null, column_share, column_take, kind_size, strings_append, strings_append_null,
    strings_finish, strings_free, strings_init,
)
from streamdsl._native.includes.decimal cimport dec_store, int128
from streamdsl._native.rows.row cimport (
    VALUE_BOOL, VALUE_BYTES, VALUE_DATE, VALUE_DECIMAL, VALUE_DURATION, VALUE_FLOAT, VALUE_INT, VALUE_JSON, VALUE_STR,
    VALUE_TIMESTAMP, VALUE_UINT64, VALUE_WIDE_DECIMAL, Row, column_value, plain_code,
)
from streamdsl._native.rows.row_results cimport (
    RESULT_DICT, RESULT_MAPPING, RESULT_OBJECT, RESULT_ROWS, result_kind, shortened,
)

from streamdsl._native.serdes.decimal_text cimport decimal_of_python

import datetime as datetimes
from collections.abc import Mapping
from decimal import Context, Decimal, Inexact, InvalidOperation

from streamdsl._native.flow.values import NotAValue, converter_of, json_text_of, unwrapped
from streamdsl._native.rows.row_results import BadRow

INT_RANGES = {
    "int8": (-(2**7), 2**7 - 1), "int16": (-(2**15), 2**15 - 1), "int32": (-(2**31), 2**31 - 1),
    "uint8": (0, 2**8 - 1), "uint16": (0, 2**16 - 1), "uint32": (0, 2**32 - 1),
}
cdef object DATE = datetimes.date
cdef object EPOCH_ORDINAL = datetimes.date(1970, 1, 1).toordinal()
cdef object FIRST_DAY = datetimes.date.min.toordinal() - EPOCH_ORDINAL
cdef object LAST_DAY = datetimes.date.max.toordinal() - EPOCH_ORDINAL
cdef object DECIMAL = Decimal
cdef object EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])


cdef class RowWriter:
    """Rows of one output. `source` is the shape of the input: hidden columns are taken from there by name."""

    def __init__(self, str operator, schema, RowShape source=None, bint keyed=False):
        cdef int i, j
        cdef ColumnBuilder* column
        self.operator = operator
        self.shape = schema if isinstance(schema, RowShape) else RowShape(schema)
        self.keyed = keyed
        self.identity = True
        self.types = tuple(str(kind) for kind in self.shape.types)
        checked = (VALUE_TIMESTAMP, VALUE_DURATION, VALUE_JSON)
        self.converters = tuple([
            converter_of(kind) if plain_code(self.shape.codes[i]) in checked and not isinstance(kind, str) else None
            for i, kind in enumerate(self.shape.types)
        ])
        self.columns = <ColumnBuilder*>calloc(self.shape.width + 1, sizeof(ColumnBuilder))
        if self.columns == NULL:
            raise MemoryError("no memory left for an output")
        self.width = self.shape.width
        for i in range(self.shape.width):
            column = &self.columns[i]
            column.code = self.shape.codes[i]
            column.kind = self.shape.kinds[i]
            column.nullable = self.shape.nullable[i]
            column.hidden = self.shape.hidden[i]
            column.source = -1
            low_high = INT_RANGES.get(self.types[i])
            column.narrow = self.types[i] == "float"
            column.low = INT64_MIN if low_high is None else low_high[0]
            column.high = INT64_MAX if low_high is None else low_high[1]
            if column.hidden and source is not None:
                found = source.index.get(self.shape.names[i])
                if found is not None:
                    j = found
                    column.source = j if source.kinds[j] == column.kind else -1

    def __dealloc__(self):
        cdef int i
        if self.columns != NULL:
            # Not the shape's width: the collector may have taken the shape away.
            for i in range(self.width):
                buffer_release(self.columns[i].values)
                buffer_release(self.columns[i].valid)
                strings_free(&self.columns[i].strings)
            free(self.columns)
        free(self.rows)
        free(self.times)
        free(self.slots)

    cdef int start(self) except -1:
        cdef int i
        cdef ColumnBuilder* column
        if self.capacity == 0:
            self.capacity = 16
            self.resize_places()
        for i in range(self.shape.width):
            column = &self.columns[i]
            if column.hidden:
                continue
            if column.kind == KIND_STR:
                strings_init(&column.strings, self.capacity, 16 * self.capacity)
            else:
                column.values = buffer_new(self.capacity * kind_size(column.kind))
        return 0

    cdef int resize_places(self) except -1:
        cdef int32_t* rows = <int32_t*>malloc(self.capacity * sizeof(int32_t))
        cdef int64_t* times = <int64_t*>malloc(self.capacity * sizeof(int64_t))
        cdef int64_t* slots = <int64_t*>malloc(self.capacity * sizeof(int64_t))
        if rows == NULL or times == NULL or slots == NULL:
            free(rows)
            free(times)
            free(slots)
            raise MemoryError("no memory left for an output")
        if self.n > 0:
            memcpy(rows, self.rows, self.n * sizeof(int32_t))
            memcpy(times, self.times, self.n * sizeof(int64_t))
            memcpy(slots, self.slots, self.n * sizeof(int64_t))
        free(self.rows)
        free(self.times)
        free(self.slots)
        self.rows = rows
        self.times = times
        self.slots = slots
        return 0

    cdef int grow(self) except -1:
        cdef int i, size
        cdef Buffer* wider
        cdef ColumnBuilder* column
        self.capacity *= 2
        self.resize_places()
        for i in range(self.shape.width):
            column = &self.columns[i]
            if column.values != NULL:
                size = kind_size(column.kind)
                wider = buffer_new(self.capacity * size)
                memcpy(wider.data, column.values.data, self.n * size)
                buffer_release(column.values)
                column.values = wider
            if column.valid != NULL:
                wider = buffer_new(self.capacity)
                memset(wider.data, 1, self.capacity)
                memcpy(wider.data, column.valid.data, self.n)
                buffer_release(column.valid)
                column.valid = wider
        return 0

    cdef int refuse(self, int column, object value, str why="") except -1:
        name = self.shape.names[column]
        what = "is null, but the column is declared not null" if value is None else (
            f"is {shortened(value)} of type {type(value).__name__}, which is not a value of type {self.types[column]}")
        what += f": {why}" if why else ""
        raise BadRow(f"the column {name!r} {what}", name)

    cdef int put(self, int i, object value) except -1:
        cdef ColumnBuilder* column = &self.columns[i]
        cdef int overflow = 0
        cdef long long number
        cdef double real
        cdef Py_ssize_t size = 0
        cdef const char* data
        if value is None:
            return self.put_null(i)
        if column.code == VALUE_FLOAT:
            if PyFloat_Check(value):
                real = PyFloat_AS_DOUBLE(value)
            elif PyLong_Check(value) and not isinstance(value, bool):
                real = self.exact(i, value)
            else:
                return self.put_unwrapped(i, value)
            (<double*>column.values.data)[self.n] = self.narrowed(i, real, value) if column.narrow else real
        elif column.code == VALUE_INT:
            if not PyLong_Check(value) or isinstance(value, bool):
                return self.put_unwrapped(i, value)
            number = PyLong_AsLongLongAndOverflow(value, &overflow)
            if overflow or number < column.low or number > column.high:
                self.out_of_range(i, value)
            (<int64_t*>column.values.data)[self.n] = number
        elif column.code == VALUE_STR:
            if not PyUnicode_Check(value):
                return self.put_unwrapped(i, value)
            try:
                data = PyUnicode_AsUTF8AndSize(value, &size)
            except UnicodeEncodeError:
                return self.refuse(i, value, "it has half of a surrogate pair")
            strings_append(&column.strings, data, size)
        elif column.code == VALUE_BOOL:
            if not isinstance(value, bool):
                return self.put_unwrapped(i, value)
            (<uint8_t*>column.values.data)[self.n] = value is True
        else:
            return self.put_text(i, value)
        return 0

    cdef double exact(self, int i, value) except? -1:
        try:
            real = float(value)
        except OverflowError:
            self.refuse(i, value, "it is too great")
        if int(real) != value:
            self.refuse(i, value, "a float does not hold it exactly")
        return real

    cdef double narrowed(self, int i, double real, value) except? -1:
        cdef double narrow = <double><float>real
        if isinf(narrow) and not isinf(real):
            self.out_of_range(i, value)
        return narrow

    def out_of_range(self, int i, value):
        name = self.shape.names[i]
        raise BadRow(f"the column {name!r} is {shortened(value)}, which is out of range of {self.types[i]}", name)

    cdef int put_null(self, int i) except -1:
        cdef ColumnBuilder* column = &self.columns[i]
        if not column.nullable:
            self.refuse(i, None)
        if column.kind == KIND_STR:
            strings_append_null(&column.strings)
            return 0
        if column.valid == NULL:
            column.valid = buffer_new(self.capacity)
            memset(column.valid.data, 1, self.capacity)
        column.valid.data[self.n] = 0
        memset(column.values.data + self.n * kind_size(column.kind), 0, kind_size(column.kind))
        return 0

    def put_unwrapped(self, int i, value):
        # Members of an enum, NumPy and pyarrow scalars hold a Python value.
        plain = unwrapped(value)
        if plain is value or type(plain) is type(value):
            return self.refuse(i, value)
        return self.put(i, plain)

    cdef int put_text(self, int i, object value) except -1:
        """The rarer types; named for the ones that are kept as text."""
        cdef ColumnBuilder* column = &self.columns[i]
        cdef bytes raw
        if column.kind == KIND_STR:
            if column.code == VALUE_BYTES:
                if not isinstance(value, (bytes, bytearray, memoryview)):
                    return self.put_unwrapped(i, value)
                raw = bytes(value)
            elif column.code == VALUE_WIDE_DECIMAL:
                if isinstance(value, bool) or not isinstance(value, (DECIMAL, int)):
                    return self.put_unwrapped(i, value)
                raw = self.decimal_text(i, value).encode()
            else:
                raw = self.nested_text(i, value).encode()
            strings_append(&column.strings, raw, len(raw))
            return 0
        return self.put_decimal(i, value) if plain_code(column.code) == VALUE_DECIMAL else self.put_number(i, value)

    def put_decimal(self, int i, value):
        cdef int128 number = 0
        kind = self.shape.types[i]
        if isinstance(value, bool) or not isinstance(value, (DECIMAL, int)):
            return self.put_unwrapped(i, value)
        if not decimal_of_python(value, kind.scale, kind.precision, &number):
            name = self.shape.names[i]
            raise BadRow(f"the column {name!r} is {shortened(value)}, which does not fit {self.types[i]}", name)
        dec_store(self.columns[i].values.data + 16 * <int64_t>self.n, number)
        return 0

    def decimal_text(self, int i, value):
        # With the digits of the declared scale, so that equal values have equal texts.
        kind = self.shape.types[i]
        try:
            number = DECIMAL(value).quantize(DECIMAL(1).scaleb(-kind.scale), context=EXACT)
        except ArithmeticError:
            number = None
        if number is None or not number.is_finite() or number.adjusted() >= kind.precision - kind.scale:
            name = self.shape.names[i]
            raise BadRow(f"the column {name!r} is {shortened(value)}, which does not fit {self.types[i]}", name)
        return format(number, "f")

    def nested_text(self, int i, value):
        try:
            return json_text_of(value, self.shape.types[i], self.converters[i])
        except (NotAValue, RecursionError) as error:
            name = self.shape.names[i]
            raise BadRow(f"the column {name!r}{error}", name) from None

    def put_number(self, int i, value):
        cdef ColumnBuilder* column = &self.columns[i]
        number = value
        if plain_code(column.code) in (VALUE_TIMESTAMP, VALUE_DURATION):
            number = self.units_of(i, value)
        elif column.code == VALUE_DATE and isinstance(value, DATE) and not isinstance(value, datetimes.datetime):
            number = value.toordinal() - EPOCH_ORDINAL
        if not isinstance(number, int) or isinstance(number, bool):
            return self.put_unwrapped(i, value)
        if column.code == VALUE_UINT64:
            if not 0 <= number < 2**64:
                self.out_of_range(i, value)
            (<uint64_t*>column.values.data)[self.n] = number
            return 0
        if not (FIRST_DAY <= number <= LAST_DAY if column.code == VALUE_DATE else INT64_MIN <= number <= INT64_MAX):
            self.out_of_range(i, value)
        (<int64_t*>column.values.data)[self.n] = number
        return 0

    def units_of(self, int i, value):
        # A sink has to be able to write it: within the range of the declared unit, and of the years 1 to 9999.
        try:
            return self.converters[i](value)
        except NotAValue as error:
            name = self.shape.names[i]
            raise BadRow(f"the column {name!r}{error}", name) from None

    def check_names(self, result):
        for name in result:
            if name not in self.shape.index:
                raise BadRow(f"the row has {self.shape.unknown(name)}", name)

    cdef int missing(self, int i, object result) except -1:
        name = self.shape.names[i]
        if isinstance(result, (dict, Mapping, Row)):
            found = f"it has {', '.join(map(str, result)) or 'none'}"
        else:
            found = f"it is {shortened(result)}"
        raise BadRow(f"the row has no column {name!r} of the declared output; {found}", name)

    cdef int append(self, object result, int32_t row, int64_t time, int64_t slot) except -1:
        cdef int i, given = 0, kind = result_kind(result)
        cdef PyObject* item
        if kind == RESULT_ROWS:
            raise BadRow(f"a row is a mapping or an object with the columns as attributes, not {shortened(result)}")
        if self.n == 0:
            self.start()
        elif self.n == self.capacity:
            self.grow()
        try:
            for i in range(self.shape.width):
                if self.columns[i].hidden:
                    continue
                given += 1
                if kind == RESULT_DICT:
                    item = PyDict_GetItem(<dict>result, <object>self.shape.names[i])
                    if item == NULL:
                        self.missing(i, result)
                    self.put(i, <object>item)
                else:
                    self.put(i, self.picked(result, kind, i))
            if kind in (RESULT_DICT, RESULT_MAPPING) and len(result) != given:
                self.check_names(result)
        except BaseException:
            self.truncate(self.n)
            raise
        return self.end_row(row, time, slot)

    cdef object picked(self, object result, int kind, int i):
        name = self.shape.names[i]
        try:
            if kind == RESULT_OBJECT:
                return PyObject_GetAttr(result, name)
            return result[name]
        except (KeyError, AttributeError):
            self.missing(i, result)

    cdef inline int end_row(self, int32_t row, int64_t time, int64_t slot) except -1:
        self.rows[self.n] = row
        self.times[self.n] = time
        self.slots[self.n] = slot
        self.identity = self.identity and row == self.n
        self.n += 1
        return 0

    cdef int append_values(self, tuple values, int32_t row, int64_t time, int64_t slot) except -1:
        cdef int i
        if self.n == 0:
            self.start()
        elif self.n == self.capacity:
            self.grow()
        try:
            for i in range(self.shape.width):
                if not self.columns[i].hidden:
                    self.put(i, <object>values[i])
        except BaseException:
            self.truncate(self.n)
            raise
        return self.end_row(row, time, slot)

    cdef void set_time(self, int i, int64_t value) noexcept:
        (<int64_t*>self.columns[i].values.data)[self.n - 1] = value

    cdef object value_at(self, int i, int row):
        cdef ColumnBuilder* builder = &self.columns[i]
        cdef Column column
        if builder.hidden:
            return None
        memset(&column, 0, sizeof(Column))
        if builder.kind == KIND_STR:
            column.values = builder.strings.bytes.data
            column.offsets = <int32_t*>builder.strings.offsets.data
            column.valid = NULL if builder.strings.valid == NULL else <uint8_t*>builder.strings.valid.data
        else:
            column.values = builder.values.data
            column.valid = NULL if builder.valid == NULL else <uint8_t*>builder.valid.data
        value = column_value(builder.code, &column, row)
        read = None if self.shape.readers is None or value is None else self.shape.readers[i]
        return value if read is None else read(value)

    def checked(self, result):
        """Return the values of a result, each checked, and as it will be read again; nothing of it stays here."""
        cdef int i
        self.append(result, 0, 0, 0)
        try:
            return tuple([self.value_at(i, self.n - 1) for i in range(self.shape.width) if not self.columns[i].hidden])
        finally:
            self.truncate(self.n - 1)

    cdef void truncate(self, int n) noexcept:
        cdef int i
        cdef ColumnBuilder* column
        for i in range(self.shape.width):
            column = &self.columns[i]
            if column.hidden:
                continue
            if column.kind == KIND_STR:
                if column.strings.n > n:
                    column.strings.n = n
                    column.strings.used = (<int32_t*>column.strings.offsets.data)[n]
            elif column.valid != NULL:
                memset(column.valid.data + n, 1, self.capacity - n)
        self.n = n
        if n == 0:
            for i in range(self.shape.width):
                column = &self.columns[i]
                buffer_release(column.values)
                buffer_release(column.valid)
                column.values = NULL
                column.valid = NULL
                strings_free(&column.strings)
            self.identity = True

    cdef Batch* take(self, Batch* source) except NULL:
        cdef int i, n = self.n
        cdef ColumnBuilder* column
        cdef bint same = source != NULL and self.identity and n == source.n
        cdef Batch* out = batch_new(n, self.shape.width)
        try:
            if source != NULL:
                out.read_ns = source.read_ns
            for i in range(self.shape.width):
                column = &self.columns[i]
                if column.hidden:
                    self.take_hidden(i, source, &out.columns[i], same)
                elif column.kind == KIND_STR:
                    strings_finish(&column.strings, &out.columns[i])
                else:
                    out.columns[i].kind = column.kind
                    out.columns[i].values_buffer = column.values
                    out.columns[i].values = column.values.data
                    column.values = NULL
                    if column.valid != NULL:
                        out.columns[i].valid_buffer = column.valid
                        out.columns[i].valid = <uint8_t*>column.valid.data
                        column.valid = NULL
            column_alloc(&out.sys[SYS_TIME], KIND_I64, n, 0)
            memcpy(out.sys[SYS_TIME].values, self.times, n * 8)
            for i in range(SYS_COUNT):
                if source != NULL and i != SYS_TIME and source.sys[i].kind != KIND_NONE and not (i == SYS_SLOT and self.keyed):
                    if same:
                        column_share(&out.sys[i], &source.sys[i])
                    else:
                        column_take(&out.sys[i], &source.sys[i], self.rows, n)
            if self.keyed:
                column_alloc(&out.sys[SYS_SLOT], KIND_I64, n, 0)
                memcpy(out.sys[SYS_SLOT].values, self.slots, n * 8)
        except BaseException:
            batch_release(out)
            raise
        self.n = 0
        self.identity = True
        return out

    cdef int take_hidden(self, int i, Batch* source, Column* target, bint same) except -1:
        cdef int from_column = self.columns[i].source
        if source == NULL or from_column < 0:
            column_fill_null(target, self.columns[i].kind, self.n)
        elif same:
            column_share(target, &source.columns[from_column])
        else:
            column_take(target, &source.columns[from_column], self.rows, self.n)
        return 0
