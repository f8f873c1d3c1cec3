"""Outputs by tag, the policy for errors, and positions in errors: what all operators that call user code share."""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport batch_release
from streamdsl._native.operators.refusals cimport POLICY_DEAD_LETTER, POLICY_FAIL
from streamdsl._native.rows.row_results cimport RESULT_ROWS, result_kind, shortened

from streamdsl._native.operators.refusals import visible_values
from streamdsl._native.rows.row_results import BadRow
from streamdsl.errors import InternalError, UserCodeError

DEAD_LETTER = "dead_letter"


cdef int refuse_awaitable(object result) except -1:
    kind = "a coroutine" if PyCoro_CheckExact(result) else "an async generator"
    if PyCoro_CheckExact(result):
        result.close()
    raise BadRow(f"{kind} was returned, which nothing awaits; call a plain function, or run the coroutine there: asyncio.run(...)")


cdef bint judged(object result) except -1:
    if result is True or result is False:
        return result is True
    check_result(result)
    kind = type(result)
    if kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"):
        return bool(result)
    raise BadRow(f"a condition is True or False, not {shortened(result)} of type {kind.__name__}; write bool(...), or a comparison")


def judgement(result):
    """Return what a condition in Python says; raise `BadRow` for what is neither True nor False."""
    return judged(result)


def results_of(result):
    """Return the rows that a function has returned, which may be none, one, or many.

    Raises
    ------
    BadRow
        It returned what nobody awaits.
    """
    check_result(result)
    if result is None:
        return ()
    return result if result_kind(result) == RESULT_ROWS else (result,)


cdef class UserCodeOperator(Operator):
    cdef int prepare(self, spec, bint keyed) except -1:
        self.name = spec.name
        self.by_row = True
        self.input_shape = RowShape(spec.input_schema)
        self.refusals = Refusals(spec, self.input_shape)
        self.policy = self.refusals.policy
        self.main = RowWriter(spec.name, spec.schema, self.input_shape, keyed)
        self.writers = {"": self.main}
        self.marks = []
        for tag, schema in spec.tags:
            if tag == DEAD_LETTER and self.policy == POLICY_DEAD_LETTER:
                continue
            self.writers[tag] = RowWriter(spec.name, schema, self.input_shape, keyed)
        return 0

    cdef int on_error(self, BaseException error, object doing, Row row, object key, int64_t slot, int64_t time) except -1:
        """Apply the policy to what user code raised while `doing` (a few words); returns if the task may go on."""
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
                reason=what, **context, **self.refusals.position(row),
            ) from error
        return self.refusals.take(what, row, key, slot, time)

    cdef bint waiting(self) noexcept:
        cdef RowWriter writer
        if self.refusals.letters is not None and self.refusals.letters.n:
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
        return self.refusals.send(self.tagged.get(DEAD_LETTER), source)

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
        return {"emitted": self.emitted, **self.refusals.metrics()}
