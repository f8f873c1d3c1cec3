"""Whether a run that has finished has anything new to read."""

from __future__ import annotations

import logging

from streamdsl.checkpoint.manifest import Manifest
from streamdsl.physical.node import (
    PhysicalDeduplicate,
    PhysicalFrame,
    PhysicalPlan,
    PhysicalProcess,
    PhysicalSource,
    PhysicalWindowAggregate,
)
from streamdsl.runtime.failures import as_connector_errors

__all__ = ["has_new_input"]

log = logging.getLogger("streamdsl")

#: To them the end of the input was the end of time.
_TIMED = (PhysicalWindowAggregate, PhysicalFrame, PhysicalProcess)


def has_new_input(plan: PhysicalPlan, finished: Manifest) -> bool:
    """Return whether there is input that the run of a last checkpoint has not read: files that came later, lines that were added."""
    operators = [operator for stage in plan.stages for operator in stage.operators]
    if not any(_is_new(source, finished) for source in operators if isinstance(source, PhysicalSource)):
        log.info("%s had finished, and its sources know of nothing new since", plan.name)
        return False
    log.info("%s had finished, and its inputs have something new: it goes on", plan.name)
    if any(isinstance(operator, _TIMED) or _forgets(operator) for operator in operators):
        log.warning(
            "%s had finished, and its windows were closed then: what comes now is late in windows, rolling frames and event timers "
            "(see the figure `late`); a job whose windows are to stay open is stopped, not finished",
            plan.name,
        )
    return True


def _forgets(operator: object) -> bool:
    return isinstance(operator, PhysicalDeduplicate) and operator.within_ms is not None


def _is_new(source: PhysicalSource, finished: Manifest) -> bool:
    states = finished.sources.get(source.name)
    if states is None:
        return True
    with as_connector_errors(f"the source {source.name!r} cannot be opened"):
        return bool(source.source.has_new({name: state["position"] for name, state in states.items()}))
