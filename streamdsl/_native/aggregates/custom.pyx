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


cdef class CustomAccumulator(Accumulator):
    """The state is 1 + the place of the user's value in a list, 0 until the first row."""
    cdef object init_value
    cdef object add_value
    cdef int code                            # VALUE_* of the argument
    cdef object reader                       # what makes Python values of nested arguments, or None
    cdef RowWriter writer                    # checks what the user returns against the declared type
    cdef list values
    cdef list free_places

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = 8
        self.refuses = True
        self.saved_size = 2 * sizeof(void*)  # the place, and the value there (owned)
        self.init_value = spec.custom.init
        self.add_value = spec.custom.add
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
            return self.call(<int64_t*>state, argument)

    cdef int call(self, int64_t* place, const Cell* argument) except -1:
        try:
            before = self.values[place[0] - 1] if place[0] else self.init_value()
            value = cell_value(self.code, argument)
            after = self.add_value(before, value if self.reader is None or value is None else self.reader(value))
        except Exception as error:      # whatever user code raises is reported as its fault
            raise self.failed(error, {"at_row": self.row}) from error
        return self.keep(place, after)

    cdef int save(self, char* state, char* saved) except -1 nogil:
        cdef int64_t place = (<int64_t*>state)[0]
        (<int64_t*>saved)[0] = place
        (<PyObject**>saved)[1] = NULL
        if place != 0:
            with gil:
                before = self.values[place - 1]
                # The function may change what it is given: it gets a copy.
                self.values[place - 1] = copied(before)
                Py_INCREF(before)
                (<PyObject**>saved)[1] = <PyObject*>before
        return 0

    cdef int restore(self, char* state, char* saved) except -1 nogil:
        if (<int64_t*>saved)[0] == 0:
            return self.clear(state)
        with gil:
            self.values[(<int64_t*>saved)[0] - 1] = <object>(<PyObject**>saved)[1]
        return 0

    cdef int forget(self, char* saved) except -1 nogil:
        if (<PyObject**>saved)[1] != NULL:
            with gil:
                Py_XDECREF((<PyObject**>saved)[1])
            (<PyObject**>saved)[1] = NULL
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        if (<int64_t*>state)[0] == 0:
            return results_null(&self.results)
        with gil:
            return self.append(self.values[(<int64_t*>state)[0] - 1])

    cdef int append(self, value) except -1:
        cdef ColumnBuilder* built
        cdef Cell cell
        cdef Column column
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
        cdef int64_t* place = <int64_t*>state
        if place[0] != 0:
            with gil:
                self.values[place[0] - 1] = None
                self.free_places.append(place[0])
            place[0] = 0
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        if (<int64_t*>state)[0] == 0:
            return write_i64(-1, out)
        with gil:
            return self.encode((<int64_t*>state)[0], out)

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
            return self.decode(<int64_t*>state, data, size)

    cdef int decode(self, int64_t* place, const char* data, int64_t size) except -1:
        from streamdsl._native.serdes.codec import decode

        return self.keep(place, decode(data[:size]))
