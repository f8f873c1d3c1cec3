"""Expressions as values: what the user typed (`Expression`) and the same with types and casts (`Typed`).

Both are frozen and hashable. A `Typed` tree names the operations of the data plane (see `physical.node.Instruction`);
its leaves are columns by name, literals and the event time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Union

import pyarrow as pa

from streamdsl.windows import Frame

__all__ = [
    "Aggregation",
    "Call",
    "ColumnRef",
    "Constant",
    "Expression",
    "Named",
    "Typed",
    "TypedAggregate",
    "columns_of",
    "rewrite",
    "substitute",
    "text_of",
]


@dataclass(frozen=True, slots=True)
class ColumnRef:
    """A column by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A Python value. `shown` keeps 1, 1.0 and True (and 0.0 and -0.0) apart."""

    value: Any
    shown: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operation. `params` are plain constants."""

    op: str
    args: tuple[Expression, ...]
    params: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Aggregation:
    """An aggregate over records of a key: in a frame, in a window, or running."""

    kind: str
    argument: Expression | None = None
    by: Expression | None = None
    where: Expression | None = None
    params: tuple[tuple[str, Any], ...] = ()
    frame: Frame | None = None
    custom: Any = None


@dataclass(frozen=True, slots=True)
class Named:
    """An expression with the name of its column."""

    argument: Expression
    name: str


Expression = Union[ColumnRef, Constant, Call, Aggregation, Named]


def rewrite(node: Expression, change: Callable[[Expression], Expression | None]) -> Expression:
    """Return the tree with every node for which `change` answers replaced by the answer, from the top down."""
    changed = change(node)
    if changed is not None:
        return changed
    if isinstance(node, Call):
        return replace(node, args=tuple(rewrite(arg, change) for arg in node.args))
    if isinstance(node, Named):
        return replace(node, argument=rewrite(node.argument, change))
    if isinstance(node, Aggregation):
        return replace(
            node,
            argument=None if node.argument is None else rewrite(node.argument, change),
            by=None if node.by is None else rewrite(node.by, change),
            where=None if node.where is None else rewrite(node.where, change),
        )
    return node


def children(node: Expression) -> tuple[Expression, ...]:
    """Return the direct parts of an expression."""
    if isinstance(node, Call):
        return node.args
    if isinstance(node, Named):
        return (node.argument,)
    if isinstance(node, Aggregation):
        return tuple(part for part in (node.argument, node.by, node.where) if part is not None)
    return ()


def aggregations(node: Expression) -> Iterator[Aggregation]:
    """Yield the outermost aggregates of an expression, left to right."""
    if isinstance(node, Aggregation):
        yield node
        return
    for part in children(node):
        yield from aggregations(part)


def column_names(node: Expression) -> list[str]:
    """Return the columns an expression names, each once, left to right."""
    if isinstance(node, ColumnRef):
        return [node.name]
    return list(dict.fromkeys(name for part in children(node) for name in column_names(part)))


@dataclass(frozen=True, slots=True, eq=False)
class Typed:
    """An expression bound to a schema: an operation of the data plane, its type, its arguments.

    `weight` counts the nodes of the written-out tree; passes use it to stop in time.
    """

    op: str
    type: pa.DataType
    args: tuple[Typed, ...] = ()
    params: tuple[Any, ...] = ()
    nullable: bool = True
    weight: int = field(init=False, default=0)
    key: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", 1 + sum(arg.weight for arg in self.args))
        parts = (self.op, self.type, tuple(arg.key for arg in self.args), repr(self.params), self.nullable)
        object.__setattr__(self, "key", hash(parts))

    def __hash__(self) -> int:
        return self.key

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Typed) or self.key != other.key:
            return False
        # repr keeps 1, 1.0 and True apart, and 0.0 and -0.0.
        return (
            self.op == other.op
            and self.type == other.type
            and self.nullable == other.nullable
            and repr(self.params) == repr(other.params)
            and self.args == other.args
        )

    @property
    def is_column(self) -> bool:
        """Whether it passes a column through."""
        return self.op == "column"

    @property
    def column(self) -> str:
        """Name of the column passed through."""
        return str(self.params[0])

    def __str__(self) -> str:
        return typed_text(self)


@dataclass(frozen=True, slots=True)
class TypedAggregate:
    """An aggregate bound to a schema: the column `name` of the type `type`."""

    name: str
    kind: str
    type: pa.DataType
    nullable: bool
    argument: Typed | None = None
    by: Typed | None = None
    where: Typed | None = None
    params: tuple[tuple[str, Any], ...] = ()
    frame: Frame | None = None
    custom: Any = None

    def expressions(self) -> tuple[Typed, ...]:
        """Return what it reads from a row."""
        return tuple(part for part in (self.argument, self.by, self.where) if part is not None)

    def map(self, change: Callable[[Typed], Typed]) -> TypedAggregate:
        """Return the aggregate over changed expressions."""
        return replace(
            self,
            argument=None if self.argument is None else change(self.argument),
            by=None if self.by is None else change(self.by),
            where=None if self.where is None else change(self.where),
        )

    def __str__(self) -> str:
        inner = [] if self.argument is None else [str(self.argument)]
        if self.by is not None:
            inner.append(f"by={self.by}")
        inner += [f"{name}={value!r}" for name, value in self.params]
        text = f"{self.name} = {self.kind}({', '.join(inner)})"
        if self.where is not None:
            text += f" filter {self.where}"
        if self.frame is not None and self.kind != "lag":
            text += f" over {self.frame}"
        return text


def columns_of(*expressions: Typed) -> frozenset[str]:
    """Return the columns that expressions read."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting = list(expressions)
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.is_column:
            found.add(node.column)
        waiting.extend(node.args)
    return frozenset(found)


def substitute(expression: Typed, columns: Mapping[str, Typed]) -> Typed:
    """Return the expression with columns replaced by the expressions that make them."""
    memo: dict[int, Typed] = {}

    def visit(node: Typed) -> Typed:
        known = memo.get(id(node))
        if known is not None:
            return known
        if node.is_column:
            made = columns.get(node.column, node)
            # A column may have been read under another type of the same kind (a timestamp as its milliseconds).
            new = made if made.type == node.type else replace(made, type=node.type)
        elif node.args:
            new = replace(node, args=tuple(visit(arg) for arg in node.args))
        else:
            new = node
        memo[id(node)] = new
        return new

    return visit(expression)


#: Operations that may refuse a row: passes must not evaluate them on rows they would not have seen.
_FAILING: Final = frozenset(
    {
        *("add", "sub", "mul", "neg", "abs", "pow", "floordiv", "mod"),
        *("cast_i64", "cast_u64", "parse_i64", "parse_f64", "parse_bool", "check_range"),
        "replace_strict",
    }
)


#: Of these, the ones that overflow; floats do not.
_WHOLE: Final = frozenset({"add", "sub", "mul", "neg", "abs", "pow", "floordiv", "mod", "check_range"})


def may_fail(expression: Typed) -> bool:
    """Tell whether evaluating the expression can be an error of the record."""
    seen: set[int] = set()
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.op in _FAILING and not (node.op in _WHOLE and pa.types.is_floating(node.type)):
            return True
        waiting.extend(node.args)
    return False


_INFIX: Final = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "and": "&",
    "or": "|",
}


def _call_text(op: str, args: list[str], params: tuple[Any, ...]) -> str:
    if op in _INFIX and len(args) == 2:
        return f"{args[0]} {_INFIX[op]} {args[1]}"
    if op in ("neg", "not") and len(args) == 1:
        return f"{'-' if op == 'neg' else '~'}{args[0]}"
    return f"{op}({', '.join([*args, *(_param_text(param) for param in params)])})"


def _param_text(param: Any) -> str:
    if isinstance(param, tuple) and len(param) > 4:
        return f"({', '.join(repr(item) for item in param[:3])}, … {len(param)} values)"
    return str(param) if isinstance(param, pa.DataType) else repr(param)


def text_of(node: Expression) -> str:
    """Return an untyped expression as people write it."""
    if isinstance(node, ColumnRef):
        return f'col("{node.name}")'
    if isinstance(node, Constant):
        return node.shown
    if isinstance(node, Named):
        return f'{text_of(node.argument)}.alias("{node.name}")'
    if isinstance(node, Aggregation):
        return _aggregation_text(node)
    args = [f"({text_of(arg)})" if node.op in (*_INFIX, "neg", "not") and _is_infix(arg) else text_of(arg) for arg in node.args]
    return _call_text(node.op, args, node.params)


def _is_infix(node: Expression) -> bool:
    return isinstance(node, Call) and node.op in _INFIX


def _aggregation_text(node: Aggregation) -> str:
    inner = [] if node.by is None else [text_of(node.by)]
    inner += [f"{name}={value!r}" for name, value in node.params]
    owner = "" if node.argument is None else f"{text_of(node.argument)}."
    text = f"{owner}{node.kind}({', '.join(inner)})"
    if node.where is not None:
        text += f".filter({text_of(node.where)})"
    if node.frame is not None:
        text += f".over({node.frame})"
    return text


def typed_text(node: Typed) -> str:
    """Return a bound expression as text, columns by their bare names."""
    if node.is_column:
        return node.column
    if node.op == "literal":
        return repr(node.params[0])
    if node.op == "time":
        return "event_time()"
    infix = node.op in _INFIX or node.op in ("neg", "not")
    args = [f"({arg})" if infix and arg.op in _INFIX else str(arg) for arg in node.args]
    params = () if node.op == "div" else node.params
    return _call_text(node.op, args, params)
