"""What a checkpoint says of an operator's state, so that it can be read without the topology: its spec as plain JSON values.

An operator that runs Python code (a `Processor`, an own `Aggregate`) has no such description: only the topology can read its state.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from streamdsl.physical import node
from streamdsl.schema import Field, Schema

__all__ = ["READABLE", "described", "spec_of", "views"]

#: The operators whose state is rows by key that can be looked at.
READABLE = (
    node.PhysicalTable,
    node.PhysicalAggregate,
    node.PhysicalReduce,
    node.PhysicalFrame,
    node.PhysicalDeduplicate,
    node.PhysicalWindowAggregate,
    node.PhysicalProcess,
)
_PLAIN = ("name", "kind", "input_kind", "output_kind", "argument", "by", "by_kind", "where")
_TYPES = ("output_type", "input_type", "by_type")
_WINDOW = ("kind", "size_ms", "every_ms", "offset_ms", "grace_ms", "emit", "throttle_ms")
_NOTHING = node.ProgramSpec((), ())


def views(plan: node.PhysicalPlan) -> dict[str, dict[str, Any]]:
    """Return the descriptions of all operators of a plan that have one, by name."""
    found = {}
    for stage in plan.stages:
        for spec in stage.operators:
            view = described(spec) if isinstance(spec, READABLE) else None
            if view is not None:
                found[spec.name] = view
    return found


def described(spec: Any) -> dict[str, Any] | None:
    """Return the description of an operator's state, None where it needs the topology's own code."""
    view: dict[str, Any] = {"kind": type(spec).__name__, "keys": _schema_out(spec.key_schema), "columns": _schema_out(spec.schema)}
    if isinstance(spec, node.PhysicalReduce):
        if spec.window is not None:
            return None
        view["input"] = _schema_out(spec.input_schema)
    elif isinstance(spec, node.PhysicalProcess):
        return None
    elif isinstance(spec, node.PhysicalDeduplicate):
        view["within_ms"] = spec.within_ms
    elif isinstance(spec, (node.PhysicalAggregate, node.PhysicalFrame, node.PhysicalWindowAggregate)):
        if any(one.custom is not None for one in spec.aggregates):
            return None
        view["aggregates"] = [_aggregate_out(one) for one in spec.aggregates]
    if isinstance(spec, node.PhysicalWindowAggregate):
        view["window"] = [*[getattr(spec.window, name) for name in _WINDOW], [list(pair) for pair in spec.window.transitions]]
    # As it will be read: what JSON does not bring back as it was has no description.
    return view if _survives(view) else None


def spec_of(name: str, view: Mapping[str, Any]) -> Any:
    """Return the operator that `described` was given, as far as its state goes; its lookup stands in front of it.

    Raises
    ------
    ValueError, KeyError, TypeError
        The description is damaged.
    """
    keys, columns = _schema_in(view["keys"]), _schema_in(view["columns"])
    common: dict[str, Any] = {"name": name, "inputs": (), "schema": columns, "key_schema": keys, "lookup": 0}
    kind = view["kind"]
    if kind == "PhysicalTable":
        return node.PhysicalTable(**common)
    if kind == "PhysicalReduce":
        return node.PhysicalReduce(**common, function=_unknown, input_schema=_schema_in(view["input"]))
    if kind == "PhysicalDeduplicate":
        return node.PhysicalDeduplicate(**common, within_ms=view["within_ms"])
    aggregates = tuple(_aggregate_in(one) for one in view["aggregates"])
    common |= {"arguments": _NOTHING, "aggregates": aggregates, "input_schema": Schema(())}
    if kind == "PhysicalAggregate":
        return node.PhysicalAggregate(**common)
    if kind == "PhysicalFrame":
        return node.PhysicalFrame(**common)
    if kind == "PhysicalWindowAggregate":
        *parts, transitions = view["window"]
        steps = tuple((int(at), int(offset)) for at, offset in transitions)
        window = node.WindowSpec(**dict(zip(_WINDOW, parts, strict=True)), transitions=steps)
        return node.PhysicalWindowAggregate(**common, window=window)
    raise ValueError(f"{kind!r} is not an operator whose state can be read")


def _unknown(*rows: Any) -> Any:
    raise AssertionError("a function that is only known by its results")


def _aggregate_out(spec: node.AggregateSpec) -> dict[str, Any]:
    types = pa.schema([pa.field(name, getattr(spec, name)) for name in _TYPES if getattr(spec, name) is not None])
    frame = spec.frame
    return {
        **{name: getattr(spec, name) for name in _PLAIN},
        "types": _arrow_out(types),
        "then_by": [list(spec.then_by), list(spec.then_kinds)],
        "params": [list(pair) for pair in spec.params],
        "row": [[place for *place, _ in spec.row], _arrow_out(pa.schema([field for *_, field in spec.row]))],
        "frame": None if frame is None else [frame.kind, frame.size_ms, frame.exclude_current],
    }


def _aggregate_in(view: Mapping[str, Any]) -> node.AggregateSpec:
    types = {field.name: field.type for field in _arrow_in(view["types"])}
    return node.AggregateSpec(
        **{name: view[name] for name in _PLAIN},
        **types,
        then_by=tuple(view["then_by"][0]),
        then_kinds=tuple(view["then_by"][1]),
        params=tuple((name, value) for name, value in view["params"]),
        row=tuple((*place, field) for place, field in zip(view["row"][0], _arrow_in(view["row"][1]), strict=True)),
        frame=None if view["frame"] is None else node.FrameSpec(*view["frame"]),
    )


def _schema_out(schema: Schema) -> list[Any]:
    return [_arrow_out(schema.to_arrow()), [field.name for field in schema.fields if field.hidden]]


def _schema_in(view: Any) -> Schema:
    arrow, hidden = view
    return Schema(tuple(Field(field.name, field.type, field.nullable, field.name in hidden) for field in _arrow_in(arrow)))


def _arrow_out(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def _arrow_in(text: str) -> pa.Schema:
    try:
        return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(text, validate=True)))
    except (pa.ArrowException, OSError, binascii.Error) as error:
        raise ValueError(f"a schema is damaged: {error}") from error


def _survives(view: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(json.dumps(view, allow_nan=False)) == view)
    except (TypeError, ValueError):
        return False
