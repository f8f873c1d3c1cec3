"""What a topology reads and what it writes must be different things, and no two sinks may write one."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path
from typing import Final

from streamdsl.errors import TopologyError
from streamdsl.physical.node import PhysicalPlan, PhysicalSink, PhysicalSource

__all__ = ["check_places"]


#: Files that a state directory has: what reads one of them would read them all.
_OF_STATE: Final = ("job.json", os.path.join("checkpoints", "1", "manifest.json"))


def check_places(plan: PhysicalPlan, state_dir: Path | None = None) -> None:
    """Refuse a plan whose outputs (its state among them) are its inputs, or each other's; called before anything is written.

    Raises
    ------
    TopologyError
        Names the sink, the source or the other sink, and what both mean.
    """
    operators = [operator for stage in plan.stages for operator in stage.operators]
    sinks = [operator for operator in operators if isinstance(operator, PhysicalSink)]
    for source in (operator for operator in operators if isinstance(operator, PhysicalSource)):
        for part in source.source.parts():
            if state_dir is not None and any(part.would_read(str(state_dir / name)) for name in _OF_STATE):
                raise TopologyError(
                    f"the source {source.name!r} would read the files of the state directory {state_dir}",
                    remedy="put the state elsewhere, or name the input more closely",
                    operator=source.name,
                )
            for sink in sinks:
                what = sink.sink.overwrites(part)
                if what:
                    raise TopologyError(
                        f"the sink {sink.name!r} writes what the source {source.name!r} reads: {what}",
                        remedy="write elsewhere: the input would change while it is read",
                        operator=sink.name,
                    )
    for one, other in combinations(sinks, 2):
        what = one.sink.collides(other.sink) or other.sink.collides(one.sink)
        if what:
            raise TopologyError(
                f"the sinks {one.name!r} and {other.name!r} write to the same place: {what}",
                remedy="give one of them another place, or merge the streams and write once",
                operator=one.name,
            )
