"""An asynchronous function on a stream: many calls are under way, and the task goes on reading.

What waits is a queue of calls and, between them, of watermarks and changes of idleness: none of these passes a row that came before it.
Calls run in a thread of their own (`async_calls`). They only note their results; the task emits them in a step of its own.

Calls that are under way are part of a snapshot, as rows, and are made again after a restore. The watermarks between them stay where they
were, unless calls of several tasks meet.
"""
from collections import deque
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t
from libc.stdlib cimport free, malloc
cimport cython

from streamdsl._native.event_time.read_order cimport Place, places
from streamdsl._native.flow.arrow cimport batch_from_arrow, batch_to_arrow, column_from_arrow
from streamdsl._native.flow.batch cimport (
    KIND_DEC, SYS_ORDINAL, SYS_TIME, Batch, batch_release, batch_share, batch_take, column_alloc, column_share, i64,
)
from streamdsl._native.includes.atomic cimport atomic_load, atomic_store
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.user_code cimport UserCodeOperator, check_result
from streamdsl._native.rows.row cimport Row, row_new
from streamdsl._native.rows.row_results cimport RESULT_ROWS, result_kind

from streamdsl._native.flow.convert import canonical_type, from_canonical, to_canonical
from streamdsl._native.operators.async_calls import NOTHING, Calls
from streamdsl._native.operators.declaration import Declaration
from streamdsl._native.rows.row_results import BadRow
from streamdsl.errors import ConnectorError, StateError, StreamError

import base64
from itertools import groupby

import pyarrow as pa

cdef enum:
    A_CALL = 0
    A_WATERMARK = 1
    A_STATUS = 2

cdef double WAIT_S = 0.005

#: The column of a snapshot that holds the rows' event times.
TIME = "_time"


#: Marks a column of a snapshot that functions do not see.
HIDDEN = {b"hidden": b"1"}


cdef object canonical_schema(schema):
    return pa.schema([pa.field(field.name, canonical_type(field.type)) for field in schema])


def batch_address(Waiting call not None):
    return <size_t>call.row.batch


cdef object without_hidden(schema):
    return pa.schema([field for field in schema if not field.metadata])


cdef str listed(schema):
    return ", ".join([f"{field.name}: {field.type}" for field in schema if field.name != TIME])


@cython.final
cdef class Waiting:
    """A call, or what must not overtake it: a watermark, a change of idleness."""
    cdef int kind
    cdef int64_t value                       # the row's event time; the watermark; whether it is idle
    cdef Place place                         # the row's, if its batch has places
    cdef int64_t read_ns                     # when the row was read
    cdef public Row row
    cdef object result
    cdef object error
    cdef bint ended

    def finish(self, result, error):
        """Take what the function returned, or raised last."""
        self.result = result
        self.error = error
        self.ended = True


@cython.final
cdef class MapAsyncOperator(UserCodeOperator):
    """`spec` is a `PhysicalMapAsync`."""
    cdef object spec
    cdef object calls                        # Calls; None before `start`
    cdef object queue                        # deque of Waiting, as they came
    cdef list again                          # tables of rows that a snapshot held, to be called again, each with its marks
    cdef int64_t heard                       # the last watermark of the input
    cdef int64_t passed                      # the last one that went on
    cdef bint silent                         # the input has said nothing since the restore, and watermarks of the snapshot wait for it
    cdef bint ordered
    cdef bint at_once                        # the clock stands still: each batch is waited for
    cdef int64_t capacity
    cdef int64_t n_calls                     # among the queue
    cdef int64_t read_ns                     # of the oldest of the rows that wait to be emitted
    cdef bint placed                         # rows have places (event_time/read_order.pxd)
    cdef list emitting                       # the calls that have made them
    cdef int64_t ended                       # atomic: calls have ended since it was last looked

    def __init__(self, spec):
        self.spec = spec
        self.prepare(spec, False)
        self.queue = deque()
        self.again = []
        self.heard = self.passed = INT64_MIN
        self.emitting = []
        self.ordered = spec.ordered
        self.capacity = spec.capacity

    def declare(self):
        return Declaration(deadlines=True, wakeups=True, room=True, most_rows=self.capacity)

    def open(self, context):
        self.at_once = not context.clock.runs()

    def start(self):
        """Open the loop, and make the calls again that a snapshot held."""
        spec = self.spec
        self.calls = Calls(spec.function, spec.capacity, spec.timeout_ms / 1000, spec.retry, self.told)
        try:
            self.calls.start()
        except StreamError:
            raise
        except Exception as error:           # whatever opening raises
            raise ConnectorError(f"{self.name} cannot be opened: {type(error).__name__}: {error}", recoverable=True) from error
        again, self.again = self.again, []
        for table, marks in again:
            first = 0
            # Of several tasks one may have been behind: a watermark of another would make its rows late.
            for at, watermark in marks if len(again) == 1 else []:
                self.call_again(table.slice(first, at - first))
                self.line_up(A_WATERMARK, watermark)
                self.silent = True
                first = at
            self.call_again(table.slice(first))

    cdef int call_again(self, object table) except -1:
        cdef Batch* batch
        if len(table) == 0:
            return 0
        batch = self.batch_of(table)
        try:
            return self.accept(batch)
        finally:
            batch_release(batch)

    cdef Batch* batch_of(self, object table) except NULL:
        """Return rows of a snapshot. Where a record came from is part of its row again: an error, or a dead letter, will say so."""
        cdef Batch* batch
        shape = self.input_shape
        arrays = [table.column(name).combine_chunks() if name in table.column_names else pa.nulls(len(table), type_)
                  for name, type_ in zip(shape.names, shape.types)]
        rows = to_canonical(pa.RecordBatch.from_arrays(arrays, names=list(shape.names)), list(shape.types))
        batch = batch_from_arrow(rows)
        try:
            column_from_arrow(table.column(TIME).combine_chunks(), &batch.sys[SYS_TIME])
        except BaseException:
            batch_release(batch)
            raise
        return batch

    def told(self):
        """Calls have ended; from the loop's thread."""
        atomic_store(&self.ended, 1)

    cdef int process(self, Batch* batch) except -1 nogil:
        with gil:
            self.listen()
            self.accept(batch)
            if self.at_once:
                while self.n_calls:
                    self.calls.wait(WAIT_S)
                    self.drain()
        return 0

    cdef int accept(self, Batch* batch) except -1:
        cdef int32_t i
        cdef Waiting call
        cdef list begun = []
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        self.placed = batch.sys[SYS_ORDINAL].kind == KIND_DEC
        for i in range(batch.n):
            call = Waiting.__new__(Waiting)
            call.kind = A_CALL
            call.value = times[i]
            call.read_ns = batch.read_ns
            if self.placed:
                call.place = places(&batch.sys[SYS_ORDINAL])[i]
            call.row = row_new(self.input_shape, batch, i)
            begun.append(call)
        self.queue.extend(begun)
        self.n_calls += batch.n
        self.calls.submit(begun)
        return 0

    cdef int has_room(self) except -1 nogil:
        # A round of event time is over once its last row has left: no other is begun before.
        return self.silent or (self.n_calls == 0 if self.placed else self.n_calls < self.capacity)

    cdef int64_t next_wakeup(self) noexcept nogil:
        return INT64_MIN + 1 if atomic_load(&self.ended) else INT64_MAX

    cdef int on_processing_time(self, int64_t now_ms) except -1 nogil:
        with gil:
            self.drain()
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        with gil:
            self.put(A_WATERMARK, watermark)
            if watermark == INT64_MAX and self.queue:
                self.closing = True          # the end waits for the last call
        return 0

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        with gil:
            if self.n_calls:
                self.calls.wait(WAIT_S)
            self.drain()
            if self.queue:
                return most
            self.closing = False
        return 0

    cdef int on_idle(self, bint idle) except -1 nogil:
        with gil:
            self.put(A_STATUS, idle)
        return 0

    cdef int put(self, int kind, int64_t value) except -1:
        """Pass on a watermark or a change of idleness, now or behind the calls that wait."""
        if kind == A_WATERMARK:
            self.heard = max(self.heard, value)
        self.listen()
        if not self.queue or PLANTED("watermark-passes-call"):
            return self.pass_mark(kind, value)
        return self.line_up(kind, value)

    cdef int listen(self) except -1:
        """The input has said something: what waited for that goes on.

        A watermark of the snapshot may be ahead of the input, which has other splits now. What the input says later cannot vouch for
        it: rows come before that, and the watermark stands in front of them.
        """
        cdef Waiting one
        if self.silent:
            self.silent = False
            atomic_store(&self.ended, 1)
            for one in self.queue:
                if one.kind == A_WATERMARK and not PLANTED("mark-ahead-of-input") and not PLANTED("mark-held-to-what-is-heard-later"):
                    one.value = min(one.value, self.heard)
        return 0

    cdef int line_up(self, int kind, int64_t value) except -1:
        cdef Waiting mark
        mark = <Waiting>self.queue[len(self.queue) - 1] if self.queue else None
        if mark is None or mark.kind != kind:
            mark = Waiting.__new__(Waiting)
            mark.kind = kind
            self.queue.append(mark)
        mark.value = value
        return 0

    cdef int pass_mark(self, int kind, int64_t value) except -1:
        if kind == A_WATERMARK:
            if PLANTED("mark-held-to-what-is-heard-later"):
                value = min(value, self.heard)
            if value <= self.passed:
                return 0
            self.passed = value
        with nogil:
            if kind == A_WATERMARK:
                UserCodeOperator.on_watermark(self, value)
            else:
                UserCodeOperator.on_idle(self, value != 0)
        return 0

    cdef int drain(self) except -1:
        """Emit what has ended: in order, or whatever stands before the next mark.

        A watermark is the last for now: windows behind may have to close before another row comes.
        """
        cdef Waiting head
        cdef bint emitted = False
        atomic_store(&self.ended, 0)
        while self.queue:
            head = <Waiting>self.queue[0]
            if head.kind == A_CALL:
                if not head.ended and (self.ordered or not self.pull_ended()):
                    break
                if not head.ended:
                    head = <Waiting>self.queue[0]
                self.queue.popleft()
                self.n_calls -= 1
                self.emit_result(head)
                emitted = True
                continue
            if self.silent and head.kind == A_WATERMARK and not PLANTED("mark-ahead-of-input"):
                break
            self.queue.popleft()
            if emitted:
                self.flush_rows()
                emitted = False
            self.pass_mark(head.kind, head.value)
            if head.kind == A_WATERMARK and not PLANTED("rows-pass-closing-windows"):
                if self.queue:
                    atomic_store(&self.ended, 1)
                break
        if emitted:
            self.flush_rows()
        return 0

    cdef bint pull_ended(self) except -1:
        """Bring the first call that has ended to the front, as long as no mark stands before it."""
        cdef Waiting one
        cdef Py_ssize_t at
        for at in range(len(self.queue)):
            one = <Waiting>self.queue[at]
            if one.kind != A_CALL:
                return False
            if one.ended:
                del self.queue[at]
                self.queue.appendleft(one)
                return True
        return False

    cdef int flush_rows(self) except -1:
        cdef Batch* out
        if self.main.n:
            self.emitted += self.main.n
            out = self.main.take(NULL)
            out.read_ns = self.read_ns
            self.set_places(out)
            self.send(self.next, out)
        self.read_ns = 0
        self.flush(NULL)                     # dead letters
        with nogil:
            self.end_batch()
        return 0

    cdef int set_places(self, Batch* out) except -1:
        cdef int i
        cdef Waiting call
        if self.placed:
            column_alloc(&out.sys[SYS_ORDINAL], KIND_DEC, out.n, 0)
            for i in range(out.n):
                call = <Waiting>self.emitting[i]
                places(&out.sys[SYS_ORDINAL])[i] = call.place
        self.emitting.clear()
        return 0

    cdef int emit_result(self, Waiting call) except -1:
        cdef int before = self.main.n
        if self.read_ns == 0 or call.read_ns < self.read_ns:
            self.read_ns = call.read_ns
        try:
            if call.error is not None:
                raise call.error
            if call.result is NOTHING:
                return 0
            check_result(call.result)
            if call.result is None:
                raise BadRow("the function returned None; it returns a row")
            if result_kind(call.result) == RESULT_ROWS:
                raise BadRow("the function returned several rows; it returns one (flat_map behind it makes more)")
            self.main.append(call.result, -1, call.value, 0)
            self.emitting.append(call)
        except Exception as error:           # whatever user code raises
            self.main.truncate(before)
            self.on_error(error, "the call", call.row, None, 0, call.value)
        return 0

    def snapshot(self, checkpoint_id):
        """Return the rows whose calls are under way, None if there are none."""
        cdef Waiting one
        calls = [one for one in self.queue if one.kind == A_CALL and not (PLANTED("ended-call-not-kept") and one.ended)]
        if PLANTED("call-in-flight-lost"):
            calls = []
        if not calls:
            return None
        schema = self.kept_schema()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            for _, together in groupby(calls, batch_address):
                stream.write_batch(self.rows_of(list(together), schema))
        return {"calls": base64.b64encode(sink.getvalue()).decode(), "marks": self.marks_between()}

    cdef list marks_between(self):
        """Return [[n, watermark], ...]: a watermark that stands behind the first n of the calls. The last one comes again by itself."""
        cdef Waiting one
        cdef int64_t n = 0
        found = []
        for one in self.queue:
            if one.kind == A_CALL:
                n += 1
            elif one.kind == A_WATERMARK and one.value < INT64_MAX and not PLANTED("marks-between-calls-lost"):
                found.append([n, one.value])
        return found

    cdef object rows_of(self, list calls, object schema):
        """Return rows of one batch as they lie there: what Python cannot hold of a value that nobody reads is kept all the same."""
        cdef Waiting one = <Waiting>calls[0]
        cdef int i, n = len(calls), width = self.input_shape.width
        cdef int32_t* at = <int32_t*>malloc(n * sizeof(int32_t))
        cdef Batch* taken = NULL
        cdef Batch* narrow = NULL
        if at == NULL:
            raise MemoryError("no memory left for a snapshot of calls")
        try:
            for i in range(n):
                at[i] = <int32_t>(<Waiting>calls[i]).row.at
            taken = batch_take(one.row.batch, at, n)
            narrow = batch_share(taken, width)
            for i in range(width):
                column_share(&narrow.columns[i], &taken.columns[i])
            declared = pa.schema(list(schema)[:width])
            rows = from_canonical(batch_to_arrow(narrow, canonical_schema(declared)), declared)
        finally:
            free(at)
            batch_release(narrow)
            batch_release(taken)
        times = pa.array([(<Waiting>call).value for call in calls], pa.int64())
        return pa.RecordBatch.from_arrays([*rows.columns, times], schema=schema)

    cdef object kept_schema(self):
        shape = self.input_shape
        fields = [pa.field(shape.names[i], shape.types[i], metadata=HIDDEN if shape.hidden[i] else None) for i in range(shape.width)]
        return pa.schema([*fields, pa.field(TIME, pa.int64())])

    def restore(self, state):
        """Note the rows of calls that were under way; `start` makes them again."""
        table = pa.ipc.open_stream(base64.b64decode(state["calls"])).read_all()
        hidden = {field.name: field.type for field in self.kept_schema() if field.metadata}
        expected = without_hidden(self.kept_schema())
        # Which columns are hidden depends on who reads them: one that is asked for now, and was not then, is null.
        table = table.select([field.name for field in table.schema if not field.metadata or hidden.get(field.name) == field.type])
        if without_hidden(table.schema) != expected:
            raise StateError(
                f"the checkpoint holds calls of {self.name!r} over rows of ({listed(without_hidden(table.schema))}), "
                f"the topology has ({listed(expected)}) now",
                remedy=f"change the topology back, or give the operator another name and let its calls go: "
                       f"Config(drop_state=[{self.name!r}])")
        self.again.append((table.combine_chunks(), state.get("marks", [])))

    def close(self):
        """Give up the calls that are under way."""
        if self.calls is not None:
            self.calls.close()

    def abandon(self):
        """As `close`: a process that goes on after a crash, a test's, must not keep the loop's thread."""
        self.close()

    def metrics(self):
        return {**UserCodeOperator.metrics(self), "in_flight": self.n_calls}
