"""Kills the jobs at every fault point, again and again, and compares what they wrote with the oracles (checked build).

``python tests/crash/faults.py --hits 20``. A process is told by its environment at which hit of which point to die; it notes the
point in a file just before, so that nobody has to guess where it died. A point that was not hit so often, in so many rounds,
fails the campaign as a wrong output does. In between the process does not die at the point, but the step fails: with an error of the
disk or of any kind, or by taking long. Then it may go on or end, but not with a wrong output.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "crash"), str(ROOT / "tests" / "fraud")]

import campaign  # noqa: E402
import keyed  # noqa: E402

from examples.fraud import data  # noqa: E402


@dataclass(frozen=True, slots=True)
class Point:
    """A fault point that exists.

    Parameters
    ----------
    what : str
        The step, in the words of the list of fault points.
    job : str
        "fraud", "keyed", or "savepoints": keyed, with savepoints all the time.
    most : int
        It dies at one of the first so many hits.
    least_parallelism : int
        Below it the point is not passed.
    restoring : bool
        Passed only by a start that has a checkpoint to go on from.
    one_parallelism : bool
        Passed only by a start at the parallelism of the one before.
    bases : bool
        Passed only when a new base is made.
    action : str
        "later" where the step itself is inside of RocksDB: the process dies a random moment after.
    """

    what: str
    job: str = "fraud"
    most: int = 3
    least_parallelism: int = 1
    restoring: bool = False
    one_parallelism: bool = False
    bases: bool = False
    action: str = "kill"


#: FP05 and FP06 lie inside of one call of RocksDB: the deaths "later" of FP04 and FP06 reach them by chance.
POINTS = {
    "FP01": Point("barrier injected"),
    "FP02": Point("some inputs aligned", least_parallelism=2),
    "FP03": Point("the synchronous part of a snapshot done"),
    "FP04": Point("within the flush of RocksDB", most=6, bases=True, action="later"),
    "FP06": Point("within RocksDB's links of a checkpoint", most=6, bases=True, action="later"),
    "FP07": Point("a part of a file written", most=6),
    "FP08": Point("before a file is synced", most=6),
    "FP09": Point("before a directory is synced", most=12),
    "FP10": Point("before the manifest is written"),
    "FP11": Point("manifest written, before its rename"),
    "FP12": Point("renamed, before the directory is synced"),
    "FP21": Point("retention: between the manifest and the rest"),
    "FP26": Point("restore: files partly copied or linked", most=6, restoring=True),
    "FP27": Point("restore: database open, rows not loaded", most=2, restoring=True, one_parallelism=True),
    "FP28": Point("restore: rows and timers loaded, sinks not yet cut", most=1, restoring=True),
    "FP30": Point("all records read, no last barrier", most=1),
    "FP31": Point("the last checkpoint whole, not published", most=1),
    "FP32": Point("the last checkpoint published, not exited", most=1),
    "FP33": Point("within a savepoint", job="savepoints"),
    "FP34": Point("rescale: some shards loaded", most=60, restoring=True),
    "FP36": Point("a timer has made output without input", job="keyed", most=300),
    "FP37": Point("before a dead letter is written", job="keyed", most=6),
    "FP40": Point("a value with a time to live about to be removed", job="keyed", most=100),
    "FP41": Point("entries appended to a journal, not synced", most=12),
    "FP42": Point("the mark appended to a journal, not synced", most=6),
    "FP43": Point("a journal synced, not yet linked", most=6),
    "FP44": Point("some files of base and journal linked", most=20),
    "FP45": Point("all linked, before their directory is synced", most=6),
    "FP46": Point("a base made, not synced", bases=True),
    "FP47": Point("a base synced, not adopted", bases=True),
    "FP48": Point("a base adopted, the one before not removed", most=2, bases=True),
    "FP49": Point("the base before removed, the old journal not", bases=True),
    "FP50": Point("restore: a part of a journal applied", most=2, restoring=True),
}
#: Takes a process as far as it must be to have something to restore.
BEGINNING = "FP12:kill:2"
#: So many deaths in one life of a job, before a step fails and it must reach its end.
DEATHS_A_ROUND = 5
FAILURES = ("raise", "eio", "enospc", "delay")


@dataclass
class Report:
    """What was hit and what was found. `hits` counts the deaths at a point, `failures` the steps that failed there."""

    hits: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        points = ", ".join(f"{name} {count}+{self.failures[name]}" for name, count in sorted(self.hits.items()))
        what = f"{self.hits.total()} deaths and {self.failures.total()} failures in {self.rounds} rounds"
        lines = [f"{what} ({points}); {len(self.violations)} violations"]
        return "\n".join(lines + self.violations)


class Hunter:
    """Makes the rounds of one campaign."""

    def __init__(self, directory: pathlib.Path, seed: int) -> None:
        self.directory, self.chance = directory, random.Random(seed)
        self.report = Report()
        self._sample = data.generate(directory / "data", 5_000, 500, seed)
        self._source = directory / "records.csv"
        keyed.write_records(self._source, 4_000, 300, seed)

    def hunt(self, name: str, hits: int) -> None:
        """Die at one point so often, and fail there at least once."""
        last = self.report.rounds + 2 * hits + 5
        while self.report.hits[name] < hits or not self.report.failures[name]:
            self.report.rounds += 1
            place = self.directory / f"round-{self.report.rounds}"
            place.mkdir()
            problem = self._round(name, place, hits)
            if not problem and self.report.rounds == last:
                problem = f"hit {self.report.hits[name]} times instead of {hits}, and failed {self.report.failures[name]} times"
            if problem:
                self.report.violations.append(f"{name} ({place}): {problem}")
                return
            shutil.rmtree(place)

    def _job(self, name: str, place: pathlib.Path) -> campaign.Round:
        job = POINTS[name].job
        if job == "fraud":
            return campaign.FraudRound(place, self.chance, self._sample, 4_000)
        return keyed.KeyedRound(place, self.chance, self._source, 4_000, savepoints=job == "savepoints")

    def _settings(self, point: Point, parallelism: int | None = None) -> campaign.Settings:
        return campaign.Settings(
            parallelism or self.chance.randint(point.least_parallelism, 3),
            memory=self.chance.choice([campaign.TINY, campaign.AMPLE]),
            journal=campaign.SHORT if point.bases else self.chance.choice([campaign.SHORT, campaign.LONG]),
        )

    def _round(self, name: str, place: pathlib.Path, hits: int) -> str:
        point, run = POINTS[name], self._job(name, place)
        settings = self._settings(point)
        try:
            if point.restoring and not self._pass(run, place, BEGINNING, settings):
                return "it did not get as far as a second checkpoint"
            ended = False
            for _ in range(DEATHS_A_ROUND):
                if ended or self.report.hits[name] >= hits:
                    break
                settings = self._settings(point, settings.parallelism if point.one_parallelism else None)
                ended = not self._pass(run, place, f"{name}:{point.action}:{self.chance.randint(1, point.most)}", settings)
                self.report.hits[name] += not ended
            if not ended:
                settings = self._settings(point, settings.parallelism if point.one_parallelism else None)
                order = f"{name}:{self.chance.choice(FAILURES)}:{self.chance.randint(1, point.most)}"
                self.report.failures[name] += self._pass(run, place, order, settings)
            run.environment = {}
            run.finish()
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return f"{error}\n{(place / 'log.txt').read_text()[-2000:]}"
        finally:
            run.close()
        return run.wrong()

    def _pass(self, run: campaign.Round, place: pathlib.Path, order: str, settings: campaign.Settings) -> bool:
        """Run with this order; return whether it was carried out (else the run was faster)."""
        log = place / "faults.txt"
        before = _lines(log)
        run.environment = {"STREAMDSL_FAULT": order, "STREAMDSL_FAULT_LOG": str(log)}
        process = run.start(settings)
        try:
            code = process.wait(campaign.LONGEST_RUN_S)
        finally:
            campaign.kill(process)
        acted = len(_lines(log)) > len(before)
        # "later" may be later than the end.
        ends = {"kill": {-signal.SIGKILL}, "later": {-signal.SIGALRM, 0}}.get(order.split(":")[1], {0, 1})
        if acted and code not in ends:
            raise RuntimeError(f"exit code {code} behind {order}")
        if not acted and code:
            raise RuntimeError(f"exit code {code} without having passed {order}")
        return acted


def _lines(path: pathlib.Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def hunt(points: Sequence[str], hits: int, seed: int, directory: pathlib.Path) -> Report:
    """Die so often at each of the points."""
    hunter = Hunter(directory, seed)
    for name in points:
        hunter.hunt(name, hits)
    return hunter.report


def main() -> int:
    from streamdsl._native.includes.faults import CHECKED

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("points", nargs="*", help="FP01 …; all, if none is named")
    parser.add_argument("--hits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if not CHECKED:
        sys.exit("this is a release build, which has no fault points: make faults")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
    report = hunt(asked.points or list(POINTS), asked.hits, asked.seed, directory)
    print(report)
    if not report.violations:
        shutil.rmtree(directory)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
