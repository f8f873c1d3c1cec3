"""See window_code.pxd."""
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int32_t
from libc.string cimport memset

from streamdsl._native.aggregates.cell cimport ByteReader, read_bytes, read_i64, write_i64
from streamdsl._native.flow.batch cimport Column, batch_release
from streamdsl._native.includes.clock cimport wall_ms
from streamdsl._native.operators.process_context cimport KeyReader, new_context, undo_log_of
from streamdsl._native.operators.reduce cimport united
from streamdsl._native.operators.refusals cimport POLICY_FAIL
from streamdsl._native.operators.user_code cimport check_result
from streamdsl._native.rows.row cimport Row, row_new, row_of_values
from streamdsl._native.rows.row_block cimport RowBlock
from streamdsl._native.rows.row_results cimport RESULT_ROWS, result_kind
from streamdsl._native.serdes.codec cimport decode_buffer, encode
from streamdsl._native.state.state_field cimport SWEEP_ROWS
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append
from streamdsl._native.windows.contents cimport CHANGE_ADD, CHANGE_REPLACE, CHANGE_WITHDRAW

from sys import getsizeof
from types import SimpleNamespace

from streamdsl._native.operators.process_context import close_processor, instance_of, open_processor, overrides
from streamdsl._native.rows.row_results import BadRow
from streamdsl.errors import StateError, TopologyError, UserCodeError

cdef enum:
    FLUSH_ROWS = 4096

cdef dict WORDS = {CHANGE_ADD: "add", CHANGE_REPLACE: "replace", CHANGE_WITHDRAW: "withdraw"}


cdef struct OneRow:
    PyObject* values           # a tuple of the columns' values, owned; NULL: no record yet
    int64_t first              # arrival number of the first record


class Window:
    """A window of a key: `start` and `end` in ms."""

    __slots__ = ("start", "end")

    def __init__(self, start, end):
        self.start = start
        self.end = end

    def __eq__(self, other):
        return isinstance(other, Window) and (self.start, self.end) == (other.start, other.end)

    def __hash__(self):
        return hash((self.start, self.end))

    def __repr__(self):
        return f"Window(start={self.start}, end={self.end})"


cdef class WindowCode(UserCodeOperator):
    """`spec` is the operator of the physical plan; `late` the tag that the window operator serves itself."""

    def __init__(self, spec, str late):
        self.prepare(SimpleNamespace(name=spec.name, schema=spec.schema, input_schema=spec.input_schema, errors=spec.errors,
                                     tags=[(tag, schema) for tag, schema in spec.tags if tag != late]), True)

    cdef int waiting_rows(self) noexcept:
        return self.main.n

    cdef int send_rows(self, Batch* batch) except -1:
        return self.flush(batch)


cdef class CodeContents(Contents):
    """Base. `spec` is the operator of the physical plan."""

    def __init__(self, spec, KeyLookup lookup not None, str late):
        self.code = WindowCode(spec, late)
        self.lookup = lookup
        self.arena = lookup.table.arena
        self.sends = True

    cdef int open(self, Column* columns, int64_t most, int64_t arrived) except -1 nogil:
        self.arrived = arrived
        return 0

    cdef int send(self, Batch* batch) except -1 nogil:
        with gil:
            self.code.send_rows(batch)
        return 0

    cdef void follow(self) noexcept nogil:
        pass

    cdef int expire(self, int64_t watermark) except -1 nogil:
        return 0

    def open_code(self, context):
        """Let user code begin; `context` is what the window operator is given."""

    def close(self):
        """Close what user code has opened."""


cdef class RowsContents(CodeContents):
    """The rows of a window, in the order in which they came: a Processor gets them."""

    def __init__(self, spec, KeyLookup lookup not None, str late):
        CodeContents.__init__(self, spec, lookup, late)
        self.key_schema = spec.key_schema
        self.processor = instance_of(spec.processor)
        if not overrides(self.processor, "process_window"):
            raise TopologyError(f"{spec.name}: {type(self.processor).__name__} has no process_window(key, window, rows, ctx)",
                                remedy="Define it, or process the rows without a window.")
        self.packer = RowPacker(self.code.input_shape, self.arena)
        self.size = sizeof(RowBlock)
        self.layout = self.packer.layout
        self.by_batch = True

    def open_code(self, context):
        self.clock = context.clock
        self.context = new_context(self.code, self.lookup, KeyReader(self.lookup, self.key_schema), None)
        self.scope = self.context.scope
        open_processor(context.name, self.processor, self.context)
        self.state_field = self.context.state.lay_out(context.name)
        self.undo = undo_log_of(self.context)

    def state_of_user(self):
        """Return the field of the states that the Processor declares."""
        return self.state_field

    def declared_states(self):
        """Return what the Processor has declared of its states, as {part: text} for the manifest."""
        return self.context.state.declared()

    def user_state(self):
        """Return {key: {state: value}} of all keys that have any, expired values included."""
        cdef int64_t slot = self.lookup.table.first_slot(0)
        found = {}
        while slot >= 0:
            values = self.state_field.states_at(slot)
            if values:
                found[self.context.reader.key(slot)] = values
            slot = self.lookup.table.first_slot(slot + 1)
        return found

    def metrics(self):
        """Return the Processor's own figures."""
        return self.context.metrics.values()

    def close(self):
        """Close the Processor; called once."""
        close_processor(self.code.name, self.processor)

    cdef int64_t wall(self) noexcept nogil:
        return wall_ms() if self.clock is None else self.clock.now_ms()

    cdef void follow(self) noexcept nogil:
        self.scope.follow(self.lookup.watermark, self.lookup.shard_watermarks, self.lookup.latest_shard)

    cdef int expire(self, int64_t watermark) except -1 nogil:
        self.scope.settle(watermark)
        if self.state_field.any_ttl:
            with gil:
                self.scope.wall = self.wall()
                self.scope.sweep(SWEEP_ROWS)
        return 0

    # What is in a window -----------------------------------------------------------------------------------------

    cdef int add(self, char* state, Batch* batch, int32_t row) except -1 nogil:
        return self.packer.append(<RowBlock*>state, batch, row, self.arrived + row)

    cdef int merge(self, char* into, char* other) except -1 nogil:
        return self.packer.merge(<RowBlock*>into, <RowBlock*>other)

    cdef int clear(self, char* state) except -1 nogil:
        self.packer.free(<RowBlock*>state)
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef RowBlock* block = <RowBlock*>state
        write_i64(block.used, out)
        return bytes_append(out, block.data, block.used) if block.used > 0 else 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef int64_t size = read_i64(source)
        return self.packer.read(<RowBlock*>state, read_bytes(source, size), size)

    cdef list values(self, list states):
        return [{"rows": (<RowBlock*><size_t>state).n} for state in states]

    # What leaves -------------------------------------------------------------------------------------------------

    cdef int show(self, char* state, const Shown* shown) except -1 nogil:
        with gil:
            self.follow()
            self.scope.wall = self.wall()
            self.context.active = True
            self.context.reader.slot = -1
            try:
                self.call(state, shown)
            finally:
                self.context.active = False
                self.scope.unbind()
            if self.code.waiting_rows() >= FLUSH_ROWS:
                self.code.send_rows(NULL)
        return 0

    cdef int call(self, char* state, const Shown* shown) except -1:
        cdef Batch* batch = self.packer.rows(<RowBlock*>state)
        cdef int32_t i
        cdef list rows
        try:
            rows = [row_new(self.code.input_shape, batch, i) for i in range(batch.n)]
        finally:
            batch_release(batch)
        self.scope.bind(shown.slot, shown.last)
        self.context.row = -1
        self.context.time = shown.last
        if self.undo is not None:
            self.marks = [(<RowWriter>writer).n for writer in self.code.writers.values()]
            self.undo.begin()
        try:
            result = self.processor.process_window(
                self.context.reader.key(shown.slot), Window(shown.start, shown.end), list(rows), self.context)
            if result is not None:
                self.take(result, shown.last, shown.slot)
        except Exception as error:           # whatever user code raises
            self.refuse(error, rows, shown)
        return 0

    cdef int take(self, object result, int64_t time, int64_t slot) except -1:
        check_result(result)
        if result_kind(result) != RESULT_ROWS:
            return self.code.main.append(result, -1, time, slot)
        for item in result:
            self.code.main.append(item, -1, time, slot)
        return 0

    cdef int refuse(self, object error, list rows, const Shown* shown) except -1:
        """Nobody knows which row it was: with a policy all rows of the window are counted, or become dead letters."""
        if self.undo is not None:
            for writer, n in zip(self.code.writers.values(), self.marks):
                (<RowWriter>writer).truncate(n)
            self.undo.take_back()
        doing = f"{type(self.processor).__name__}.process_window of [{shown.start}, {shown.end}) with {len(rows)} rows"
        for row in rows:
            self.code.on_error(error, doing, row, self.context.reader.key(shown.slot), shown.slot, shown.last)
        return 0


cdef void replace(OneRow* held, object values) noexcept:
    cdef PyObject* old = held.values
    if values is None:
        held.values = NULL
    else:
        Py_INCREF(values)
        held.values = <PyObject*>values
    Py_XDECREF(old)


cdef class OneRowContents(CodeContents):
    """The row that a reduction has made of a window's records so far."""

    def __init__(self, spec, KeyLookup lookup not None, str late):
        CodeContents.__init__(self, spec, lookup, late)
        self.shape = self.code.input_shape
        self.function = spec.function
        self.keys = frozenset(field.name for field in spec.key_schema.fields)
        self.names = [field.name for field in spec.schema.fields if not field.hidden]
        self.start_at, self.end_at = self.code.main.shape.index["window_start"], self.code.main.shape.index["window_end"]
        self.size = sizeof(OneRow)
        columns = ", ".join([f"{name} {kind}" for name, kind in zip(self.shape.names, self.shape.types)])
        self.layout = f"row/1 {columns}"
        self.on_heap = True
        self.refuses = True
        seen = [field for field in spec.input_schema.fields if not field.hidden]
        self.check = RowWriter(spec.name, SimpleNamespace(fields=tuple(seen)))
        places = {field.name: i for i, field in enumerate(seen)}
        self.place_of = [-1 if self.shape.hidden[i] else places[name] for i, name in enumerate(self.shape.names)]

    cdef int add(self, char* state, Batch* batch, int32_t row) except -1 nogil:
        with gil:
            self.add_row(state, batch, row)
        return 0

    cdef int add_row(self, char* state, Batch* batch, int row) except -1:
        cdef OneRow* held = <OneRow*>state
        cdef Row added = row_new(self.shape, batch, row)
        try:
            if held.values == NULL:
                replace(held, self.kept(added))
                held.first = self.arrived + row
            else:
                replace(held, self.kept(united(self.function, self.shape, self.keys,
                                               row_of_values(self.shape, <tuple>held.values), added)))
        except Exception as error:           # whatever user code raises
            self.refuse(error, added)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        with gil:
            self.unite(into, other)
        return 0

    cdef int unite(self, char* into, char* other) except -1:
        cdef OneRow* first = <OneRow*>into
        cdef OneRow* second = <OneRow*>other
        cdef OneRow swapped
        if second.values == NULL:
            return 0
        if first.values == NULL or second.first < first.first:
            swapped = first[0]
            first[0] = second[0]
            second[0] = swapped
        if second.values == NULL:
            return 0
        try:
            replace(first, self.kept(united(self.function, self.shape, self.keys, row_of_values(self.shape, <tuple>first.values),
                                            row_of_values(self.shape, <tuple>second.values))))
        except Exception as error:           # whatever user code raises
            self.refuse(error, row_of_values(self.shape, <tuple>second.values))
        replace(second, None)
        memset(second, 0, sizeof(OneRow))
        return 0

    cdef int refuse(self, object error, object row) except -1:
        if self.code.policy == POLICY_FAIL:
            return self.code.on_error(error, "the reduce function", row, None, -1, 0)
        raise UserCodeError(str(error) if isinstance(error, BadRow) else f"{type(error).__name__}: {error}") from error

    cdef tuple kept(self, object made):
        """Return the values as the columns have them: plain ones, whatever the function returned."""
        cdef Row row = <Row?>made
        cdef int i
        self.check.append({name: row.value(i) for i, name in enumerate(self.shape.names) if self.place_of[i] >= 0}, -1, 0, -1)
        try:
            return tuple([row.value(i) if self.place_of[i] < 0 else self.check.value_at(self.place_of[i], self.check.n - 1)
                          for i in range(self.shape.width)])
        finally:
            self.check.truncate(0)

    cdef int clear(self, char* state) except -1 nogil:
        with gil:
            replace(<OneRow*>state, None)
        memset(state, 0, sizeof(OneRow))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        write_i64((<OneRow*>state).first, out)
        with gil:
            encoded = b"" if (<OneRow*>state).values == NULL else encode(<object>(<OneRow*>state).values)
            write_i64(len(encoded), out)
            bytes_append(out, <char*>(<bytes>encoded), len(<bytes>encoded))
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef int64_t first = read_i64(source), size = read_i64(source)
        cdef const char* data = read_bytes(source, size)
        with gil:
            values = decode_buffer(data, size) if size else None
            if values is not None and (type(values) is not tuple or len(values) != self.shape.width):
                raise StateError(f"a row kept by {self.code.name} is damaged", remedy="Restore another checkpoint.")
            replace(<OneRow*>state, values)
        (<OneRow*>state).first = first
        return 0

    cdef int64_t heap_bytes(self, char* state):
        cdef PyObject* kept = (<OneRow*>state).values
        if kept == NULL:
            return 0
        return getsizeof(<object>kept) + sum([getsizeof(value) for value in <tuple>kept])

    cdef int show(self, char* state, const Shown* shown) except -1 nogil:
        with gil:
            self.show_row(state, shown)
        return 0

    cdef int show_row(self, char* state, const Shown* shown) except -1:
        cdef Row row = row_of_values(self.shape, <tuple>(<OneRow*>state).values)
        cdef dict made = {name: row[name] if name in self.shape.index else WORDS.get(shown.change) for name in self.names}
        # The bounds may lie where Python has no dates: they stand in the columns as they are.
        made["window_start"] = made["window_end"] = 0
        self.code.main.append(made, shown.row, shown.last, shown.slot)
        self.code.main.set_time(self.start_at, shown.start)
        self.code.main.set_time(self.end_at, shown.end)
        return 0

    cdef int take_back(self, int64_t n) except -1 nogil:
        with gil:
            self.code.main.truncate(<int>n)
        return 0

    cdef list values(self, list states):
        return [row_of_values(self.shape, <tuple>(<OneRow*><size_t>state).values).asdict() for state in states]
