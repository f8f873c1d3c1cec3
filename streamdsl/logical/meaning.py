"""What decides the meaning of stored state and positions, as plain text: kept in checkpoints, compared when a job goes on.

The text depends on what the topology says, never on positions in the plan, on the optimiser or on the process. A column is
told by the expression that makes it, through aggregates too, down to the source or function that it comes from. The rows
that reach an operator are told by the conditions on their way. Python functions cannot be compared, and are not.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from streamdsl.logical.aggregate import AggregateNode
from streamdsl.logical.counter import CounterNode
from streamdsl.logical.deduplicate import DeduplicateNode
from streamdsl.logical.expression import Typed, TypedAggregate, columns_of
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.frame import FrameNode
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Meaning, Node, StatefulNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.selection import Selections
from streamdsl.logical.source import SourceNode
from streamdsl.logical.window_aggregate import WindowAggregateNode
from streamdsl.schema import Schema

__all__ = ["Origins", "meanings"]

#: A longer text is cut and gets a digest of the whole.
LONGEST: Final = 200
_COMPUTING: Final = (FrameNode, AggregateNode, WindowAggregateNode)
_SHOWN: Final = 120


def meanings(plan: LogicalPlan) -> dict[str, Meaning]:
    """Return what each source and each operator with state declares, by name."""
    origins = Origins()
    selections = Selections(origins)
    found: dict[str, Meaning] = {}
    for node in plan.nodes:
        selections.add(node)
        if isinstance(node, SourceNode):
            found[node.name] = node.meaning()
        elif isinstance(node, StatefulNode):
            found[node.name] = {**node.meaning(origins), **selections.parts(node)}
    return found


class Origins:
    """Where columns come from: expressions as text, through the projections that stand before."""

    def __init__(self) -> None:
        self._texts: dict[tuple[int, str], str] = {}
        self._nodes: list[Node] = []  # kept, so that no id is used twice

    def column(self, node: Node, name: str) -> str:
        """Return what makes the output column `name` of `node`."""
        waiting = [(node, name)]
        while waiting:
            at, column = waiting[-1]
            if (id(at), column) in self._texts:
                waiting.pop()
                continue
            below, value = _made_by(at, column)
            parts = _parts(below, value)
            missing = [part for part in parts if (id(part[0]), part[1]) not in self._texts]
            if missing:
                waiting.extend(missing)
                continue
            if isinstance(value, Typed):
                text = self._render(value, below)
            elif isinstance(value, TypedAggregate):
                text = self._computed(value, below)
            else:
                # Of merged streams: what each of them means by it, in whatever order they are merged.
                text = " | ".join(sorted({self._texts[id(branch), other] for branch, other in parts})) or value
            self._texts[id(at), column] = _bounded(text)
            self._nodes.append(at)
            waiting.pop()
        return self._texts[id(node), name]

    def expression(self, value: Typed, node: Node) -> str:
        """Return an expression over the output columns of `node`."""
        for name in _columns(value):
            self.column(node, name)
        return self._render(value, node)

    def rows(self, node: Node, schema: Schema) -> str:
        """Return the columns of rows that are kept, with their types."""
        return ", ".join(f"{field.name} {field.type}{self._made(node, field.name)}" for field in schema.fields)

    def _made(self, node: Node, name: str) -> str:
        text = self.column(node, name)
        return "" if text == name else f" = {text}"

    def key(self, key_by: KeyByNode) -> str:
        """Return the components of a key; what they are called does not matter."""
        below = key_by.inputs[0]
        return ", ".join(f"{self.column(below, field.name)} ({field.type})" for field in key_by.key_schema.fields)

    def aggregates(self, aggregates: Iterable[TypedAggregate], node: Node) -> str:
        """Return aggregates in order: what the state of each holds, not what its column is called."""
        return "; ".join(self._aggregate(one, node, kept=True) for one in aggregates)

    def _aggregate(self, one: TypedAggregate, node: Node, *, kept: bool) -> str:
        # The state of std and var of one column is the same, whatever ddof is.
        kind = "moments" if kept and one.kind in ("std", "var") else one.kind
        inner = [] if one.argument is None else [f"{self.expression(one.argument, node)} ({one.argument.type})"]
        if one.by is not None:
            inner.append(f"by={self.expression(one.by, node)} ({one.by.type})")
        inner += [f"then_by={self.expression(part, node)} ({part.type})" for part in one.then_by]
        inner += [f"{name}={_plain(value)}" for name, value in one.params if kind != "moments"]
        if one.kind == "custom":
            inner.append(f"type={one.type}")
        where = "" if one.where is None else f".filter({self.expression(one.where, node)})"
        return f"{kind}({', '.join(inner)}){where}"

    def _computed(self, one: TypedAggregate, node: Node) -> str:
        """Return what makes a column that `node` computes: all of it, not only what is kept."""
        made = self._aggregate(one, node.inputs[0], kept=False)
        if isinstance(node, WindowAggregateNode):
            return f"{made} in {node.window}"
        return made if one.frame is None or one.kind == "lag" else f"{made}.over({one.frame})"

    def columns(self, node: Node) -> Meaning:
        """Return what makes each column that user code sees, a part each: it may be given more of them."""
        return {f"column {field.name!r}": self.column(node, field.name) for field in node.schema.visible().fields}

    def cells(self, aggregates: Iterable[TypedAggregate], node: Node) -> str:
        """Return what a rolling frame keeps of each record: the columns that its aggregates read, each once."""
        found: dict[str, None] = {}
        for one in aggregates:
            for part in one.expressions():
                found[f"{self.expression(part, node)} ({part.type})"] = None
        return ", ".join(found) or "times"

    def _render(self, value: Typed, node: Node) -> str:
        texts: dict[int, str] = {}
        waiting = [value]
        while waiting:
            at = waiting[-1]
            missing = [arg for arg in at.args if id(arg) not in texts]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            if at.is_column:
                texts[id(at)] = self._texts[id(node), at.column]
            elif at.op == "literal":
                texts[id(at)] = _plain(at.params[0])
            else:
                inner = [texts[id(arg)] for arg in at.args] + [_plain(param) for param in at.params]
                texts[id(at)] = _bounded(f"{at.op}({', '.join(inner)})")
        return texts[id(value)]


def _made_by(node: Node, column: str) -> tuple[Node, Typed | TypedAggregate | str]:
    """Return the node and the expression over its columns that make `column`, or the name under which the column begins.

    An aggregate comes with the node that computes it.
    """
    while True:
        if isinstance(node, ProjectNode):
            value = node.by_name[column]
            if not value.is_column:
                return node.inputs[0], value
            node, column = node.inputs[0], value.column
        elif isinstance(node, (AggregateNode, WindowAggregateNode)) and column in node.key_schema:
            node = key_of(node)  # in between, nobody may need the column
        elif _passes(node, column):
            node = node.inputs[0]
        else:
            made = node.aggregates if isinstance(node, _COMPUTING) else ()
            return node, next((one for one in made if one.name == column), column)


def _parts(node: Node, value: Typed | TypedAggregate | str) -> list[tuple[Node, str]]:
    """Return the columns that must be known to tell what a column means, each with the node whose output it is."""
    if isinstance(value, Typed):
        return [(node, name) for name in _columns(value)]
    if isinstance(value, TypedAggregate):
        return [(node.inputs[0], name) for part in value.expressions() for name in _columns(part)]
    if isinstance(node, MergeNode):
        place = node.schema.index(value)
        return [(branch, branch.schema.names[place]) for branch in node.inputs]
    return []


def _passes(node: Node, column: str) -> bool:
    if isinstance(node, FrameNode):
        return column in node.inputs[0].schema
    if isinstance(node, PythonFunctionNode):
        return node.output is None and column in node.inputs[0].schema
    return isinstance(node, (FilterNode, CounterNode, DeduplicateNode, KeyByNode))


def _columns(value: Typed) -> list[str]:
    return sorted(columns_of(value))


def _bounded(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{text[:_SHOWN]}… #{digest}"


def _plain(value: Any) -> str:
    """Return a constant as text: the same in every process and version of Python."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return _bounded(json.dumps(value))
    if isinstance(value, bytes):
        return _bounded(f"b{value.hex()}")
    if isinstance(value, (list, tuple)):
        return _bounded(f"({', '.join(map(_plain, value))})")
    if isinstance(value, (set, frozenset)):
        return _bounded(f"{{{', '.join(sorted(map(_plain, value)))}}}")
    if isinstance(value, Mapping):
        return _bounded(f"{{{', '.join(f'{_plain(key)}: {_plain(item)}' for key, item in value.items())}}}")
    if isinstance(value, (Decimal, pa.DataType)):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"{value.days}d {value.seconds}s {value.microseconds}us"
    return type(value).__name__
