"""Seeds in great number: ``python -m tests.simulation.campaign --seeds 0..20000 --json``, or ``make simulate SEEDS=20000``.

A seed draws a topology, its rows, splits, cuts, waits and idleness; and for each start the parallelism, the size of batches and channels,
the intervals, who is slow, what fails, and how it ends. The same seed gives the same trace, byte for byte.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import logging
import math
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.checks import Violation
from tests.simulation.families import FAMILIES
from tests.simulation.run import SeededRun

#: What a campaign of a few thousand seeds must have met: one that never does has lost its power.
COVERED = (
    "bases after a lost journal",
    "bases due",
    "blocked steps",
    "checkpoints completed",
    "checkpoints failed",
    "checkpoints timed out",
    "cold rows read",
    "crashes",
    "crashes in a call",
    "drains",
    "exchanges elided at a restore",
    "fallbacks",
    "idle splits",
    "journals that grew",
    "late",
    "late by chance",
    "null_keys",
    "power cuts",
    "read together",
    "rescales",
    "restores",
    "restores from a base",
    "restores from a base and a journal",
    "restores from a journal",
    "rows evicted",
    "runs failed",
    "starts failed",
    "starved steps",
    "steps with windows left to close",
    "stops",
    "storage errors",
    "store writes failed",
    "timers_fired",
)
#: So many seeds must meet all of it.
ENOUGH_SEEDS = 1_000


@dataclass(frozen=True)
class Outcome:
    """What became of a seed. `violation`: "invariant: what", or None."""

    seed: int
    steps: int
    violation: str | None
    story: Sequence[str]
    covered: Counter[str] = field(repr=False)
    trace: Sequence[Any] = field(repr=False)

    @property
    def text(self) -> str:
        """Everything that happened, step by step: equal for two runs of one seed."""
        return "\n".join(map(str, self.trace))

    def __str__(self) -> str:
        said = self.violation or "no violation"
        return (
            f"seed {self.seed}, step {self.steps}: {said}\n  {'; '.join(self.story)}\n"
            f"  replay: make simulate SEED={self.seed}\n"
            f"  or: python -m tests.simulation.campaign --seeds {self.seed} --trace"
        )


def run_seed(seed: int) -> Outcome:
    """Run one seed. Nothing outlives the call but compiled plans."""
    run = SeededRun(seed)
    violation = None
    try:
        run.run()
        for sink in run.sinks.values():
            run.trace.append(f"{sink.name} {sink.rows()}")
    except Violation as error:
        violation = str(error)
        run.trace.append(violation)
    except Exception as error:  # noqa: BLE001 - nothing else may come out of the runtime, whatever the disk does
        at = traceback.extract_tb(error.__traceback__)[-1]
        violation = f"errors: {type(error).__name__}: {error} (at {at.filename}:{at.lineno})"
        run.trace.append(f"errors: {type(error).__name__}")
    return Outcome(seed, run.steps, violation, run.story, run.covered, run.trace)


@dataclass
class Report:
    """What became of many seeds."""

    seeds: int = 0
    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    covered: Counter[str] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        """Take in the figures of a part of the campaign."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.cpu_seconds += other.cpu_seconds
        self.violations += other.violations
        self.covered += other.covered

    @property
    def missing(self) -> list[str]:
        """What should have been met and was not."""
        if self.seeds < ENOUGH_SEEDS:
            return []
        features = {feature for family in FAMILIES for variant in family for feature in variant.features}
        return sorted(what for what in {*COVERED, *features} if not self.covered[what])

    def as_dict(self) -> dict[str, Any]:
        """Return the figures. `bound`: the share of violating seeds is below it, at 95 % confidence, if none was found."""
        return {
            "seeds": self.seeds,
            "seeds_per_second": round(self.seeds / self.seconds, 1) if self.seconds else None,
            "seeds_per_cpu_second": round(self.seeds / self.cpu_seconds, 1) if self.cpu_seconds else None,
            "steps": self.steps,
            "violations": len(self.violations),
            "bound": 3 / self.seeds if self.seeds and not self.violations else None,
            "missing": self.missing,
            "covered": dict(sorted(self.covered.items())),
        }


def run_seeds(seeds: Iterable[int], *, seconds: float = math.inf, most_violations: int = 10) -> Report:
    """Run seeds in this process; stop after so long, or so many violations."""
    report = Report()
    began, cpu = time.perf_counter(), time.process_time()
    with _undisturbed():
        for seed in seeds:
            outcome = run_seed(seed)
            report.seeds += 1
            report.steps += outcome.steps
            report.covered.update(outcome.covered)
            if outcome.violation is not None:
                report.violations.append(str(outcome))
                if len(report.violations) >= most_violations:
                    break
            if time.perf_counter() - began > seconds:
                break
    report.seconds = time.perf_counter() - began
    report.cpu_seconds = time.process_time() - cpu
    return report


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let neither the log nor the garbage collector take up the time of thousands of runs; then all is as it was."""
    thresholds = gc.get_threshold()
    logger = logging.getLogger("streamdsl")
    level = logger.level
    gc.set_threshold(100_000, 50, 50)  # next to nothing of a run is cyclic; looking for it takes a fifth of the time
    logger.setLevel(logging.ERROR)  # what a run warns of, each of thousands would say again
    try:
        yield
    finally:
        logger.setLevel(level)
        gc.set_threshold(*thresholds)


def digest(seeds: Iterable[int]) -> str:
    """Return a hash of the traces of seeds."""
    found = hashlib.sha256()
    with _undisturbed():
        for seed in seeds:
            found.update(run_seed(seed).text.encode())
    return found.hexdigest()


def _range(text: str) -> range:
    first, dots, last = text.partition("..")
    return range(int(first), int(last) if dots else int(first) + 1)


def _part(arguments: tuple[range, float]) -> Report:
    return run_seeds(arguments[0], seconds=arguments[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; return 1 if it found something, or missed what it should have met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=_range, default=range(2_000), help="A..B (without B), or one seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--trace", action="store_true", help="print the trace of each seed")
    parser.add_argument("--digest", action="store_true", help="print a hash of all traces, nothing else")
    chosen = parser.parse_args(arguments)
    if chosen.digest:
        print(digest(chosen.seeds))
        return 0
    if chosen.trace:
        for seed in chosen.seeds:
            outcome = run_seed(seed)
            print(outcome.text, outcome, sep="\n")
        return 0
    began = time.perf_counter()
    report = Report()
    if chosen.jobs > 1:
        parts = [(chosen.seeds[i :: chosen.jobs], chosen.seconds) for i in range(chosen.jobs)]
        with multiprocessing.get_context("spawn").Pool(chosen.jobs) as pool:
            for part in pool.imap_unordered(_part, parts):
                report.add(part)
    else:
        report = run_seeds(chosen.seeds, seconds=chosen.seconds)
    report.seconds = time.perf_counter() - began
    for violation in report.violations:
        print(violation, file=sys.stderr)
    if report.missing:
        print(f"never met: {', '.join(report.missing)}", file=sys.stderr)
    figures = report.as_dict()
    print(json.dumps(figures, indent=2) if chosen.json else ", ".join(f"{name} {value}" for name, value in figures.items()))
    return 1 if report.violations or report.missing else 0


if __name__ == "__main__":
    sys.exit(main())
