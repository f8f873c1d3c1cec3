"""How many shards keys are divided into, and which of them a task owns.

A source that is partitioned by a key decides both: where S is a multiple of its splits, ``shard mod splits`` is the split that a key
comes from, as shard and split are the same hash modulo one and the other. So whoever reads a split owns its keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from streamdsl.checkpoint.manifest import MAX_SHARDS, Manifest
from streamdsl.errors import StateError, TopologyError
from streamdsl.physical import node
from streamdsl.runtime.failures import as_connector_errors

__all__ = ["keeps_keys", "own_splits", "owned_shards", "with_shards"]


def with_shards(plan: node.PhysicalPlan, restored: Manifest | None) -> node.PhysicalPlan:
    """Return the plan with the splits of its partitioned sources, and S: the checkpoint's, else the smallest multiple that is enough.

    Raises
    ------
    StateError
        The checkpoint has a number of shards with which the sources cannot be read as they are declared.
    TopologyError
        No number of shards suits all sources.
    """
    counts: dict[str, int] = {}

    def counted(operator: node.PhysicalOperator) -> node.PhysicalOperator:
        if not isinstance(operator, node.PhysicalSource) or operator.partitioned_by < 0:
            return operator
        with as_connector_errors(f"the source {operator.name!r} cannot be opened"):
            splits = tuple(operator.source.splits())
        known = () if restored is None else restored.sources.get(operator.name, ())
        if not known or set(known) == set(splits):  # other splits are refused where they are opened
            counts[operator.name] = max(1, len(splits))
        return replace(operator, splits=splits)

    stages = tuple(replace(stage, operators=tuple(map(counted, stage.operators))) for stage in plan.stages)
    shards = _first_number(plan.shards, counts) if restored is None else _same_number(plan.shards, counts, restored)
    return replace(plan, shards=shards, stages=stages)


def _first_number(least: int, counts: dict[str, int]) -> int:
    unit = math.lcm(*counts.values())
    shards = -(-least // unit) * unit
    if shards > MAX_SHARDS:
        raise TopologyError(
            f"no number of shards up to {MAX_SHARDS} is a multiple of the splits of {_shown(counts)}",
            remedy="leave partitioned_by= out of one of them: its rows then change tasks by key",
        )
    return shards


def _same_number(least: int, counts: dict[str, int], restored: Manifest) -> int:
    if restored.shards < least:
        raise StateError(
            f"the checkpoint divides keys into {restored.shards} shards, the topology into {least}",
            remedy="start with another state directory",
        )
    for name, count in counts.items():
        if restored.shards % count:
            raise StateError(
                f"the checkpoint divides keys into {restored.shards} shards, no multiple of the splits of {_shown({name: count})}: "
                "keys cannot stay in the tasks that read them",
                remedy="leave partitioned_by= out (rows then change tasks by key), or start with another state directory",
            )
    return restored.shards


def _shown(counts: dict[str, int]) -> str:
    return ", ".join(f"{name!r} ({count})" for name, count in counts.items())


def own_splits(splits: Sequence[str], parallelism: int, index: int) -> Sequence[str]:
    """Return the splits that task `index` reads: split i belongs to task i mod parallelism."""
    return splits[index::parallelism]


def owned_shards(plan: node.PhysicalPlan, stage: node.Stage, index: int) -> list[int]:
    """Return the shards that task `index` of a stage owns: those of the splits it reads, where keys stay there; else every n-th."""
    source = stage.operators[0]
    if isinstance(source, node.PhysicalSource) and source.partitioned_by >= 0:
        count = max(1, len(source.splits))
        return [shard for shard in range(plan.shards) if shard % count % stage.parallelism == index]
    return [shard for shard in range(plan.shards) if shard % stage.parallelism == index]


def keeps_keys(stage: node.Stage) -> bool:
    """Whether the tasks of a source stage hold keyed state of their splits while others do so of theirs."""
    return stage.parallelism > 1 and any(isinstance(one, node.PhysicalKeyEncode) and one.partitioned for one in stage.operators)
