"""What a job holds a checkpoint to before it goes on from it, and what it says of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.meanings import check_meanings
from streamdsl.config import Config
from streamdsl.errors import StateError
from streamdsl.physical.node import PhysicalPlan

log = logging.getLogger("streamdsl")


@contextlib.contextmanager
def as_damage(restored: Manifest | None) -> Iterator[None]:
    """Name the checkpoint in what operators and connectors raise when it holds something else than they write."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        if restored is None:
            raise
        raise StateError(
            f"checkpoint {restored.checkpoint_id} cannot be restored: {type(error).__name__}: {error}",
            remedy="restore from another checkpoint, or start with another state directory",
        ) from error


def say_where(name: str, restored: Manifest | None) -> None:
    """Log where a job begins; the positions only for who looks for a fault: there may be thousands."""
    if restored is None:
        log.info("%s begins: there is no checkpoint", name)
        return
    splits = sum(len(states) for states in restored.sources.values())
    log.info("%s goes on from checkpoint %d, with %d splits", name, restored.checkpoint_id, splits)
    for source, states in restored.sources.items():
        for split, state in states.items() if log.isEnabledFor(logging.DEBUG) else ():
            log.debug("%s goes on in %s of %s at %s", name, split, source, state["position"])


def changed_meanings(plan: PhysicalPlan, config: Config, restored: Manifest | None) -> frozenset[str]:
    """Refuse a checkpoint with sources or sinks that the topology no longer has, or whose state means something else now.

    Returns what has changed and may begin anew.
    """
    if restored is None:
        return frozenset()
    present = {operator.name for stage in plan.stages for operator in stage.operators}
    known = set(restored.sources) | set(restored.operators)
    gone = sorted(known - present - set(config.drop_state))
    if gone:
        raise StateError(
            f"checkpoint {restored.checkpoint_id} knows {', '.join(map(repr, gone))}, which the topology does not have",
            remedy=f"give them their names back, or let their positions go: Config(drop_state={gone!r})",
        )
    return check_meanings(restored, plan.meanings, config.drop_state, config.keep_state)
