"""Errors on their way out of a task: whose fault, which operator, which record."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from streamdsl._native.flow.convert import from_canonical
from streamdsl.connectors.base import POSITION_COLUMNS
from streamdsl.errors import DataError, InternalError, RecordError, StateError, StreamError, connector_failure
from streamdsl.physical import node
from streamdsl.runtime.operators import canonical_schema
from streamdsl.schema import Schema

__all__ = ["as_connector_errors", "explained"]

#: So much of a record is shown: it comes from outside and may be anything.
SHOWN_COLUMNS, SHOWN_CHARACTERS = 40, 80
_SYS_TIME = 0  # as in _native/flow/batch.pxd
_EPOCH = datetime.datetime(1970, 1, 1)


def explained(error: BaseException, tasks: Sequence[Any], plan: node.PhysicalPlan) -> BaseException:
    """Return the error that the user sees for one that one of `tasks` raised; the original is its cause.

    The tasks are no longer stepped. The record is taken from the operator that kept the batch in which it failed.
    """
    found = _Failed.of(tasks, plan)
    if isinstance(error, RecordError):
        said: StreamError = _bad_record(error, found)
    elif isinstance(error, StreamError):
        at_row = error.context.pop("at_row", None)
        if at_row is not None and found is not None:
            found.add_to(error, at_row)
        return error
    elif isinstance(error, MemoryError):
        said = out_of_memory(error)
    elif not isinstance(error, Exception):
        return error
    elif isinstance(error, OSError):
        # Connectors name themselves; what is left is the state's.
        said = StateError(f"the operating system refused: {error}", remedy="check the state directory: its permissions and its space")
    elif isinstance(error, OverflowError):
        said = DataError(f"records are too large: {error}", remedy="use smaller batches: Config(batch_rows=...)")
    else:
        said = InternalError(f"{type(error).__name__}: {error}", remedy="please report it, with the traceback")
    said.__cause__ = error
    return said


def out_of_memory(error: MemoryError) -> StateError:
    """Return what a process says that has no memory left."""
    return StateError(
        f"there is no memory left: {error or type(error).__name__}",
        remedy="what was committed is safe, and the next start goes on from there. Allow the process more (ulimit -v, the limit of its "
        "cgroup), or let it take less: Config(state_memory=...), Config(batch_rows=...), kafka(buffer_memory=...)",
    )


@contextlib.contextmanager
def as_connector_errors(doing: str) -> Iterator[None]:
    """Name the source or sink in whatever it raises."""
    try:
        yield
    except Exception as error:
        failure = connector_failure(doing, error)
        if failure is error:
            raise
        raise failure from error


def _bad_record(error: RecordError, found: _Failed | None) -> DataError:
    operator = error.operator or (found.spec.name if found else None)
    field = error.field or (found.field() if found else None)
    said = DataError(
        f"{operator or 'an operator'}: a record cannot be processed: {error.reason}",
        remedy="mend the record or the expression (a filter in front of it, when(...), cast(..., strict=False)), and start again; "
        'or give the verb or its source errors="skip" or errors=dead_letter(sink). State that was made of a mended expression is '
        "kept with Config(keep_state=[...])",
        operator=operator,
        field=field,
        reason=error.reason,
    )
    if found is not None:
        found.add_to(said, error.row)
    return said


class _Failed:
    """The batch that an operator kept, and what the plan says of the operator."""

    def __init__(self, spec: node.PhysicalOperator, schema: Schema, batch: Any, output: int) -> None:
        self.spec, self.schema, self.batch, self.output = spec, schema, batch, output

    @staticmethod
    def of(tasks: Sequence[Any], plan: node.PhysicalPlan) -> _Failed | None:
        """Return what the first operator that failed has kept; all forget it."""
        first = None
        for task in tasks:
            stage = plan.stages[int(task.id.partition(".")[0])]
            for operator in task.operators_of_chain():
                kept = operator.take_failed()
                for spec in stage.operators if kept is not None and first is None else ():
                    if spec.name == operator.name and spec.inputs:
                        first = _Failed(spec, _input_schema(plan, stage, spec), *kept)
                        if first.batch.width == len(first.schema.fields):
                            break
        return first

    def field(self) -> str | None:
        """Return the column or aggregate that was being computed, if that is known."""
        if self.output < 0:
            return None
        if isinstance(self.spec, node.PhysicalProject):
            computed = [i for i, column in enumerate(self.spec.columns) if column < 0]
            return self.spec.schema.fields[computed[self.output]].name
        for aggregate in getattr(self.spec, "aggregates", ()):
            if self.output in (aggregate.argument, aggregate.by, aggregate.where):
                return str(aggregate.name)
        return None

    def add_to(self, error: StreamError, row: int) -> None:
        """Tell the error of the record: its values, its time, its position as far as the columns say."""
        if not 0 <= row < self.batch.n or self.batch.width != len(self.schema.fields):
            return
        values = self._values(row)
        error.context["record"] = values
        time = self._time(row)
        shown = f"; the record: {_shown(values)}"
        if time is not None:
            error.context["timestamp"] = time
            shown += f", event time {time}{_in_words(time)}"
        error.message += shown
        for name in POSITION_COLUMNS:
            # A column of that name that is not hidden may be data of the user's.
            known = name in self.schema and self.schema.field(name).hidden
            if known and error.context.get(name[1:]) is None and values.get(name) is not None:
                error.context[name[1:]] = values[name]

    def _values(self, row: int) -> dict[str, Any]:
        every = tuple(range(len(self.schema.fields)))
        found = self.batch.slice(row, 1).to_arrow(canonical_schema(self.schema, every))
        try:
            found = from_canonical(found, pa.schema([pa.field(f.name, f.type) for f in self.schema.fields]))
        except DataError:
            pass  # a value that does not fit its type: shown as the batch holds it
        values: dict[str, Any] = {name: _value(column[0]) for name, column in zip(found.schema.names, found.columns, strict=True)}
        return values

    def _time(self, row: int) -> int | None:
        times = self.batch.system(_SYS_TIME)
        return None if times is None else times[row].as_py()


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):  # a text that is not UTF-8, a time out of Python's range
        return scalar.cast(pa.binary()).as_py() if pa.types.is_string(scalar.type) else scalar.value


def _input_schema(plan: node.PhysicalPlan, stage: node.Stage, spec: node.PhysicalOperator) -> Schema:
    first = spec.inputs[0]
    if first.operator >= 0:
        return _output_schema(stage.operators[first.operator], first.tag)
    edge = stage.edges[first.edge]
    return _output_schema(plan.stages[edge.stage].operators[edge.operator], edge.tag)


def _output_schema(spec: node.PhysicalOperator, tag: str) -> Schema:
    return dict(spec.tags)[tag] if tag else spec.schema


def _shown(values: Mapping[str, Any]) -> str:
    """Return the values in one printable line."""

    def parts() -> Iterator[str]:
        for i, (name, value) in enumerate(values.items()):
            if i == SHOWN_COLUMNS:
                yield f"… and {len(values) - i} more"
                return
            text = repr(value)
            yield f"{name}={text[:SHOWN_CHARACTERS]}{'…' if len(text) > SHOWN_CHARACTERS else ''}"

    return ", ".join(parts())


def _in_words(time: int) -> str:
    try:
        return f" ({(_EPOCH + datetime.timedelta(milliseconds=time)).isoformat(timespec='milliseconds')}Z)"
    except OverflowError:
        return ""
