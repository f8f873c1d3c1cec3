"""Stages: which operators call one another directly, and where rows change tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from streamdsl.physical.node import MAIN, Edge, Input, PhysicalOperator, Stage

__all__ = ["Place", "StageBuilder", "Stages"]

Partition = Literal["forward", "hash", "gather", "rebalance", "broadcast"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows come out: an operator's output in a stage."""

    stage: int
    operator: int
    tag: str = MAIN

    def tagged(self, tag: str) -> Place:
        """Return another output of the same operator."""
        return replace(self, tag=tag)


@dataclass(slots=True)
class StageBuilder:
    """A stage that still grows."""

    id: int
    parallelism: int
    edges: list[Edge] = field(default_factory=list)
    operators: list[PhysicalOperator] = field(default_factory=list)

    def add(self, operator: PhysicalOperator) -> Place:
        """Append an operator; its inputs are there already."""
        self.operators.append(operator)
        return Place(self.id, len(self.operators) - 1)

    def reads(self, place: Place, partition: Partition = "forward") -> Input:
        """Return the input that brings the rows of `place` here: a direct call, or an edge."""
        if place.stage == self.id:
            return Input(place.operator, tag=place.tag)
        edge = Edge(place.stage, place.operator, place.tag, partition)
        if edge not in self.edges:
            self.edges.append(edge)
        return Input(-1, edge=self.edges.index(edge))


class Stages:
    """All stages of a plan under construction."""

    def __init__(self) -> None:
        self._stages: list[StageBuilder] = []

    def new(self, parallelism: int) -> StageBuilder:
        """Begin a stage."""
        stage = StageBuilder(len(self._stages), parallelism)
        self._stages.append(stage)
        return stage

    def of(self, place: Place) -> StageBuilder:
        """Return the stage of a place."""
        return self._stages[place.stage]

    def by_stage(self, places: Sequence[Place]) -> dict[int, list[Place]]:
        """Return places grouped by their stages, in order."""
        groups: dict[int, list[Place]] = {}
        for place in places:
            groups.setdefault(place.stage, []).append(place)
        return groups

    def built(self) -> tuple[Stage, ...]:
        """Return the finished stages."""
        return tuple(Stage(stage.id, stage.parallelism, tuple(stage.edges), tuple(stage.operators)) for stage in self._stages)
