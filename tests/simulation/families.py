"""All families, and the plans of each, compiled once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from streamdsl._native.event_time.clock import ManualClock
from streamdsl.compiler import compile
from streamdsl.logical.plan import LogicalPlan
from streamdsl.physical.lower import lower
from streamdsl.physical.node import PhysicalOperator, PhysicalPlan, PhysicalSink, PhysicalSource, Stage
from tests.simulation import arrivals, joined, timed, windowed
from tests.simulation.endpoints import SimulatedSource
from tests.simulation.family import SCHEMA, Family

FAMILIES: tuple[tuple[Family, ...], ...] = (
    tuple(arrivals.chain(i) for i in range(8)),
    tuple(arrivals.letters(i) for i in range(2)),
    tuple(arrivals.frames(i) for i in range(12)),
    tuple(arrivals.rules(i) for i in range(2)),
    tuple(arrivals.table(i) for i in range(4)),
    tuple(arrivals.rekeyed(i) for i in range(2)),
    tuple(arrivals.diamond(i) for i in range(1)),
    tuple(arrivals.two_sources(i) for i in range(2)),
    tuple(arrivals.one_key(i) for i in range(1)),
    tuple(timed.windows(i) for i in range(16)),
    tuple(timed.sleepers(i) for i in range(2)),
    tuple(timed.nested(i) for i in range(2)),
    tuple(timed.two_clocks(i) for i in range(1)),
    tuple(timed.window_processor(i) for i in range(2)),
    tuple(timed.sequence(i) for i in range(1)),
    tuple(timed.collections(i) for i in range(1)),
    tuple(timed.timers(i) for i in range(1)),
    tuple(timed.gathered(i) for i in range(1)),
    *windowed.FAMILIES,
    *joined.FAMILIES,
)


@functools.cache
def _optimised(kind: int, variant: int, partitioned_by: str | None) -> LogicalPlan:
    # What a topology means does not depend on the number of its tasks, and takes the longest to find out.
    family = FAMILIES[kind][variant]
    sources = {
        name: SimulatedSource(name, SCHEMA, {}, ManualClock(0), bounded=True, partitioned_by=partitioned_by) for name in family.sources
    }
    return compile(family.build(), bind=sources).optimised


@functools.cache
def _template(kind: int, variant: int, parallelism: int, partitioned_by: str | None) -> PhysicalPlan:
    # A plan is a value: runs share it, and each puts its own ends in.
    return lower(_optimised(kind, variant, partitioned_by), parallelism)


def plan_with(kind: int, variant: int, parallelism: int, shards: int, ends: Mapping[str, Any]) -> PhysicalPlan:
    """Return the plan of a topology with the shards, sources and sinks of one run."""
    (partitioned_by,) = {end.partitioned_by for end in ends.values() if isinstance(end, SimulatedSource)}
    template = _template(kind, variant, parallelism, partitioned_by)
    return dataclasses.replace(template, shards=shards, stages=tuple(_stage_with(stage, ends) for stage in template.stages))


def _stage_with(stage: Stage, ends: Mapping[str, Any]) -> Stage:
    operators: list[PhysicalOperator] = []
    for operator in stage.operators:
        if isinstance(operator, PhysicalSource):
            operators.append(dataclasses.replace(operator, source=ends[operator.name]))
        elif isinstance(operator, PhysicalSink):
            operators.append(dataclasses.replace(operator, sink=ends[operator.name]))
        else:
            operators.append(operator)
    return Stage(stage.id, stage.parallelism, stage.edges, tuple(operators))


@functools.cache
def sinks_of(kind: int, variant: int) -> tuple[str, ...]:
    """Return the names of a topology's sinks."""
    return tuple(op.name for stage in _template(kind, variant, 1, None).stages for op in stage.operators if isinstance(op, PhysicalSink))
