"""Typed expressions to programs: the columns by their indices, every common part once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamdsl.logical.expression import Typed, TypedAggregate
from streamdsl.logical.walk import post_order
from streamdsl.physical.kinds import kind_of
from streamdsl.physical.node import AggregateSpec, FrameSpec, Instruction, Kind, ProgramSpec
from streamdsl.schema import Schema

__all__ = ["ProgramBuilder", "lower_aggregates", "lower_expressions"]


class ProgramBuilder:
    """Collects expressions over one schema into one program."""

    def __init__(self, schema: Schema) -> None:
        self._positions = {name: position for position, name in enumerate(schema.names)}
        self._instructions: list[Instruction] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._memo: dict[int, tuple[Typed, int]] = {}
        self._outputs: dict[int, int] = {}

    def output(self, expression: Typed) -> int:
        """Add an output; return its number. The same expression twice is one output."""
        return self._outputs.setdefault(self._add(expression), len(self._outputs))

    def program(self) -> ProgramSpec:
        """Return what was collected."""
        return ProgramSpec(tuple(self._instructions), tuple(self._outputs))

    def _add(self, expression: Typed) -> int:
        for node in post_order([expression], self._missing):
            if id(node) not in self._memo:
                self._memo[id(node)] = (node, self._instruction(node))
        return self._memo[id(expression)][1]

    def _missing(self, node: Typed) -> tuple[Typed, ...]:
        return () if id(node) in self._memo else node.args

    def _instruction(self, node: Typed) -> int:
        args = tuple(self._memo[id(arg)][1] for arg in node.args)
        params = (self._positions[node.column],) if node.is_column else node.params
        kind = kind_of(node.type)
        # repr keeps 1, 1.0 and True apart, and 0.0 and -0.0.
        key = (node.op, kind, args, repr(params))
        index = self._known.get(key)
        if index is None:
            index = self._known[key] = len(self._instructions)
            self._instructions.append(Instruction(node.op, kind, args, params))
        return index


def lower_expressions(expressions: Sequence[Typed], schema: Schema) -> ProgramSpec:
    """Return a program with one output for each expression, in order."""
    builder = ProgramBuilder(schema)
    outputs = tuple(builder._add(expression) for expression in expressions)
    return ProgramSpec(builder.program().instructions, outputs)


def lower_aggregates(aggregates: Sequence[TypedAggregate], schema: Schema) -> tuple[ProgramSpec, tuple[AggregateSpec, ...]]:
    """Return the program of all that aggregates read, and the aggregates over its outputs."""
    builder = ProgramBuilder(schema)
    specs = tuple(_aggregate(made, builder) for made in aggregates)
    return builder.program(), specs


def _aggregate(made: TypedAggregate, builder: ProgramBuilder) -> AggregateSpec:
    frame: FrameSpec | None = None
    if made.frame is not None:
        frame = FrameSpec(made.frame.kind, made.frame.size_ms, made.frame.exclude_current)
    elif made.kind == "lag":
        frame = FrameSpec("expanding")
    return AggregateSpec(
        name=made.name,
        kind=made.kind,
        input_kind=_kind(made.argument),
        output_kind=kind_of(made.type),
        output_type=made.type,
        argument=-1 if made.argument is None else builder.output(made.argument),
        by=-1 if made.by is None else builder.output(made.by),
        by_kind=_kind(made.by),
        where=-1 if made.where is None else builder.output(made.where),
        params=made.params,
        frame=frame,
        custom=made.custom,
        input_type=None if made.argument is None else made.argument.type,
    )


def _kind(expression: Typed | None) -> Kind | None:
    return None if expression is None else kind_of(expression.type)
