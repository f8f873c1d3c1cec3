"""One seed of the simulator as a judge of planted bugs: `run_seed` raises if anything shows that must not.

What must come out is computed with nothing planted, so that a bug which has no need of a crash shows too.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from streamdsl import Processor, Topology, col, count, memory, rolling, tumbling
from streamdsl.checkpoint.recovery import find_checkpoint
from streamdsl.testing import reference
from tests.simulation import test_interruptions, test_promises
from tests.simulation.harness import SCHEMA
from tests.simulation.interruptions import Interrupted

VARIABLE = "STREAMDSL_PLANT"


@contextlib.contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Switch a planted bug on, or all off, for this thread's process."""
    before = os.environ.pop(VARIABLE, None)
    if name is not None:
        os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def lags() -> Topology:
    """A ring of three values by key."""
    topology = Topology("lags")
    keyed = test_promises.stream(topology).key_by("key")
    keyed.with_columns(third=col("city").lag(3), second=col("x").lag(2)).to(memory("out"), name="out")
    return topology


class Recent(Processor):
    """Numbers the records of a key, and forgets a key that was quiet for 60 ms."""

    output = {"key": str, "n": int}

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int, ttl=60)

    def process(self, row: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        self.n.set((self.n.get() or 0) + 1)
        yield {"key": row.key, "n": self.n.get()}


def forgetful() -> Topology:
    """State with a time to live."""
    topology = Topology("forgetful")
    test_promises.stream(topology).key_by("key").process(Recent(), name="recent").to(memory("out"), name="out")
    return topology


class Alarm(Processor):
    """Sets a timer for each record; each must fire once."""

    output = {"key": str, "due": int}

    def process(self, row: Any, ctx: Any) -> None:
        ctx.set_timer(ctx.timestamp + 30, name=str(row.at))

    def on_timer(self, timer: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        yield {"key": ctx.key, "due": timer.timestamp}


def alarms() -> Topology:
    """Timers that are never cancelled."""
    topology = Topology("alarms")
    test_promises.stream(topology).key_by("key").process(Alarm(), name="alarm").to(memory("out"), name="out")
    return topology


def late_frames() -> Topology:
    """Records that are late, for a frame."""
    topology = Topology("late")
    keyed = topology.stream(memory("in", schema=SCHEMA), timestamp="at", disorder="4ms").key_by("key")
    keyed.with_columns(n=count().over(rolling("40ms")), name="recent").to(memory("out"), name="out")
    return topology


def late_windows() -> Topology:
    """Records that are late, for a window."""
    topology = Topology("late")
    keyed = topology.stream(memory("in", schema=SCHEMA), timestamp="at", disorder="4ms").key_by("key")
    keyed.window(tumbling("15ms")).aggregate(n=count(), total=col("x").sum()).to(memory("out"), name="out")
    return topology


class Judged(Interrupted):
    """A run that begins again and again after its end has lost it."""

    def _started(self) -> Any:
        assert self.restores <= self.crashes, "the end was not committed: the run begins again"
        return super()._started()


@dataclass(frozen=True)
class Case:
    """A topology, how its output is compared, and what its runs are like."""

    make: Callable[[], Topology]
    equal: Callable[[Any, Any], None]
    options: dict[str, Any]


def _case(found: tuple[Any, Any], **options: Any) -> Case:
    return Case(found[0], found[1], {"crashes": 4, **options})


_SETS = {**test_promises.CASES, **test_interruptions.CASES}
_BY_KEY = test_promises.equal_by_key
CASES = {
    "numbered": _case(_SETS["numbered"], failing=0.15),
    "two sources": _case(_SETS["two sources"]),
    "diamond": _case(_SETS["diamond"]),
    "frames": _case(_SETS["frames"], stops=False),
    "windows": _case(_SETS["windows"], failing=0.1),
    "timers": _case(_SETS["timers"]),
    "branches": _case(_SETS["P2 merged branches"]),
    "table": _case(_SETS["P3 table"], failing=0.15, stops=False),
    "lags": Case(lags, _BY_KEY, {"crashes": 4}),
    "forgetful": Case(forgetful, _BY_KEY, {"crashes": 3}),
    "late frames": Case(late_frames, _BY_KEY, {"crashes": 3}),
    "late windows": Case(late_windows, test_promises.equal_multiset, {"crashes": 3}),
    "alarms": Case(alarms, test_promises.equal_multiset, {"crashes": 4}),
}


@dataclass(frozen=True)
class Outcome:
    """What one seed did."""

    case: str
    restores: int


@functools.cache
def _expected(seed: int) -> tuple[str, dict[str, list[dict[str, Any]]], Any]:
    names = list(CASES)
    case = names[seed % len(names)]
    made = CASES[case].make()
    rows = test_interruptions.rows_of(made, seed)
    with planted(None):
        return case, rows, reference(made, rows)["out"]


def run_seed(seed: int, bug: str | None = None) -> Outcome:
    """Run one seed, with a planted bug or none; raise whatever shows that something is wrong."""
    name, rows, expected = _expected(seed)
    case = CASES[name]
    with planted(bug):
        simulation = Judged(case.make(), rows, seed, **case.options)
        found = simulation.run()["out"]
    case.equal(expected, found)
    last = find_checkpoint(simulation._environment.storage, simulation.topology.name)
    assert last is not None and last.manifest.finished, "the end was not committed"
    return Outcome(name, simulation.restores)
