"""Steps that see a row at a time, and those that have no equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pyarrow as pa

from streamdsl.flink.expressions import may_be_null, written
from streamdsl.flink.nodes.process import output_of
from streamdsl.flink.parts import taken_out
from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import Relation
from streamdsl.flink.translation import Translation, columns, nested, select
from streamdsl.logical.aggregate import CHANGE, ReduceNode
from streamdsl.logical.counter import CounterNode
from streamdsl.logical.explode import ExplodeNode
from streamdsl.logical.expression import Typed
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.join import ConnectNode
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.output import OutputNode
from streamdsl.logical.process import NativeNode, ProcessNode
from streamdsl.logical.project import Output, ProjectNode
from streamdsl.schema import Field, Schema

__all__ = [
    "connect",
    "counter",
    "explode",
    "filter",
    "key_by",
    "merge",
    "native",
    "output",
    "project",
    "reduce",
]

_ELSEWHERE = "say it with expressions, frames and aggregates; or run this part here, and hand its topic to Flink"


#: Parts of an expression from which on it pays to compute it once.
_HEAVY: Final = 12


def project(made: Translation, node: ProjectNode) -> Relation:
    """Columns that are computed."""
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema
    outputs = [one for one in node.outputs if not _is_change(one, source)]
    values, parts = taken_out([one.value for one in outputs])
    query_of, inner, known = _with_parts(source, schema, parts)
    items, nan, filled = [], set(), set()
    for one, expression in zip(outputs, values, strict=True):
        value = written(expression, inner, known)
        if value.nan:
            nan.add(one.name)
        if not may_be_null(expression, inner):
            filled.add(one.name)
        text = f"CAST({value.text} AS FLOAT)" if one.value.type == pa.float32() and not expression.is_column else value.text
        items.append(_item(one, _once(text) if expression.weight >= _HEAVY else text))
    query = select([*items, *source.time_columns()], query_of)
    return made.view(node, query, like=source, nan=frozenset(nan), filled=frozenset(filled))


def _is_change(output: Output, source: Relation) -> bool:
    """Whether a column says what becomes of a table's row: Flink knows, and shows it to nobody."""
    if output.name != CHANGE.name or not source.changes or not output.value.is_column:
        return False
    if not output.hidden:
        raise Refused(
            "to_stream(): Flink keeps the changes of a table to itself", "write the table: table.to(sink), which takes upserts by key"
        )
    return True


def _with_parts(source: Relation, schema: Schema, parts: Mapping[str, Typed]) -> tuple[str, Relation, Schema]:
    """Return the rows with a column for each part: as a table of a query, as a relation, and their columns."""
    if not parts:
        return quoted(source.name), source, schema
    made = {name: written(part, source, schema) for name, part in parts.items()}
    items = [*columns(schema, source), *(f"{_once(value.text)} AS {quoted(name)}" for name, value in made.items())]
    fields = (Field(name, part.type) for name, part in parts.items())
    nan = source.nan | {name for name, value in made.items() if value.nan or value.inf}
    return nested(select(items, quoted(source.name))), replace(source, nan=nan), Schema((*schema.fields, *fields))


def _once(text: str) -> str:
    """Return an expression that Flink computes once for a row: it would write it out wherever the column is used.

    It must not repeat what may have another value the second time; RAND() may, and is never below 0.
    """
    return f"CASE WHEN RAND() >= 0 THEN {text} END"


def _item(output: Output, text: str) -> str:
    name = quoted(output.name)
    return name if text == name else f"{text} AS {name}"


def filter(made: Translation, node: FilterNode) -> Relation:
    """Rows for which a condition is true."""
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema
    condition = written(node.predicate, source, schema)
    query = select(columns(schema, source), quoted(source.name), condition.text)
    return made.view(node, query, like=source, filled=source.filled, items=source.items)


def counter(made: Translation, node: CounterNode) -> Relation:
    """Rows pass."""
    made.differs(f"counter({node.metric!r}) counts nothing: Flink's metrics count the rows of each step.")
    return made.of(node.inputs[0])


def key_by(made: Translation, node: KeyByNode) -> Relation:
    """Rows pass: who needs the key says so itself."""
    return made.of(node.inputs[0])


def merge(made: Translation, node: MergeNode) -> Relation:
    """Rows of all inputs."""
    sources = [made.of(one) for one in node.inputs]
    times = {source.time for source in sources}
    time = "rowtime" if times == {"rowtime"} else None if None in times else "value"
    if len(times) > 1:
        made.differs("Rows of merged streams of which one has no event time have none behind the merge.")
    parts = []
    for source in sources:
        named = Relation(source.name, time=time)  # type: ignore[arg-type]
        parts.append(select(columns(node.schema, named), quoted(source.name)))
    nan = frozenset().union(*(source.nan for source in sources))
    filled = frozenset.intersection(*(source.filled for source in sources))
    return made.view(node, "\nUNION ALL\n".join(parts), like=sources[0], time=time, nan=nan, filled=filled)


def explode(made: Translation, node: ExplodeNode) -> Relation:
    """A row for each item of a list, and its place there."""
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema
    item = schema.field(node.column).type.value_type
    name, table = quoted(node.column), f"{quoted(source.name)} AS S"
    taken, unnested = "`_item`", f"UNNEST(S.{name}) AS `_items` (`_item`)"
    if pa.types.is_struct(item):
        # Flink takes structs apart, and fails where one is null: a place tells where it is as a whole.
        taken = f"S.{name}[`_place`]"
        unnested = f"UNNEST({_places(f'S.{name}')}) WITH ORDINALITY AS `_items` (`_item`, `_place`)"
    elif node.index is not None:
        unnested = f"UNNEST(S.{name}) WITH ORDINALITY AS `_items` (`_item`, `_place`)"
    null = schema.field(node.column).nullable and node.column not in source.filled
    items = [f"{taken} AS {name}" if one == name else f"S.{one}" for one in columns(schema, source)]
    if node.index is not None:
        items.append(f"CAST(`_place` - 1 AS BIGINT) AS {quoted(node.index)}")
    if node.empty_as_null or (node.keep_nulls and null):
        where = "" if node.empty_as_null and node.keep_nulls else f"S.{name} IS NOT NULL" if node.empty_as_null else _some(f"S.{name}")
        query = select(items, f"{table} LEFT JOIN {unnested} ON TRUE", where)
    else:
        query = select(items, f"{table} CROSS JOIN {unnested}")
    filled = source.filled - {node.column}
    return made.view(node, query, like=source, filled=filled, items={**source.items, node.column: item})


def _places(items: str) -> str:
    """Return a list with as many items as another one."""
    marks = f"REPEAT('x,', CARDINALITY({items}) - 1) || 'x'"
    return f"SPLIT(CASE WHEN CARDINALITY({items}) > 0 THEN {marks} ELSE '' END, ',')"


def _some(name: str) -> str:
    return f"({name} IS NULL OR CARDINALITY({name}) > 0)"


def output(made: Translation, node: OutputNode) -> Relation:
    """Rows that leave by a tag: those of a processor; Flink SQL has no other outputs."""
    below = node.inputs[0]
    found = output_of(made, node, below, node.tag) if isinstance(below, ProcessNode) else None
    if found is not None:
        return found
    if node.tag == "dead_letter":
        raise Refused(
            "dead letters: a record that Flink cannot decode or compute ends the job, or is dropped",
            'give errors="fail", or kafka(..., errors="skip") for records that cannot be decoded',
        )
    raise Refused(f"output({node.tag!r}): Flink SQL drops late rows, and has no output for them", "leave it out, or make disorder= longer")


def connect(made: Translation, node: ConnectNode) -> Relation:
    """A user's processor of two inputs."""
    owner = node.processor if isinstance(node.processor, type) else type(node.processor)
    raise Refused(f"the TwoInputProcessor {owner.__name__} is Python code, which Flink SQL cannot call", _ELSEWHERE)


def native(made: Translation, node: NativeNode) -> Relation:
    """A user's native operator."""
    raise Refused("a native operator runs in this library alone", _ELSEWHERE)


def reduce(made: Translation, node: ReduceNode) -> Relation:
    """A reduction by a Python function."""
    name = getattr(node.function, "__name__", "function")
    raise Refused(f"reduce({name}) is a Python function, which Flink SQL cannot call", "use aggregate(...): sum, min, max, last and others")
