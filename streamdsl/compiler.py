"""The whole pipeline: as typed → what it means → optimised → how it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamdsl.dsl.binding import check_columns
from streamdsl.dsl.written import Typed
from streamdsl.logical.plan import LogicalPlan
from streamdsl.optimizer import PASSES, Pass, optimise
from streamdsl.optimizer.elide_exchange import elide_exchange
from streamdsl.optimizer.prune_columns import prune_columns
from streamdsl.physical.explain import explain_physical
from streamdsl.physical.lower import lower
from streamdsl.physical.node import PhysicalPlan
from streamdsl.policies import ErrorPolicy

if TYPE_CHECKING:
    from streamdsl.dsl.topology import Bindings, Topology

__all__ = ["Plans", "compile", "drawn", "explain", "forms", "readable_plan"]


@dataclass(frozen=True, slots=True)
class Plans:
    """The four forms of one topology; each prints as text."""

    typed: Typed
    logical: LogicalPlan
    optimised: LogicalPlan
    physical: PhysicalPlan


def compile(
    topology: Topology,
    *,
    parallelism: int = 1,
    bind: Bindings | None = None,
    strict_names: bool = False,
    errors: ErrorPolicy = "fail",
    passes: Sequence[Pass] = PASSES,
) -> Plans:
    """Return all forms of a topology.

    Parameters
    ----------
    topology : Topology
    parallelism : int
        Tasks of each stage.
    bind : mapping, optional
        Sources and sinks in place of those of the same names.
    strict_names : bool
        Insist on `name=` for everything that keeps state.
    errors : "fail" | "skip" | dead_letter(sink)
        What becomes of bad records where nothing nearer says so.
    passes : sequence, optional
        Optimiser passes to run, in order.
    """
    logical = topology.plan(bind=bind, strict_names=strict_names, errors=errors)
    optimised = optimise(logical, passes)
    check_columns(optimised)
    return Plans(topology.typed(), logical, optimised, lower(optimised, parallelism))


def readable_plan(topology: Topology, *, bind: Bindings | None = None) -> LogicalPlan:
    """Return what a topology means, step by step as it was written, with the columns alone that somebody reads."""
    plan = optimise(topology.plan(bind=bind), (_only_what_is_read,))
    check_columns(plan)
    return plan


def _only_what_is_read(plan: LogicalPlan) -> LogicalPlan:
    return prune_columns(plan, places=False)


def drawn(topology: Topology) -> LogicalPlan:
    """Return what a topology means, with the exchanges that are left out marked as such: what a drawing shows."""
    return elide_exchange(topology.plan())


def explain(plans: Plans) -> str:
    """Return all forms as text, under headings."""
    return "\n\n".join(f"== {title} ==\n{text}" for title, text in forms(plans).items())


def forms(plans: Plans) -> dict[str, str]:
    """Return all forms as text, by their titles."""
    return {
        "as typed": str(plans.typed),
        "logical": str(plans.logical),
        "optimised": str(plans.optimised),
        "physical": explain_physical(plans.physical),
    }
