"""See refusals.pxd.

Expressions are evaluated for a whole batch. Only when one fails is it found out for which rows, by halves; the others go on
together, as if the bad ones had never been read.
"""
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from libc.stdint cimport INT64_MIN
from libc.stdlib cimport free, malloc

from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, batch_release, batch_slice, batch_take, i64
from streamdsl._native.rows.row cimport row_new, timestamp_value

import json
import logging
from types import SimpleNamespace

import pyarrow as pa

from streamdsl._native.flow.values import time_bounds
from streamdsl.errors import DataError, InternalError, RecordError, UserCodeError

log = logging.getLogger("streamdsl")

DEAD_LETTER = "dead_letter"
POLICIES = {"fail": POLICY_FAIL, "skip": POLICY_SKIP, "dead_letter": POLICY_DEAD_LETTER}
LONGEST_VALUE = 80

ctypedef int (*Attempt)(RefusingOperator operator, Batch* batch) noexcept nogil


# The columns of schema.DEAD_LETTER_SCHEMA, which this layer may not import.
DEAD_LETTER_COLUMNS = SimpleNamespace(fields=tuple([
    SimpleNamespace(name=name, type=type_, nullable=True, hidden=False) for name, type_ in (
        ("value", pa.binary()), ("error", pa.string()), ("operator", pa.string()), ("topic", pa.string()),
        ("partition", pa.int64()), ("offset", pa.int64()), ("timestamp", pa.timestamp("ms", "UTC")),
    )
]))
EARLIEST_MS, LATEST_MS = time_bounds(pa.timestamp("ms", "UTC"))


def visible_values(Row row, bint whole):
    """Return the row's visible values by name, whatever they are; cut to a readable length unless `whole`."""
    values = {}
    for name in row.shape.visible:
        try:
            value = row[name]
        except (DataError, ValueError, ArithmeticError) as error:
            value = f"<{error.__class__.__name__}: {error}>"
        if not whole and isinstance(value, (str, bytes)) and len(value) > LONGEST_VALUE:
            value = value[:LONGEST_VALUE] + (b"..." if isinstance(value, bytes) else "...")
        values[name] = value
    return values


def as_json(value):
    """Return a value that json does not know in the form dead letters have."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


cdef int position_column(RowShape shape, str name) except -2:
    """The hidden column of that name, -1: there is none. One that is seen may be data of the user's."""
    cdef int i = shape.index.get(name, -1)
    return i if i >= 0 and shape.hidden[i] else -1


cdef class Refusals:
    """`spec` is an operator of the physical plan: its name, `errors` and `input_schema` count."""

    def __init__(self, spec, RowShape shape=None):
        self.operator = spec.name
        self.policy = POLICIES[spec.errors]
        self.shape = RowShape(spec.input_schema) if shape is None else shape
        if self.policy == POLICY_DEAD_LETTER:
            self.letters = RowWriter(spec.name, DEAD_LETTER_COLUMNS)
        self.column_topic = position_column(self.shape, "_topic")
        self.column_partition = position_column(self.shape, "_partition")
        self.column_offset = position_column(self.shape, "_offset")

    cdef object position(self, Row row):
        cdef int column
        found = {}
        if row is not None:
            for name, own in (("topic", self.column_topic), ("partition", self.column_partition), ("offset", self.column_offset)):
                # A row of another input has its columns elsewhere.
                column = own if row.shape is self.shape else position_column(row.shape, f"_{name}")
                if column >= 0:
                    value = row.value(column)
                    if value is not None:
                        found[name] = value
        return found

    cdef int take(self, str reason, Row row, object key, int64_t slot, int64_t time) except -1:
        """Count a record, or what was done for `key` where there is no record, and keep its dead letter."""
        cdef int32_t at
        self.errors += 1
        if self.policy != POLICY_DEAD_LETTER:
            if self.errors == 1:
                what = visible_values(row, False) if row is not None else {"key": key}
                log.warning("%s: bad records are skipped (counted as errors); the first: %r: %s", self.operator, what, reason)
            return 0
        at = -1 if row is None or row.batch == NULL else <int32_t>row.at
        values = visible_values(row, True) if row is not None else {"key": key}
        raw = json.dumps(values, default=as_json, ensure_ascii=False).encode("utf-8", "surrogateescape")
        position = self.position(row)
        self.letters.append({
            "value": raw, "error": reason, "operator": self.operator, "topic": position.get("topic"),
            "partition": position.get("partition"), "offset": position.get("offset"),
            "timestamp": time if EARLIEST_MS <= time <= LATEST_MS else None,
        }, at, time, slot)
        self.n_letters += 1
        return 0

    cdef int send(self, Operator target, Batch* source) except -1:
        cdef Batch* batch
        if self.letters is None or self.letters.n == 0:
            return 0
        batch = self.letters.take(source)
        try:
            if target is not None:
                with nogil:
                    target.process(batch)
        finally:
            batch_release(batch)
        return 0

    cdef dict metrics(self):
        if self.policy == POLICY_FAIL:
            return {}
        return {"errors": self.errors, "dead_letters": self.n_letters} if self.policy == POLICY_DEAD_LETTER else {"errors": self.errors}


cdef object in_words(int64_t ms):
    """A time for people: as UTC where that has a name."""
    if not EARLIEST_MS <= ms <= LATEST_MS:
        return f"{ms} ms"
    at = timestamp_value(ms)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


cdef int warn_late(object spec, Batch* batch, int32_t row, int64_t watermark) except -1:
    cdef RowShape shape = RowShape(spec.input_schema)
    cdef Row late = row_new(shape, batch, row)
    cdef int column
    position = []
    for name in ("_topic", "_partition", "_offset"):
        column = position_column(shape, name)
        if column >= 0 and late.value(column) is not None:
            position.append(f"{name[1:]} {late.value(column)}")
    log.warning(
        "%s: records that come too late are dropped (counted as late); the first has the event time %s, the watermark was %s: %r%s",
        spec.name, in_words(i64(&batch.sys[SYS_TIME])[row]), in_words(watermark), visible_values(late, False),
        f" ({', '.join(position)})" if position else "",
    )
    return 0


cdef int attempt_of(RefusingOperator operator, Batch* batch) except -1 nogil:
    return operator.attempt(batch)


cdef bint passes(RefusingOperator operator, Batch* batch) except -1 nogil:
    """Whether `attempt` succeeds; any error but that of a record goes on."""
    # As a function that does not raise: its exception stays set, and no GIL is needed where there is none.
    if (<Attempt>attempt_of)(operator, batch) >= 0:
        return True
    with gil:
        if not PyErr_ExceptionMatches(RecordError):
            return -1
        PyErr_Clear()
        operator.failed = None
    return False


cdef int raised() except -1:
    """Raise the exception that is set."""
    return -1


cdef str reason_of_raised():
    try:
        raised()
    except RecordError as error:
        return f"column {error.field!r}: {error.reason}" if error.field else error.reason
    except UserCodeError as error:
        return error.message
    raise InternalError("no exception is set")


cdef class RefusingOperator(Operator):
    cdef int prepare_refusals(self, spec) except -1:
        if getattr(spec, "errors", "fail") != "fail":
            self.refusals = Refusals(spec)
        return 0

    def connect(self, Operator target, str tag=""):
        """Send the output `tag` ("" is the main one) to `target`."""
        Operator.connect(self, target, tag)
        if tag == DEAD_LETTER:
            self.letters_output = target

    cdef int attempt(self, Batch* batch) except -1 nogil:
        return 0

    cdef int finish(self, Batch* batch) except -1 nogil:
        return self.next.process(batch)

    cdef bint spares(self, Batch* batch, int32_t row) noexcept nogil:
        return False

    cdef int finish_spared(self, Batch* batch) except -1 nogil:
        return 0

    cdef int process(self, Batch* batch) except -1 nogil:
        if self.refusals is None:
            self.attempt(batch)
            return self.finish(batch)
        if passes(self, batch):
            return self.finish(batch)
        with gil:
            self.process_most(batch)
        return 0

    cdef int process_most(self, Batch* batch) except -1:
        cdef list good = []
        cdef Batch* alone
        cdef int32_t at = 0, row
        cdef int64_t time
        for row, reason in self.failing_rows(batch):
            good.extend(range(at, row))
            at = row + 1
            if self.spares(batch, row):
                self.refusals.send(self.letters_output, batch)
                self.process_rows(batch, good)
                good = []
                alone = batch_slice(batch, row, 1)
                try:
                    with nogil:
                        self.finish_spared(alone)
                finally:
                    batch_release(alone)
                continue
            time = i64(&batch.sys[SYS_TIME])[row] if batch.sys[SYS_TIME].values != NULL else INT64_MIN
            slot = i64(&batch.sys[SYS_SLOT])[row] if batch.sys[SYS_SLOT].values != NULL else -1
            self.refusals.take(reason, row_new(self.refusals.shape, batch, row), None, slot, time)
        good.extend(range(at, batch.n))
        # Before the others are processed: these may be refused, too, as rows of another batch.
        self.refusals.send(self.letters_output, batch)
        return self.process_rows(batch, good)

    cdef int process_rows(self, Batch* batch, list rows) except -1:
        cdef int32_t i, n = <int32_t>len(rows)
        cdef Batch* taken
        cdef int32_t* places
        if n == 0:
            return 0
        places = <int32_t*>malloc(n * sizeof(int32_t))
        if places == NULL:
            raise MemoryError("no memory left for a batch")
        try:
            for i in range(n):
                places[i] = rows[i]
            taken = batch_take(batch, places, n)
        finally:
            free(places)
        try:
            with nogil:
                self.attempt(taken)
                self.finish(taken)
        finally:
            batch_release(taken)
        return 0

    cdef list failing_rows(self, Batch* batch):
        cdef list found = [], waiting = [(0, batch.n)]
        cdef Batch* piece
        cdef int32_t first, n
        while waiting:
            first, n = waiting.pop()
            piece = batch_slice(batch, first, n)
            try:
                with nogil:
                    self.attempt(piece)
            except RecordError as error:
                self.failed = None
                if n == 1:
                    field = error.field or self.failing_column()
                    found.append((first, f"column {field!r}: {error.reason}" if field else error.reason))
                else:
                    waiting.append((first + n // 2, n - n // 2))
                    waiting.append((first, n // 2))
            finally:
                batch_release(piece)
        return found

    cdef object failing_column(self):
        return None

    cdef int end_batch(self) except -1 nogil:
        if self.letters_output is not None:
            self.letters_output.end_batch()
        return self.next.end_batch()

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        if self.letters_output is not None:
            self.letters_output.on_watermark(watermark)
        return self.next.on_watermark(watermark)

    cdef int on_idle(self, bint idle) except -1 nogil:
        if self.letters_output is not None:
            self.letters_output.on_idle(idle)
        return self.next.on_idle(idle)

    def metrics(self):
        return {} if self.refusals is None else self.refusals.metrics()
