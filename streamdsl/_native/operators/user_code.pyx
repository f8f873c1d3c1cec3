"""Outputs by tag, the policy for errors, and positions in errors: what all operators that call user code share."""
from libc.stdint cimport INT64_MIN, int32_t, int64_t

from streamdsl._native.flow.batch cimport batch_release

import json
from types import SimpleNamespace

from streamdsl._native.operators.row_results import BadRow
from streamdsl.errors import DataError, InternalError, UserCodeError

DEAD_LETTER = "dead_letter"
POLICIES = {"fail": POLICY_FAIL, "skip": POLICY_SKIP, "dead_letter": POLICY_DEAD_LETTER}
LONGEST_VALUE = 80


def _column(str name, str type_text, bint nullable=True):
    return SimpleNamespace(name=name, type=type_text, nullable=nullable, hidden=False)


# The columns of schema.DEAD_LETTER_SCHEMA, which this layer may not import.
DEAD_LETTER_COLUMNS = SimpleNamespace(fields=(
    _column("value", "binary"), _column("error", "string"), _column("operator", "string"), _column("topic", "string"),
    _column("partition", "int64"), _column("offset", "int64"), _column("timestamp", "timestamp[ms, tz=UTC]"),
))


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


cdef class UserCodeOperator(Operator):
    cdef int prepare(self, spec, bint keyed) except -1:
        self.name = spec.name
        self.input_shape = RowShape(spec.input_schema)
        self.policy = POLICIES[spec.errors]
        self.main = RowWriter(spec.name, spec.schema, self.input_shape, keyed)
        self.writers = {"": self.main}
        self.marks = []
        for tag, schema in spec.tags:
            if tag == DEAD_LETTER and self.policy == POLICY_DEAD_LETTER:
                continue
            self.writers[tag] = RowWriter(spec.name, schema, self.input_shape, keyed)
        if self.policy == POLICY_DEAD_LETTER:
            self.dead_letters = RowWriter(spec.name, DEAD_LETTER_COLUMNS)
        index = self.input_shape.index
        self.column_topic = index.get("_topic", -1)
        self.column_partition = index.get("_partition", -1)
        self.column_offset = index.get("_offset", -1)
        return 0

    cdef object position(self, Row row):
        found = {}
        if row is not None:
            for name, column in (("topic", self.column_topic), ("partition", self.column_partition), ("offset", self.column_offset)):
                if column >= 0:
                    value = row.get(column)
                    if value is not None:
                        found[name] = value
        return found

    cdef int on_error(self, BaseException error, object doing, Row row, object key, int64_t slot, int64_t time) except -1:
        """Apply the policy to what user code raised while `doing` (a few words); returns if the task may go on."""
        cdef int32_t at
        what = str(error) if isinstance(error, BadRow) else f"{type(error).__name__}: {error}"
        if self.policy == POLICY_FAIL:
            message = f"{self.name}: {doing} failed: {what}"
            context = {"operator": self.name, "field": getattr(error, "field", None) if isinstance(error, BadRow) else None}
            if row is not None:
                context["row"] = visible_values(row, False)
                message = f"{message}; row {context['row']!r}"
            if key is not None:
                context["key"] = key
                message = f"{message}; key {key!r}"
            raise UserCodeError(
                message, remedy='Mend the function, or choose errors="skip" or errors=dead_letter(sink).',
                reason=what, **context, **self.position(row),
            ) from error
        self.errors += 1
        if self.policy == POLICY_DEAD_LETTER:
            at = -1 if row is None or row.batch == NULL else <int32_t>row.at
            values = visible_values(row, True) if row is not None else {"key": key}
            raw = json.dumps(values, default=as_json, ensure_ascii=False).encode("utf-8", "surrogateescape")
            position = self.position(row)
            self.dead_letters.append({
                "value": raw, "error": what, "operator": self.name, "topic": position.get("topic"),
                "partition": position.get("partition"), "offset": position.get("offset"),
                "timestamp": None if time == INT64_MIN else time,
            }, at, time, slot)
            self.n_dead_letters += 1
        return 0

    cdef bint waiting(self) noexcept:
        cdef RowWriter writer
        if self.dead_letters is not None and self.dead_letters.n:
            return True
        for item in self.writers.values():
            writer = <RowWriter>item
            if writer.n:
                return True
        return False

    cdef int send(self, Operator target, Batch* batch) except -1:
        try:
            if target is not None and batch.n > 0:
                with nogil:
                    target.process(batch)
        finally:
            batch_release(batch)
        return 0

    cdef int flush(self, Batch* source) except -1:
        cdef RowWriter writer
        if self.main.n:
            self.emitted += self.main.n
            self.send(self.next, self.main.take(source))
        if len(self.writers) > 1:
            for tag, item in self.writers.items():
                writer = item
                if writer.n and tag:
                    self.emitted += writer.n
                    self.send(self.tagged.get(tag), writer.take(source))
        if self.dead_letters is not None and self.dead_letters.n:
            self.send(self.tagged.get(DEAD_LETTER), self.dead_letters.take(source))
        return 0

    # What every output must hear of: rows end, time, idleness.

    cdef int end_batch(self) except -1 nogil:
        if self.next.end_batch() < 0:
            return -1
        with gil:
            for target in self.tagged.values():
                (<Operator>target).end_batch()
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        self.next.on_watermark(watermark)
        with gil:
            for target in self.tagged.values():
                (<Operator>target).on_watermark(watermark)
        return 0

    cdef int on_idle(self, bint idle) except -1 nogil:
        self.next.on_idle(idle)
        with gil:
            for target in self.tagged.values():
                (<Operator>target).on_idle(idle)
        return 0

    def connect(self, Operator target, str tag=""):
        """Send the output `tag` ("" is the main one) to `target`."""
        if tag and tag != DEAD_LETTER and tag not in self.writers:
            raise InternalError(f"{self.name} has no output {tag!r}")
        Operator.connect(self, target, tag)

    def metrics(self):
        figures = {"emitted": self.emitted}
        if self.policy != POLICY_FAIL:
            figures["errors"] = self.errors
        if self.policy == POLICY_DEAD_LETTER:
            figures["dead_letters"] = self.n_dead_letters
        return figures
