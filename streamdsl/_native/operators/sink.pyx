"""The end of a chain whose rows leave: it hands them to a sink writer, many at a time on a fast stream."""
from libc.stdint cimport int32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from streamdsl._native.flow.arrow cimport batch_to_arrow, column_to_arrow
from streamdsl._native.flow.batch cimport (
    SYS_TIME, batch_concat, batch_release, batch_retain, batch_share, column_share, i64,
)
from streamdsl._native.operators.base cimport blame
from streamdsl._native.rows.row cimport row_new

import pyarrow as pa

from streamdsl._native.flow.convert import from_canonical
from streamdsl._native.operators.declaration import Declaration
from streamdsl.errors import DataError, connector_failure

cdef enum:
    HAND_OVER_ROWS = 2048
    # Where the task never runs out of input, rows wait so long for others to go with them.
    LINGER_NS = 5000000
    # Where rows of the input wait by the thousand, those of the output may as well: handing over takes a fiftieth of the time at most.
    LINGER_TO_COST = 50
    MOST_LINGER_NS = 50000000


cdef int bucket_of(int64_t ns) noexcept nogil:
    # 16 buckets a power of two: an error of at most 6 %.
    cdef int exponent = 0
    if ns < 16:
        return <int>ns if ns > 0 else 0
    while (ns >> exponent) >= 32:
        exponent += 1
    return min(16 * (exponent + 1) + <int>((ns >> exponent) - 16), LATENCY_BUCKETS - 1)


cdef int64_t bucket_floor_ns(int64_t bucket) noexcept:
    """The smallest latency that falls into a bucket."""
    if bucket < 16:
        return bucket
    return (16 + bucket % 16) << (bucket // 16 - 1)


cdef class SinkOperator(Operator):
    """`columns` of the input go to the writer that `opens` returns, in the types of the pyarrow schema `schema`.

    Rows that do not become these types, or that the writer refuses, are a matter of `refusals`; None: they end the run.
    """

    def __init__(self, str name, list columns, canonical, schema, Clock clock, opens, Refusals refusals=None):
        self.name = name
        self.opens = opens
        self.refusals = refusals
        self.columns = columns
        # On a slow stream each row is handed over by itself: what need not be converted is not even asked.
        self.as_they_are = canonical.types == schema.types
        self.canonical = schema if self.as_they_are else canonical
        self.schema = schema
        self.clock = clock
        self.watchers = ()
        memset(self.latency, 0, sizeof(self.latency))

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_waiting):
            batch_release(self.waiting[i])
        free(self.waiting)

    def connect(self, Operator target, str tag=""):
        """Send the dead letters, the only output, to `target`."""
        Operator.connect(self, target, tag)
        self.letters_output = target

    def declare(self):
        return Declaration(room=True)

    def start(self):
        """Open the writer: before this nothing has been touched of what an earlier run wrote."""
        self.writer = self.opens()

    cdef int process(self, Batch* batch) except -1 nogil:
        if self.n_waiting == self.capacity:
            self.capacity = 2 * self.capacity + 16
            self.waiting = <Batch**>realloc(self.waiting, self.capacity * sizeof(Batch*))
            if self.waiting == NULL:
                with gil:
                    raise MemoryError("no memory left for a sink")
        batch_retain(batch)
        self.waiting[self.n_waiting] = batch
        self.n_waiting += 1
        self.waiting_rows += batch.n
        if self.waiting_rows >= HAND_OVER_ROWS:
            return self.hand_over()
        return 0

    cdef int hand_over(self) except -1 nogil:
        if self.n_waiting == 0:
            return 0
        with gil:
            self._write()
        return 0

    cdef int on_step(self, int64_t now_ns, bint crowded) except -1 nogil:
        """Hand over rows that have waited for long: a stream that never pauses must not hold back the few that come of it."""
        cdef int64_t began, linger = LINGER_NS
        if self.n_waiting == 0:
            return 0
        if self.waiting_since_ns == 0:
            self.waiting_since_ns = now_ns
        if crowded:
            linger = min(max(linger, LINGER_TO_COST * self.cost_ns), MOST_LINGER_NS)
        if now_ns - self.waiting_since_ns >= linger:
            began = self.clock.now_ns()
            self.on_quiet()
            self.cost_ns = self.clock.now_ns() - began
        return 0

    cdef int has_room(self) except -1 nogil:
        if self.full:
            with gil:
                self._look_for_room()
        return not self.full

    def _look_for_room(self):
        try:
            self.full = not self.writer.has_room()
        except Exception as error:       # whatever a sink raises
            raise connector_failure(f"the sink {self.name!r} cannot write", error)

    cdef int on_quiet(self) except -1 nogil:
        self.hand_over()
        if self.unflushed:
            with gil:
                self.unflushed = False
                self._flush()
        return 0

    def _write(self):
        cdef int i, n = self.n_waiting
        cdef int64_t now
        cdef Batch* rows
        cdef Batch* narrow
        rows = batch_concat(self.waiting, n) if n > 1 else self.waiting[0]
        if n == 1:
            batch_retain(rows)
        narrow = batch_share(rows, len(self.columns))
        for i in range(narrow.width):
            column_share(&narrow.columns[i], &rows.columns[<int>self.columns[i]])
        try:
            times = column_to_arrow(&narrow.sys[SYS_TIME], narrow.n, pa.int64())
            canonical = batch_to_arrow(narrow, self.canonical)
            try:
                self._hand_to_writer(canonical, times)
                self.written += rows.n
            except DataError as error:
                if self.refusals is None:
                    blame(self, rows, -1)
                    error.context.update(operator=self.name, at_row=0 if rows.n == 1 else self._bad_row(canonical))
                    raise
                self._write_most(rows, canonical, times)
            self._look_for_room()
            self.unflushed = True
            now = self.clock.now_ns()
            for i in range(n):
                if self.waiting[i].read_ns:
                    self.latency[bucket_of(now - self.waiting[i].read_ns)] += self.waiting[i].n
                batch_release(self.waiting[i])
            self.n_waiting = 0
            self.waiting_rows = 0
            self.waiting_since_ns = 0
            if self.refusals is not None:
                self.refusals.send(self.letters_output, rows)
        finally:
            batch_release(narrow)
            batch_release(rows)

    def _hand_to_writer(self, canonical, times):
        """Write all rows; a DataError says that none was taken."""
        table = canonical if self.as_they_are else from_canonical(canonical, self.schema)
        try:
            self.writer.write(table, times)
            for watcher in self.watchers:
                watcher.on_rows(table)
        except Exception as error:       # whatever a sink raises
            raise connector_failure(f"the sink {self.name!r} cannot write", error)

    cdef int _write_most(self, Batch* rows, canonical, times) except -1:
        """Write the rows in order, by halves where some cannot be written; those are refused."""
        cdef list waiting = [(0, rows.n)]
        cdef int32_t first, n
        while waiting:
            first, n = waiting.pop()
            try:
                self._hand_to_writer(canonical.slice(first, n), times.slice(first, n))
                self.written += n
            except DataError as error:
                if n == 1:
                    reason = error.message if error.reason is None else f"{error.message}: {error.reason}"
                    self.refusals.take(reason, row_new(self.refusals.shape, rows, first), None, -1, i64(&rows.sys[SYS_TIME])[first])
                else:
                    waiting.append((first + n // 2, n - n // 2))
                    waiting.append((first, n // 2))
        return 0

    def _flush(self):
        try:
            self.writer.flush()
        except Exception as error:       # whatever a sink raises
            raise connector_failure(f"the sink {self.name!r} cannot flush", error)

    def _bad_row(self, canonical):
        """Return the first row that does not become what the writer takes, -1 if it is the writer that refuses one."""
        for row in range(canonical.num_rows):
            try:
                from_canonical(canonical.slice(row, 1), self.schema)
            except DataError:
                return row
        return -1

    # Dead letters leave when rows are handed over: what they go through hears of time as what is in front of the sink does.

    cdef int end_batch(self) except -1 nogil:
        return 0 if self.letters_output is None else self.letters_output.end_batch()

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        return 0 if self.letters_output is None else self.letters_output.on_watermark(watermark)

    cdef int on_idle(self, bint idle) except -1 nogil:
        return 0 if self.letters_output is None else self.letters_output.on_idle(idle)

    def snapshot(self, checkpoint_id):
        self.hand_over()
        state = self.writer.snapshot(checkpoint_id)
        for watcher in self.watchers:
            watcher.on_snapshot(checkpoint_id)
        return state

    def commit(self, checkpoint_id):
        """The checkpoint has completed."""
        try:
            self.writer.commit(checkpoint_id)
        except Exception as error:       # whatever a sink raises
            raise connector_failure(f"the sink {self.name!r} cannot commit checkpoint {checkpoint_id}", error)
        for watcher in self.watchers:
            watcher.on_commit(checkpoint_id)

    def close(self):
        """Let the writer go; rows of no checkpoint are its business."""
        if self.writer is None:
            return
        try:
            self.writer.close()
        except Exception as error:       # whatever a sink raises
            raise connector_failure(f"the sink {self.name!r} cannot be closed", error)

    def metrics(self):
        figures = {} if self.refusals is None else self.refusals.metrics()
        return {"written": self.written, **figures}

    def latency_buckets(self):
        """Return {ns: rows}: how many rows took less than so many ns from being read to being handed over."""
        return {bucket_floor_ns(i + 1): self.latency[i] for i in range(LATENCY_BUCKETS) if self.latency[i]}
