"""Columns of a verb: names, expressions, and the aggregates among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamdsl.dsl.updates import refuse_updates, sees_updates
from streamdsl.dsl.written import here, slug
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, node_of
from streamdsl.expr.no_value import Unfinished
from streamdsl.logical.aggregates import Splitter, slug_of
from streamdsl.logical.bind import Binder
from streamdsl.logical.expression import (
    Aggregation,
    ColumnRef,
    Expression,
    Named,
    aggregations,
    own_column_names,
    text_of,
)
from streamdsl.logical.frame import FrameNode
from streamdsl.logical.key_by import key_of
from streamdsl.logical.node import Node
from streamdsl.logical.project import Output, ProjectNode, passed
from streamdsl.policies import ErrorPolicy, checked_policy
from streamdsl.schema import Schema
from streamdsl.windows import Frame

__all__ = [
    "Item",
    "Place",
    "aggregate_items",
    "automatic_name",
    "check_columns",
    "computed",
    "filtered_by",
    "items_of",
    "judged_by",
    "no_aggregates",
    "policy_of",
    "state_name",
    "with_name",
]


@dataclass(frozen=True, slots=True)
class Item:
    """A column to be made."""

    name: str
    value: Expression


@dataclass(frozen=True, slots=True)
class Place:
    """Where a verb stands: on which node, keyed or not, in which frame, and how its state is called."""

    node: Node
    verb: str
    keyed: bool
    frame: Frame | None
    scope: str
    name: str | None
    errors: ErrorPolicy | None = None

    @property
    def state_name(self) -> str | None:
        """The name the user chose, with the names of the operators around it."""
        return None if self.name is None else f"{self.scope}{self.name}"


def items_of(verb: str, positional: Sequence[Any], named: dict[str, Any]) -> list[Item]:
    """Return the columns a verb was given: names, named expressions and keywords."""
    items: list[Item] = []
    for value in positional:
        if isinstance(value, str):
            items.append(Item(value, ColumnRef(value)))
            continue
        if not isinstance(value, Expr):
            raise TopologyError(f"{verb}: {value!r} is not a column", remedy="use a name, an expression or name=value")
        node = value.node
        if isinstance(node, Named):
            items.append(Item(node.name, node.argument))
        elif isinstance(node, ColumnRef):
            items.append(Item(node.name, node))
        else:
            raise TopologyError(f"{verb}: {value!r} needs a name", remedy="write name=... or .alias(name)")
    for name, value in named.items():
        node = _value_of(verb, name, value)
        items.append(Item(name, node.argument if isinstance(node, Named) else node))
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise TopologyError(f"{verb}: the column {item.name!r} is made twice", remedy="give one another name")
        seen.add(item.name)
    return items


def _value_of(verb: str, name: str, value: Any) -> Expression:
    try:
        return node_of(value)
    except TopologyError as error:
        remedy = error.remedy
        word = getattr(value, "__name__", "")
        if not callable(value) or isinstance(value, Unfinished):
            pass
        elif word in ("count", "len"):
            remedy = f"write {name}=count()"
        elif hasattr(Expr, word):
            remedy = f'write {name}=col("...").{word}()'
        else:
            remedy = "functions of the row belong to map(function, schema=...)"
        raise TopologyError(f"{verb}: {name}: {error.message}", remedy=remedy) from None


def state_name(name: str | Expr | None, named: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Tell the state's name from a column called "name", which is an expression."""
    if isinstance(name, Expr):
        return None, {"name": name, **named}
    if name is not None and (not isinstance(name, str) or not name):
        raise TopologyError(f"name={name!r} is no name for state", remedy='for a column write lit(...).alias("name")')
    return name, named


def policy_of(verb: str, errors: ErrorPolicy | Expr | None, named: dict[str, Any]) -> tuple[ErrorPolicy | None, dict[str, Any]]:
    """Tell the policy for bad records from a column called "errors", which is an expression."""
    if isinstance(errors, Expr):
        return None, {"errors": errors, **named}
    return checked_policy(errors, verb, makes_columns=True), named


def with_name(name: str | None, named: dict[str, Any], errors: ErrorPolicy | None = None) -> dict[str, Any]:
    """Return the keywords as they were typed, the state's name and the policy among them."""
    own = {"name": name, "errors": errors}
    return {**{key: value for key, value in own.items() if value is not None}, **named}


def no_aggregates(verb: str, expression: Expression, *, keyed: bool) -> None:
    """Raise if the expression holds an aggregate; `keyed` tells whether the stream has a key."""
    for found in aggregations(expression):
        if keyed:
            raise TopologyError(f"{verb}: {text_of(found)} is an aggregate", remedy="make it a column with with_columns(...) first")
        raise TopologyError(
            f"{verb}: {text_of(found)} is an aggregate and needs a key",
            remedy="write .key_by(...) first; .key_by() without columns is everything as one key",
        )


def computed(place: Place, items: list[Item], *, keep: bool) -> Node:
    """Return the node that makes the columns `items`, beside the others (`keep`) or alone."""
    base = place.node
    binder = Binder(base.schema, place.verb)
    for item in items:
        # Columns of one call do not see one another, in a frame or not.
        check_columns(binder, item.value)
    splitter = Splitter((*base.schema.names, *(item.name for item in items)), base.schema.visible().names)
    direct = {item.name: item.value for item in items if keep and _is_new_aggregate(item, base.schema)}
    for name, value in direct.items():
        if isinstance(value, Aggregation):
            splitter.add(name, value)
    plain = [Item(item.name, ColumnRef(item.name) if item.name in direct else splitter.split(item.value)) for item in items]
    if not splitter.found:
        return _projected(place, base, plain, keep=keep)
    frame = _framed(place, splitter.found, [item.name for item in items if aggregations(item.value)])
    if len(direct) == len(items):
        return frame
    return _projected(place, frame, plain, keep=keep, base=base.schema)


def filtered_by(place: Place, condition: Expression) -> tuple[Node, Expression]:
    """Return the node whose columns a condition can be judged on, and the condition over these columns."""
    node, (plain,) = judged_by(place, [condition])
    return node, plain


def judged_by(place: Place, conditions: Sequence[Expression]) -> tuple[Node, list[Expression]]:
    """Return the node whose columns the conditions can be judged on, and the conditions over these columns."""
    binder = Binder(place.node.schema, place.verb)
    splitter = Splitter(place.node.schema.names, place.node.schema.visible().names)
    for condition in conditions:
        check_columns(binder, condition)
    plain = [splitter.split(condition) for condition in conditions]
    if not splitter.found:
        return place.node, plain
    return _framed(place, splitter.found, [name.lstrip("_") for name in splitter.found]), plain


def check_columns(binder: Binder, expression: Expression) -> None:
    """Raise if the expression names a column that is not there, outside its aggregates."""
    for name in own_column_names(expression):
        binder.bind(ColumnRef(name))


def _is_new_aggregate(item: Item, schema: Schema) -> bool:
    return isinstance(item.value, Aggregation) and item.name not in schema


def _projected(place: Place, node: Node, items: list[Item], *, keep: bool, base: Schema | None = None) -> Node:
    schema = node.schema if base is None else base
    binder = Binder(node.schema, place.verb)
    made = {item.name: Output(item.name, binder.bind_value(item.value)) for item in items}
    if keep:
        outputs = [made.pop(old.name, old) for old in passed(schema)]
        outputs += made.values()
    else:
        hidden = [field.name for field in schema.fields if field.hidden and field.name not in made]
        outputs = [*made.values(), *passed(schema, hidden)]
    return ProjectNode(inputs=(node,), where=here(), outputs=tuple(outputs), errors=place.errors)


def _framed(place: Place, found: dict[str, Aggregation], outputs: list[str]) -> FrameNode:
    """Return the frame that makes the aggregates `found`."""
    if not place.keyed:
        for aggregate in found.values():
            no_aggregates(place.verb, aggregate, keyed=False)
    binder = Binder(place.node.schema, place.verb)
    made = []
    for name, aggregate in found.items():
        if aggregate.frame is None and aggregate.kind != "lag":
            if place.frame is None:
                raise binder.error(
                    f"{text_of(aggregate)} does not say which records it sees",
                    'add .over(rolling("60s")) or .over(expanding()), or write .window(rolling(...)) before',
                )
            aggregate = replace(aggregate, frame=place.frame)
        made.append(binder.bind_aggregate(name, aggregate))
    if sees_updates(place.node, made):
        # What a row was before, and what it is now, is a matter of arrival: of rows that are only replaced it is right.
        by_arrival = all(aggregate.kind in ("lag", "last") for aggregate in made)
        refuse_updates(f"{place.verb} with aggregates", place.node, withdrawn_only=by_arrival)
    frames = dict.fromkeys("lag" if one.frame is None else one.frame.slug for one in made)
    keys = key_of(place.node).keys
    automatic = slug(["frame", "+".join(keys) or "all", "+".join(outputs), "+".join(frames)])
    return FrameNode(
        inputs=(place.node,),
        where=here(),
        name=place.state_name or f"{place.scope}{automatic}",
        named=place.name is not None,
        aggregates=tuple(made),
        errors=place.errors,
    )


def aggregate_items(verb: str, positional: Sequence[Any], named: dict[str, Any]) -> list[Item]:
    """Return the aggregates of a verb; each must hold one and none may have a frame."""
    items = items_of(verb, positional, named)
    if not items:
        raise TopologyError(f"{verb} needs at least one aggregate", remedy='e.g. total=col("amount").sum()')
    for item in items:
        inside = aggregations(item.value)
        if not inside:
            raise TopologyError(
                f"{verb}: {item.name} = {text_of(item.value)} is not an aggregate",
                remedy="columns of one call do not see one another: write the aggregates themselves, as in col(...).sum() / count()"
                if set(own_column_names(item.value)) & {other.name for other in items}
                else "add .sum(), .last() or another aggregate; the key's columns are always there",
            )
        for one in inside:
            if one.frame is not None:
                raise TopologyError(
                    f"{verb}: {text_of(one)} has a frame of its own",
                    remedy=".over(...) belongs to with_columns; leave it out here",
                )
            if one.kind == "lag":
                raise TopologyError(f"{verb}: lag() belongs to with_columns", remedy="use first() or last() here")
    return items


def automatic_name(kind: str, keys: Sequence[str], items: Sequence[Item], window: str = "") -> str:
    """Return the automatic name of an aggregation's state."""
    columns = "+".join(
        item.name if not isinstance(item.value, Aggregation) or slug_of(item.value) == item.name else f"{item.name}_{slug_of(item.value)}"
        for item in items
    )
    return slug([kind, "+".join(keys) or "all", columns, window])
