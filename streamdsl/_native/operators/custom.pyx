"""A user's own aggregate, `Aggregate(init, add, merge, type)`: Python, one call a record, under the GIL."""
import json

from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_F64, KIND_I64, KIND_STR, KIND_U64
from streamdsl._native.operators.accumulators cimport Accumulator
from streamdsl._native.operators.cell cimport (
    ByteReader, Cell, as_f64, f64_bits, read_bytes, read_i64, results_append, results_null, write_i64,
)
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append

from streamdsl.errors import UserCodeError


cdef object cell_value(int kind, bint binary, const Cell* cell):
    """Return the cell as a Python value."""
    if cell.tag == 0:
        return None
    if kind == KIND_BOOL:
        return cell.bits != 0
    if kind == KIND_F64:
        return as_f64(cell.bits)
    if kind == KIND_U64:
        return <unsigned long long>cell.bits
    if kind == KIND_STR:
        data = (<char*>cell.bits)[:cell.tag - 1] if cell.tag > 1 else b""
        return data if binary else data.decode("utf-8")
    return cell.bits


cdef class CustomAccumulator(Accumulator):
    """The state is 1 + the place of the user's value in a list, 0 until the first row."""
    cdef object init_value
    cdef object add_value
    cdef bint binary
    cdef list values
    cdef list free_places

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = 8
        self.init_value = spec.custom.init
        self.add_value = spec.custom.add
        self.binary = spec.input_type is not None and str(spec.input_type).endswith("binary")
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
            after = self.add_value(before, cell_value(self.argument_kind, self.binary, argument))
        except Exception as error:      # whatever user code raises is reported as its fault
            raise self.failed(error, {"at_row": self.row}) from error
        return self.keep(place, after)

    cdef int emit(self, char* state) except -1 nogil:
        if (<int64_t*>state)[0] == 0:
            return results_null(&self.results)
        with gil:
            return self.append(self.values[(<int64_t*>state)[0] - 1])

    cdef int append(self, value) except -1:
        cdef Cell cell
        if value is None:
            return results_null(&self.results)
        try:
            text = self.convert(value, &cell)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.failed(error, {}) from error
        results_append(&self.results, &cell)
        del text
        return 0

    cdef bytes convert(self, value, Cell* cell):
        """Fill the cell; what is returned owns its bytes."""
        cdef bytes text = None
        cdef double number
        cell.tag = 1
        if self.output_kind == KIND_BOOL:
            cell.bits = bool(value)
        elif self.output_kind == KIND_F64:
            number = value
            cell.bits = f64_bits(number)
        elif self.output_kind == KIND_U64:
            cell.bits = <int64_t><unsigned long long>value
        elif self.output_kind == KIND_I64:
            cell.bits = value
        else:
            if isinstance(value, bytes):
                text = value
            elif isinstance(value, str):
                text = value.encode("utf-8")
            else:
                text = json.dumps(value).encode("utf-8")
            cell.tag = 1 + len(text)
            cell.bits = <int64_t><char*>text
        return text

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
