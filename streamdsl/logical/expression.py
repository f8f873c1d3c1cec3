"""Expressions as values: what the user typed (`Expression`) and the same with types and casts (`Typed`).

Both are frozen and hashable. Both are graphs: a part may be shared, and they may be deeper than Python's stack. A `Typed`
names the operations of the data plane (see `physical.node.Instruction`); its leaves are columns by name, literals and the
event time.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar, Union

import pyarrow as pa

from streamdsl.logical.functions import refuses
from streamdsl.logical.walk import Shared, post_order
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
    "aggregate_may_fail",
    "columns_of",
    "rewrite",
    "substitute",
    "text_of",
]

E = TypeVar("E", bound="_Untyped")
N = TypeVar("N", bound=Shared)


class _Untyped(Shared):
    """Base of what the user typed; prints as it was written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return text_of(self)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ColumnRef(_Untyped):
    """A column by name."""

    name: str

    def says(self) -> tuple[Any, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Constant(_Untyped):
    """A Python value. `shown` keeps 1, 1.0 and True (and 0.0 and -0.0) apart."""

    value: Any
    shown: str

    def says(self) -> tuple[Any, ...]:
        return (self.shown, type(self.value).__name__)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Call(_Untyped):
    """An operation. `params` are plain constants."""

    op: str
    args: tuple[Expression, ...]
    params: tuple[Any, ...] = ()

    def parts(self) -> tuple[Expression, ...]:
        return self.args

    def says(self) -> tuple[Any, ...]:
        # repr keeps 1, 1.0 and True apart.
        return (self.op, repr(self.params) if self.params else "")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Aggregation(_Untyped):
    """An aggregate over records of a key: in a frame, in a window, or running."""

    kind: str
    argument: Expression | None = None
    by: Expression | None = None
    then_by: tuple[Expression, ...] = ()
    where: Expression | None = None
    params: tuple[tuple[str, Any], ...] = ()
    frame: Frame | None = None
    custom: Any = None

    def parts(self) -> tuple[Expression, ...]:
        return (*(part for part in (self.argument, self.by, self.where) if part is not None), *self.then_by)

    def says(self) -> tuple[Any, ...]:
        given = tuple(part is not None for part in (self.argument, self.by, self.where))
        return (self.kind, given, repr(self.params), self.frame, self.custom)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Named(_Untyped):
    """An expression with the name of its column."""

    argument: Expression
    name: str

    def parts(self) -> tuple[Expression, ...]:
        return (self.argument,)

    def says(self) -> tuple[Any, ...]:
        return (self.name,)


Expression = Union[ColumnRef, Constant, Call, Aggregation, Named]


def rewrite(root: Expression, change: Callable[[Expression], Expression | None]) -> Expression:
    """Return the expression with every node for which `change` answers replaced by the answer, from the top down."""
    made: dict[int, Expression] = {}
    waiting = [(root, False)]
    while waiting:
        node, ready = waiting.pop()
        if id(node) in made:
            continue
        changed = None if ready else change(node)
        if changed is not None:
            made[id(node)] = changed
        elif ready or not node.parts():
            made[id(node)] = _with_parts(node, made)
        else:
            waiting.append((node, True))
            waiting.extend((part, False) for part in reversed(node.parts()))
    return made[id(root)]


def _with_parts(node: Expression, made: Mapping[int, Expression]) -> Expression:
    if all(made[id(part)] is part for part in node.parts()):
        return node
    if isinstance(node, Call):
        return replace(node, args=tuple(made[id(arg)] for arg in node.args))
    if isinstance(node, Named):
        return replace(node, argument=made[id(node.argument)])
    assert isinstance(node, Aggregation)
    argument, by, where = (None if part is None else made[id(part)] for part in (node.argument, node.by, node.where))
    return replace(node, argument=argument, by=by, then_by=tuple(made[id(part)] for part in node.then_by), where=where)


def _outermost(root: Expression, wanted: type[E] | tuple[type[E], ...]) -> list[E]:
    """Return the outermost parts of the types `wanted`, each object once, left to right."""
    found: list[E] = []
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, wanted):
            found.append(node)
        else:
            waiting.extend(reversed(node.parts()))
    return found


def aggregations(node: Expression) -> list[Aggregation]:
    """Return the outermost aggregates of an expression, left to right."""
    return _outermost(node, Aggregation)


def column_names(node: Expression) -> list[str]:
    """Return the columns an expression names, each once, left to right."""
    return list(dict.fromkeys(leaf.name for leaf in _outermost(node, ColumnRef)))


def own_column_names(node: Expression) -> list[str]:
    """Return the columns an expression names outside its aggregates, each once, left to right."""
    found: list[ColumnRef | Aggregation] = _outermost(node, (ColumnRef, Aggregation))
    return list(dict.fromkeys(part.name for part in found if isinstance(part, ColumnRef)))


#: The weight of an expression that is too large to be written out.
_HEAVIEST: Final = 1 << 30


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Typed(Shared):
    """An expression bound to a schema: an operation of the data plane, its type, its arguments.

    `weight` counts the nodes of the written-out tree; passes use it to stop in time.
    `may_fail`: evaluating it can be an error of the record, so passes must not evaluate it on rows it would not have seen.
    """

    op: str
    type: pa.DataType
    args: tuple[Typed, ...] = ()
    params: tuple[Any, ...] = ()
    nullable: bool = True
    weight: int = field(init=False, default=0)
    may_fail: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", min(_HEAVIEST, 1 + sum(arg.weight for arg in self.args)))
        object.__setattr__(self, "may_fail", refuses(self.op, self.type, self.params) or any(arg.may_fail for arg in self.args))
        Shared.__post_init__(self)

    def parts(self) -> tuple[Typed, ...]:
        return self.args

    def says(self) -> tuple[Any, ...]:
        # repr keeps 1, 1.0 and True apart, and 0.0 and -0.0.
        return (self.op, self.type, repr(self.params) if self.params else "", self.nullable)

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

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class TypedAggregate:
    """An aggregate bound to a schema: the column `name` of the type `type`."""

    name: str
    kind: str
    type: pa.DataType
    nullable: bool
    argument: Typed | None = None
    by: Typed | None = None
    then_by: tuple[Typed, ...] = ()
    where: Typed | None = None
    params: tuple[tuple[str, Any], ...] = ()
    frame: Frame | None = None
    custom: Any = None

    def expressions(self) -> tuple[Typed, ...]:
        """Return what it reads from a row."""
        return (*(part for part in (self.argument, self.by, self.where) if part is not None), *self.then_by)

    @property
    def is_rolling(self) -> bool:
        """Whether it looks at times: lag counts arrivals, whatever frame surrounds it."""
        return self.kind != "lag" and self.frame is not None and self.frame.kind == "rolling"

    def map(self, change: Callable[[Typed], Typed]) -> TypedAggregate:
        """Return the aggregate over changed expressions."""
        return replace(
            self,
            argument=None if self.argument is None else change(self.argument),
            by=None if self.by is None else change(self.by),
            then_by=tuple(change(part) for part in self.then_by),
            where=None if self.where is None else change(self.where),
        )

    def __str__(self) -> str:
        inner = [] if self.argument is None else [str(self.argument)]
        if self.by is not None:
            inner.append(f"by={self.by}")
        if self.then_by:
            inner.append(f"then_by={then_text(map(str, self.then_by))}")
        inner += [f"{name}={value!r}" for name, value in self.params]
        text = f"{self.name} = {self.kind}({', '.join(inner)})"
        if self.where is not None:
            text += f" filter {self.where}"
        if self.frame is not None and self.kind != "lag":
            text += f" over {self.frame}"
        return text


def columns_of(*expressions: Typed) -> frozenset[str]:
    """Return the columns that expressions read."""
    return frozenset(node.column for node in post_order(expressions, Typed.parts) if node.is_column)


def substitute(expressions: Sequence[Typed], columns: Mapping[str, Typed]) -> list[Typed]:
    """Return the expressions with columns replaced by the expressions that make them; what they share stays shared."""
    made: dict[int, Typed] = {}
    for node in post_order(expressions, Typed.parts):
        if node.is_column:
            source = columns.get(node.column, node)
            # A column may have been read under another type of the same kind (a timestamp as its milliseconds).
            made[id(node)] = source if source.type == node.type else replace(source, type=node.type)
            continue
        args = tuple(made[id(arg)] for arg in node.args)
        unchanged = all(new is old for new, old in zip(args, node.args, strict=True))
        made[id(node)] = node if unchanged else replace(node, args=args)
    return [made[id(expression)] for expression in expressions]


def aggregate_may_fail(aggregate: TypedAggregate) -> bool:
    """Tell whether a record can be an error for the aggregate: what is read of it, or what it is added to."""
    overflows = aggregate.kind in ("sum", "product", "mean") and not pa.types.is_floating(aggregate.type)
    return overflows or aggregate.kind == "custom" or any(part.may_fail for part in aggregate.expressions())


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
    if op.startswith("dec_"):
        # The parameters of decimals are the planner's own.
        op, params = op.removeprefix("dec_"), params[:1] if op == "dec_round" else ()
    if op in _INFIX and len(args) == 2:
        return f"{args[0]} {_INFIX[op]} {args[1]}"
    if op in ("neg", "not") and len(args) == 1:
        return f"{'-' if op == 'neg' else '~'}{args[0]}"
    return f"{op}({', '.join([*args, *(_param_text(param) for param in params)])})"


def _param_text(param: Any) -> str:
    if isinstance(param, tuple) and len(param) > 4:
        return f"({', '.join(repr(item) for item in param[:3])}, … {len(param)} values)"
    return str(param) if isinstance(param, pa.DataType) else repr(param)


#: Characters of an expression's text at most; what is longer is shown from its end inwards, the rest as "…".
MAX_TEXT: Final = 4000


def text_of(root: Expression) -> str:
    """Return an untyped expression as people write it."""
    texts: dict[int, str] = {}
    for node in post_order([root], _parts):
        texts[id(node)] = _fitted(node, texts, _untyped_text)
    return texts[id(root)]


def typed_text(root: Typed) -> str:
    """Return a bound expression as text, columns by their bare names."""
    texts: dict[int, str] = {}
    for node in post_order([root], Typed.parts):
        texts[id(node)] = _fitted(node, texts, _typed_text)
    return texts[id(root)]


def _parts(node: Expression) -> tuple[Expression, ...]:
    return node.parts()


def _fitted(node: N, texts: Mapping[int, str], write: Callable[[N, Mapping[int, str]], str]) -> str:
    """Return the node's text; if it is too long, its longest parts are left out one after another."""
    text = write(node, texts)
    if len(text) <= MAX_TEXT:
        return text
    short = {id(part): texts[id(part)] for part in node.parts()}
    # Halves are enough: what is left out of many parts is not missed one by one.
    for key in sorted(short, key=lambda key: len(short[key]), reverse=True):
        short[key] = "…"
        if sum(map(len, short.values())) <= MAX_TEXT // 2:
            break
    text = write(node, short)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _untyped_text(node: Expression, texts: Mapping[int, str]) -> str:
    if isinstance(node, ColumnRef):
        return f'col("{node.name}")'
    if isinstance(node, Constant):
        return node.shown
    if isinstance(node, Named):
        return f'{texts[id(node.argument)]}.alias("{node.name}")'
    if isinstance(node, Aggregation):
        return _aggregation_text(node, texts)
    bracketed = node.op in (*_INFIX, "neg", "not")
    args = [f"({texts[id(arg)]})" if bracketed and _is_infix(arg) else texts[id(arg)] for arg in node.args]
    return _call_text(node.op, args, node.params)


def _is_infix(node: Expression) -> bool:
    return isinstance(node, Call) and node.op in _INFIX


def then_text(parts: Iterable[str]) -> str:
    """Return `then_by=` as it is typed: one expression, or a list of them."""
    texts = list(parts)
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _aggregation_text(node: Aggregation, texts: Mapping[int, str]) -> str:
    inner = [] if node.by is None else [texts[id(node.by)]]
    inner += [f"then_by={then_text(texts[id(part)] for part in node.then_by)}"] if node.then_by else []
    inner += [f"{name}={value!r}" for name, value in node.params]
    owner = "" if node.argument is None else f"{texts[id(node.argument)]}."
    text = f"{owner}{node.kind}({', '.join(inner)})"
    if node.where is not None:
        text += f".filter({texts[id(node.where)]})"
    if node.frame is not None:
        text += f".over({node.frame})"
    return text


def _typed_text(node: Typed, texts: Mapping[int, str]) -> str:
    if node.is_column:
        return node.column
    if node.op == "literal":
        if pa.types.is_decimal(node.type) and node.params[0] is not None:
            return str(decimal.Decimal(node.params[0]).scaleb(-node.type.scale, decimal.Context(prec=60)))
        return repr(node.params[0])
    if node.op == "time":
        return "event_time()"
    plain = node.op.removeprefix("dec_")
    infix = plain in _INFIX or plain in ("neg", "not")
    args = [f"({texts[id(arg)]})" if infix and arg.op.removeprefix("dec_") in _INFIX else texts[id(arg)] for arg in node.args]
    params = () if node.op == "div" else node.params
    return _call_text(node.op, args, params)
