"""A user's own aggregate, `Aggregate(init, add, merge, type)`: Python, one call a record, under the GIL."""
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_STR, Column
from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, cell_decimal, cell_load, read_bytes, read_i64, results_append, results_null, write_i64,
)
from streamdsl._native.includes.decimal cimport int128
from streamdsl._native.rows.row cimport (
    VALUE_BYTES, VALUE_DECIMAL, VALUE_INT, VALUE_JSON, VALUE_STR, VALUE_WIDE_DECIMAL, column_value, plain_code, value_code,
)
from streamdsl._native.rows.row_writer cimport ColumnBuilder, RowWriter
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.state_field cimport heap_size
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append

from copy import deepcopy
from types import NoneType, SimpleNamespace

from streamdsl._native.flow.values import reader_of
from streamdsl._native.rows.row_results import BadRow
from streamdsl.errors import UserCodeError


cdef object cell_value(int code, const Cell* cell):
    """Return the cell as user code sees values of its type."""
    cdef Column column
    cdef int32_t[2] offsets
    cdef int128 number
    if cell.tag == 0:
        return None
    memset(&column, 0, sizeof(Column))
    column.values = <char*>&cell.bits
    if plain_code(code) == VALUE_DECIMAL:
        number = cell_decimal(cell)
        column.values = <char*>&number
    elif code in (VALUE_STR, VALUE_BYTES, VALUE_WIDE_DECIMAL, VALUE_JSON):
        offsets[0], offsets[1] = 0, <int32_t>(cell.tag - 1)
        column.values, column.offsets = <char*>cell.bits, offsets
    return column_value(code, &column, 0)


cdef frozenset FIXED = frozenset([int, float, bool, str, bytes, NoneType])


cdef object copied(object value):
    """Return the value so that nobody else can change it."""
    return value if type(value) in FIXED else deepcopy(value)


cdef struct Custom:
    int64_t place                            # 1 + that of the user's value in a list, 0 until the first row
    int64_t first                            # the arrival number of the first row

cdef struct SavedCustom:
    Custom state
    PyObject* value                          # owned; NULL = none


cdef class CustomAccumulator(Accumulator):
    """The user's functions are called one after another: nobody else changes what they are given."""
    cdef object init_value
    cdef object add_value
    cdef object merge_values
    cdef object withdraw_value               # None where no row is withdrawn
    cdef object result_of
    cdef int code                            # VALUE_* of the argument
    cdef object reader                       # what makes Python values of nested arguments, or None
    cdef RowWriter writer                    # checks what the user returns against the declared type
    cdef list values
    cdef list free_places

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Custom)
        self.refuses = self.on_heap = True
        self.saved_size = sizeof(SavedCustom)
        self.init_value = spec.custom.init
        self.add_value = spec.custom.add
        self.merge_values = spec.custom.merge
        self.withdraw_value = spec.custom.withdraw
        self.result_of = spec.custom.result
        self.code = VALUE_INT if spec.input_type is None else value_code(str(spec.input_type))
        self.reader = reader_of(spec.input_type) if self.code == VALUE_JSON else None
        column = SimpleNamespace(name=spec.name, type=spec.output_type, nullable=True, hidden=False)
        self.writer = RowWriter(operator, SimpleNamespace(fields=(column,)))
        self.values = []
        self.free_places = []

    cdef object failed(self, error, dict context):
        return UserCodeError(f"the aggregate {self.column!r} raised {type(error).__name__}: {error}",
                             remedy="mend the functions of the Aggregate", operator=self.operator, field=self.column, **context)

    cdef int keep(self, int64_t* place, value) except -1:
        if place[0] != 0:
            self.values[place[0] - 1] = value
        elif self.free_places:
            place[0] = self.free_places.pop()
            self.values[place[0] - 1] = value
        else:
            self.values.append(value)
            place[0] = len(self.values)
        return 0

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        with gil:
            return self.call(self.add_value, <Custom*>state, argument)

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        with gil:
            return self.call(self.withdraw_value, <Custom*>state, argument)

    cdef int call(self, function, Custom* held, const Cell* argument) except -1:
        try:
            before = self.values[held.place - 1] if held.place else self.init_value()
            value = cell_value(self.code, argument)
            after = function(before, value if self.reader is None or value is None else self.reader(value))
        except Exception as error:      # whatever user code raises is reported as its fault
            raise self.failed(error, {"at_row": self.row}) from error
        if held.place == 0:
            held.first = self.arrived + self.row
        return self.keep(&held.place, after)

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef Custom* held = <Custom*>into
        cdef Custom* more = <Custom*>other
        if more.place == 0:
            return 0
        if held.place == 0:
            held[0] = more[0]
            memset(more, 0, sizeof(Custom))
            return 0
        with gil:
            self.unite(held, more)
        held.first = min(held.first, more.first)
        return self.clear(other)

    cdef int unite(self, Custom* held, Custom* more) except -1:
        first, second = self.values[held.place - 1], self.values[more.place - 1]
        if more.first < held.first:
            first, second = second, first
        try:
            united = self.merge_values(first, second)
        except Exception as error:      # whatever user code raises is reported as its fault
            raise self.failed(error, {"at_row": self.row} if self.row >= 0 else {}) from error
        return self.keep(&held.place, united)

    cdef int save(self, char* state, char* saved) except -1 nogil:
        cdef SavedCustom* noted = <SavedCustom*>saved
        noted.state = (<Custom*>state)[0]
        noted.value = NULL
        if noted.state.place != 0:
            with gil:
                before = self.values[noted.state.place - 1]
                # The function may change what it is given: it gets a copy.
                self.values[noted.state.place - 1] = copied(before)
                Py_INCREF(before)
                noted.value = <PyObject*>before
        return 0

    cdef int restore(self, char* state, char* saved) except -1 nogil:
        cdef SavedCustom* noted = <SavedCustom*>saved
        if noted.state.place == 0:
            return self.clear(state)
        with gil:
            # A merge may have given the place away.
            self.keep(&(<Custom*>state).place, <object>noted.value)
        (<Custom*>state).first = noted.state.first
        return 0

    cdef int forget(self, char* saved) except -1 nogil:
        cdef SavedCustom* noted = <SavedCustom*>saved
        if noted.value != NULL:
            with gil:
                Py_XDECREF(noted.value)
            noted.value = NULL
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        if (<Custom*>state).place == 0:
            return results_null(&self.results)
        with gil:
            return self.append(self.values[(<Custom*>state).place - 1])

    cdef int append(self, value) except -1:
        cdef ColumnBuilder* built
        cdef Cell cell
        cdef Column column
        if self.result_of is not None:
            try:
                value = self.result_of(copied(value))
            except Exception as error:      # whatever user code raises is reported as its fault
                raise self.failed(error, {"at_row": self.row} if self.row >= 0 else {}) from error
        if value is None:
            return results_null(&self.results)
        self.writer.truncate(0)
        try:
            self.writer.append_values((value,), -1, 0, 0)
        except BadRow as error:
            raise self.failed(error, {"at_row": self.row} if self.row >= 0 else {}) from error
        built = &self.writer.columns[0]
        cell.tag = 1
        if self.output_kind == KIND_STR:
            cell.tag = 1 + (<int32_t*>built.strings.offsets.data)[1]
            cell.bits = <int64_t>built.strings.bytes.data
        elif self.output_kind == KIND_BOOL:
            cell.bits = (<uint8_t*>built.values.data)[0]
        elif self.output_kind == KIND_DEC:
            memset(&column, 0, sizeof(Column))
            column.kind, column.values = KIND_DEC, built.values.data
            cell = cell_load(&column, 0)
        else:
            cell.bits = (<int64_t*>built.values.data)[0]
        return results_append(&self.results, &cell)

    cdef int clear(self, char* state) except -1 nogil:
        cdef Custom* held = <Custom*>state
        if held.place != 0:
            with gil:
                self.values[held.place - 1] = None
                self.free_places.append(held.place)
        memset(held, 0, sizeof(Custom))
        return 0

    cdef int64_t heap_bytes(self, char* state):
        cdef int64_t place = (<Custom*>state).place
        return 0 if place == 0 else heap_size(self.values[place - 1])

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        if (<Custom*>state).place == 0:
            return write_i64(-1, out)
        with gil:
            self.encode((<Custom*>state).place, out)
        return write_i64((<Custom*>state).first, out)

    cdef int encode(self, int64_t place, ByteWriter* out) except -1:
        from streamdsl._native.serdes.codec import encode

        cdef bytes data = encode(self.values[place - 1])
        write_i64(len(data), out)
        return bytes_append(out, <const char*>data, len(data))

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef int64_t size = read_i64(source)
        cdef const char* data
        if size < 0:
            return 0
        data = read_bytes(source, size)
        with gil:
            self.decode(<Custom*>state, data, size)
        (<Custom*>state).first = read_i64(source)
        return 0

    cdef int decode(self, Custom* held, const char* data, int64_t size) except -1:
        from streamdsl._native.serdes.codec import decode

        return self.keep(&held.place, decode(data[:size]))
