"""Rows of a key united two by two by a Python function, running; by window: see window_code.pxd."""
cimport cython
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from streamdsl._native.flow.batch cimport (
    SYS_SLOT, SYS_TIME, Batch, StringBuilder, batch_release, batch_take, column_clear, i64, strings_append, strings_finish,
    strings_free, strings_init,
)
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.last_rows cimport LastRows
from streamdsl._native.operators.process_context cimport KeyReader
from streamdsl._native.rows.row cimport Row, RowShape, row_new, row_of_values
from streamdsl._native.rows.row_results cimport RESULT_DICT, RESULT_MAPPING, RESULT_OBJECT, RESULT_ROWS, result_kind
from streamdsl._native.operators.user_code cimport UserCodeOperator, check_result
from streamdsl._native.serdes.codec cimport decode_buffer, encode
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.row_table cimport RowField
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append

from sys import getsizeof

from streamdsl._native.rows.row_results import BadRow
from streamdsl.errors import StateError


# The table's rows refer to values that Python's collector cannot see: the table must outlive the field.
@cython.final
@cython.no_gc_clear
cdef class ReduceField(RowField):
    """The row accumulated so far: a tuple of values, NULL before the first."""
    cdef int width

    def __init__(self, str name, RowShape shape):
        columns = ", ".join([f"{name} {kind}" for name, kind in zip(shape.names, shape.types)])
        RowField.__init__(self, name, f"reduce/1 {columns}", sizeof(PyObject*))
        self.width = shape.width
        self.on_heap = True

    def __dealloc__(self):
        cdef int64_t slot
        if self.table is not None:
            slot = self.table.first_slot(0)
            while slot >= 0:
                replace(self.table.row(slot) + self.offset, None)
                slot = self.table.first_slot(slot + 1)

    cdef int64_t heap_bytes(self, char* field):
        cdef PyObject* kept = (<PyObject**>field)[0]
        if kept == NULL:
            return 0
        return getsizeof(<object>kept) + sum([getsizeof(value) for value in <tuple>kept])

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        if (<PyObject**>field)[0] == NULL:
            return 0
        with gil:
            encoded = encode(<object>(<PyObject**>field)[0])
            bytes_append(out, <char*>(<bytes>encoded), len(<bytes>encoded))
        return 0

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        with gil:
            values = decode_buffer(data, size) if size else None
            if values is not None and (type(values) is not tuple or len(values) != self.width):
                raise StateError(f"a row kept by {self.name} is damaged", remedy="Restore another checkpoint.")
            replace(field, values)
        return 0

    cdef int clear(self, char* field) except -1 nogil:
        with gil:
            replace(field, None)
        return 0


cdef void replace(char* field, object value) noexcept:
    cdef PyObject** place = <PyObject**>field
    cdef PyObject* old = place[0]
    if value is None:
        place[0] = NULL
    else:
        Py_INCREF(value)
        place[0] = <PyObject*>value
    Py_XDECREF(old)


cdef Row united(object function, RowShape shape, frozenset keys, Row so_far, Row row):
    cdef int i
    cdef list values = []
    result = function(so_far, row)
    check_result(result)
    kind = result_kind(result)
    if result is None or kind == RESULT_ROWS:
        raise BadRow(f"a reduce function returns one row, not {type(result).__name__}")
    by_item = kind != RESULT_OBJECT
    for i in range(shape.width):
        name = shape.names[i]
        if name in keys or shape.hidden[i]:
            values.append(row.value(i))
            continue
        try:
            values.append(result[name] if by_item else getattr(result, name))
        except (KeyError, AttributeError):
            raise BadRow(f"the row has no column {name!r}; reduce returns the columns it gets", name) from None
    if kind in (RESULT_DICT, RESULT_MAPPING):
        for name in result:
            if name not in shape.index:
                raise BadRow(f"the row has {shape.unknown(name)}", name)
    return row_of_values(shape, tuple(values))


@cython.final
cdef class ReduceOperator(UserCodeOperator):
    """`spec` is a `PhysicalReduce` without a window.

    Output: for each record the row accumulated so far, and the change: "add" or "replace". With emit="batch" a key gets one row for
    each batch, which stands where its last record stood.
    """
    cdef KeyLookup lookup
    cdef KeyTable table
    cdef ReduceField row_field
    cdef object function
    cdef object key_schema
    cdef frozenset keys
    cdef list output_of                      # for each input column: its place in the output, -1
    cdef int column_op
    cdef list changes                        # of the waiting rows: whether they are the first of their key
    cdef LastRows last_rows                  # None: a row for each record

    def __init__(self, spec, KeyLookup lookup not None):
        self.prepare(spec, True)
        self.lookup = lookup
        self.table = lookup.table
        self.function = spec.function
        self.key_schema = spec.key_schema
        self.keys = frozenset(field.name for field in spec.key_schema.fields)
        self.row_field = ReduceField(self.name, self.input_shape)
        places = self.main.shape.index
        self.output_of = [-1 if self.input_shape.hidden[i] else places.get(name, -1) for i, name in enumerate(self.input_shape.names)]
        self.column_op = places.get("op", -1)
        self.changes = []
        self.last_rows = LastRows() if spec.emit == "batch" else None

    def open(self, context):
        context.lookup.add_field(self.row_field)

    cdef int process(self, Batch* batch) except -1 nogil:
        with gil:
            self.run(batch)
        return 0

    cdef int run(self, Batch* batch) except -1:
        cdef int32_t i
        cdef int before
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef PyObject** place
        cdef Row row
        cdef Row made
        for i in range(batch.n):
            place = <PyObject**>(self.table.row(slots[i]) + self.row_field.offset)
            row = row_new(self.input_shape, batch, i)
            before = self.main.n
            try:
                if place[0] == NULL:
                    made = row
                else:
                    made = united(self.function, self.input_shape, self.keys,
                                  row_of_values(self.input_shape, <tuple>place[0]), row)
                self.main.append(made, i, times[i], slots[i])
                self.table.touch(slots[i])
                self.changes.append(place[0] == NULL)
                replace(<char*>place, self.kept(made))
            except Exception as error:       # whatever user code raises
                self.main.truncate(before)
                del self.changes[before:]
                self.on_error(error, "the reduce function", row, None, slots[i], times[i])
        if self.main.n:
            self.send_changes(batch)
        return self.flush(batch)

    def state(self):
        """Return {key: row accumulated so far, as a dict} of all keys."""
        cdef int64_t slot = self.table.first_slot(0)
        cdef KeyReader reader = KeyReader(self.lookup, self.key_schema)
        cdef PyObject** place
        found = {}
        while slot >= 0:
            place = <PyObject**>(self.table.row(slot) + self.row_field.offset)
            if place[0] != NULL:
                found[reader.key(slot)] = row_of_values(self.input_shape, <tuple>place[0]).asdict()
            slot = self.table.first_slot(slot + 1)
        return found

    cdef tuple kept(self, Row made):
        # As the output column reads: plain values, whatever the function returned.
        cdef int i, place
        cdef list values = []
        for i in range(self.input_shape.width):
            place = self.output_of[i]
            values.append(made.value(i) if place < 0 else self.main.value_at(place, self.main.n - 1))
        return tuple(values)

    cdef Batch* last_of(self, Batch* made) except NULL:
        """Take the last row of each key, and their changes; the batch is released."""
        cdef int64_t* slots = i64(&made.sys[SYS_SLOT])
        cdef int32_t i, n
        cdef int32_t* rows = <int32_t*>malloc((made.n + 1) * sizeof(int32_t))
        try:
            if rows == NULL:
                raise MemoryError("no memory left for a reduction")
            n = self.last_rows.find(slots, made.n, rows)
            new = {slots[i] for i in range(made.n) if self.changes[i]}
            self.changes = [slots[rows[i]] in new for i in range(n)]
            return batch_take(made, rows, n)
        finally:
            batch_release(made)
            free(rows)

    cdef int send_changes(self, Batch* batch) except -1:
        cdef StringBuilder builder
        cdef Batch* out = self.main.take(batch)
        if self.last_rows is not None:
            out = self.last_of(out)
        if self.column_op >= 0:
            column_clear(&out.columns[self.column_op])
            strings_init(&builder, out.n, 8 * out.n)
            try:
                for first in self.changes:
                    if first:
                        strings_append(&builder, b"add", 3)
                    else:
                        strings_append(&builder, b"replace", 7)
                strings_finish(&builder, &out.columns[self.column_op])
            except BaseException:
                strings_free(&builder)
                batch_release(out)
                raise
        self.changes = []
        self.emitted += out.n
        return self.send(self.next, out)
