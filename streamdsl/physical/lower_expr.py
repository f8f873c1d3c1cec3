"""Typed expressions to programs: the columns by their indices, every common part once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

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
        return flattened(self._instructions, list(self._outputs))

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
    outputs = [builder._add(expression) for expression in expressions]
    return flattened(builder._instructions, outputs)


def lower_aggregates(aggregates: Sequence[TypedAggregate], schema: Schema) -> tuple[ProgramSpec, tuple[AggregateSpec, ...]]:
    """Return the program of all that aggregates read, and the aggregates over its outputs."""
    builder = ProgramBuilder(schema)
    specs = tuple(_aggregate(made, builder) for made in aggregates)
    return builder.program(), specs


def lower_group(aggregates: Sequence[TypedAggregate], sign: Typed, schema: Schema) -> tuple[ProgramSpec, tuple[AggregateSpec, ...], int]:
    """Return the same for rows that may be withdrawn, and which output of the program is their sign."""
    builder = ProgramBuilder(schema)
    specs = tuple(_aggregate(made, builder, retracts=True) for made in aggregates)
    place = builder.output(sign)
    return builder.program(), specs, place


def _aggregate(made: TypedAggregate, builder: ProgramBuilder, *, retracts: bool = False) -> AggregateSpec:
    frame: FrameSpec | None = None
    if made.frame is not None:
        frame = FrameSpec(made.frame.kind, made.frame.size_ms, made.frame.exclude_current)
    elif made.kind == "lag":
        frame = FrameSpec("expanding")
    row = () if retracts else _whole_row(made, builder)
    return AggregateSpec(
        name=made.name,
        kind=made.kind,
        input_kind=_kind(made.argument),
        output_kind=kind_of(made.type),
        output_type=made.type,
        argument=-1 if row or made.argument is None else builder.output(made.argument),
        by=-1 if made.by is None else builder.output(made.by),
        by_kind=_kind(made.by),
        then_by=tuple(builder.output(part) for part in made.then_by),
        then_kinds=tuple(kind_of(part.type) for part in made.then_by),
        by_type=None if made.by is None else made.by.type,
        where=-1 if made.where is None else builder.output(made.where),
        params=made.params,
        frame=frame,
        custom=made.custom,
        input_type=None if made.argument is None else made.argument.type,
        never_null=made.argument is not None and not made.argument.nullable,
        retracts=retracts,
        row=row,
    )


def _whole_row(made: TypedAggregate, builder: ProgramBuilder) -> tuple[tuple[int, Kind, pa.Field], ...]:
    """Return the columns of row() where an aggregate keeps it as it is: the text of it is made for rows that are shown."""
    if made.kind != "top_k" or made.argument is None or made.argument.op != "row_text" or made.frame is not None:
        return ()
    parts = zip(made.argument.args, made.argument.type, strict=True)
    return tuple((builder.output(part), kind_of(part.type), field) for part, field in parts)


def _kind(expression: Typed | None) -> Kind | None:
    return None if expression is None else kind_of(expression.type)


#: Operations whose last argument, or any argument, may be written out in place: the same rows ask for the same parts.
_LAST_OPENS: Final = frozenset({"when"})
_ALL_OPEN: Final = frozenset({"and", "or", "coalesce"})
#: Arguments of an instruction at most (see `_native/expr/params.pyx`).
_MOST_ARGS: Final = 20_000


def _members_together(instructions: Sequence[Instruction], outputs: Sequence[int]) -> tuple[Sequence[Instruction], Sequence[int]]:
    """Return a program in which several fields of one struct are found in one walk over its text."""
    asked: dict[tuple[int, ...], list[str]] = {}
    for one in instructions:
        if one.op == "struct_field":
            asked.setdefault(one.args, []).append(one.params[0])
    if all(len(names) < 2 for names in asked.values()):
        return instructions, outputs
    numbers: list[int] = []
    found: dict[tuple[int, ...], int] = {}
    made: list[Instruction] = []
    for one in instructions:
        args = tuple(numbers[arg] for arg in one.args)
        names = asked.get(one.args, []) if one.op == "struct_field" else []
        if len(names) < 2:
            made.append(replace(one, args=args))
        else:
            if one.args not in found:
                found[one.args] = len(made)
                made.append(Instruction("struct_members", "str", args, tuple(names)))
            made.append(Instruction("struct_part", "str", (*args, found[one.args]), (names.index(one.params[0]),)))
        numbers.append(len(made) - 1)
    return made, [numbers[output] for output in outputs]


def flattened(instructions: Sequence[Instruction], outputs: Sequence[int]) -> ProgramSpec:
    """Return the program with nests such as ``a | (b | c)`` as one instruction: a rule table is as long as it is, but not deep."""
    instructions, outputs = _members_together(instructions, outputs)
    uses = Counter(arg for one in instructions for arg in one.args)
    uses.update(outputs)
    args: list[list[int]] = []
    gone: set[int] = set()
    for one in instructions:
        own = list(one.args)
        # From the end, so that what is put in is not looked at again: it is flat.
        for place in range(len(own) - 1, -1, -1):
            arg = own[place]
            inner = instructions[arg]
            opens = one.op in _ALL_OPEN or (one.op in _LAST_OPENS and place == len(own) - 1)
            if not opens or inner.op != one.op or inner.kind != one.kind or uses[arg] > 1 or len(own) + len(args[arg]) > _MOST_ARGS:
                continue
            gone.add(arg)
            if place == 0:  # a chain from the left: its list grows, without a copy
                args[arg].extend(own[1:])
                own = args[arg]
            else:
                own[place : place + 1] = args[arg]
            args[arg] = []
        args.append(own)
    numbers: dict[int, int] = {}
    kept: list[Instruction] = []
    for index, one in enumerate(instructions):
        if index not in gone:
            numbers[index] = len(kept)
            flat = tuple(numbers[arg] for arg in args[index])
            kept.append(one if flat == one.args else replace(one, args=flat))
    return ProgramSpec(tuple(kept), tuple(numbers[output] for output in outputs))
