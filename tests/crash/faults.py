"""Kills the jobs at every fault point, again and again, and compares what they wrote with the oracles (checked build).

``python tests/crash/faults.py --hits 20``. A process is told by its environment at which hit of which point to die; it notes the
point in a file just before, so that nobody has to guess where it died. A point that was not hit so often, in so many rounds,
fails the campaign as a wrong output does.
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
    action : str
        "later" where the step itself is inside of RocksDB: the process dies a random moment after.
    """

    what: str
    job: str = "fraud"
    most: int = 3
    least_parallelism: int = 1
    restoring: bool = False
    one_parallelism: bool = False
    action: str = "kill"


#: FP05 and FP06 lie inside of one call of RocksDB: the deaths "later" of FP04 and FP06 reach them by chance.
POINTS = {
    "FP01": Point("barrier injected"),
    "FP02": Point("some inputs aligned", least_parallelism=2),
    "FP03": Point("the synchronous part of a snapshot done"),
    "FP04": Point("within the flush of RocksDB", most=6, action="later"),
    "FP06": Point("within RocksDB's links of a checkpoint", most=6, action="later"),
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
}
#: Takes a process as far as it must be to have something to restore.
BEGINNING = "FP12:kill:2"
#: So many deaths in one life of a job, before it must reach its end.
DEATHS_A_ROUND = 5


@dataclass
class Report:
    """What was hit and what was found."""

    hits: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        points = ", ".join(f"{name} {count}" for name, count in sorted(self.hits.items()))
        lines = [f"{self.hits.total()} deaths in {self.rounds} rounds ({points}); {len(self.violations)} violations"]
        return "\n".join(lines + self.violations)


class Hunter:
    """Makes the rounds of one campaign."""

    def __init__(self, directory: pathlib.Path, seed: int, action: str | None = None) -> None:
        self.directory, self.chance, self.action = directory, random.Random(seed), action
        self.report = Report()
        self._sample = data.generate(directory / "data", 5_000, 500, seed)
        self._source = directory / "records.csv"
        keyed.write_records(self._source, 4_000, 300, seed)

    def hunt(self, name: str, hits: int) -> None:
        """Die at one point so often."""
        last = self.report.rounds + 2 * hits + 5
        while self.report.hits[name] < hits:
            self.report.rounds += 1
            place = self.directory / f"round-{self.report.rounds}"
            place.mkdir()
            problem = self._round(name, place, hits)
            if not problem and self.report.rounds == last:
                problem = f"hit {self.report.hits[name]} times instead of {hits}"
            if problem:
                self.report.violations.append(f"{name} ({place}): {problem}")
                return
            shutil.rmtree(place)

    def _job(self, name: str, place: pathlib.Path) -> campaign.Round:
        job = POINTS[name].job
        if job == "fraud":
            return campaign.FraudRound(place, self.chance, self._sample, 4_000)
        return keyed.KeyedRound(place, self.chance, self._source, 4_000, savepoints=job == "savepoints")

    def _round(self, name: str, place: pathlib.Path, hits: int) -> str:
        point, run = POINTS[name], self._job(name, place)
        parallelism = self.chance.randint(point.least_parallelism, 3)
        try:
            if point.restoring and self._die(run, place, BEGINNING, parallelism) != "died":
                return "it did not get as far as a second checkpoint"
            for _ in range(DEATHS_A_ROUND):
                if self.report.hits[name] >= hits:
                    break
                if not point.one_parallelism:
                    parallelism = self.chance.randint(point.least_parallelism, 3)
                order = f"{name}:{self.action or point.action}:{self.chance.randint(1, point.most)}"
                how = self._die(run, place, order, parallelism)
                if how == "ended":
                    break
                self.report.hits[name] += 1
            run.environment = {}
            run.finish()
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return f"{error}\n{(place / 'log.txt').read_text()[-2000:]}"
        finally:
            run.close()
        return run.wrong()

    def _die(self, run: campaign.Round, place: pathlib.Path, order: str, parallelism: int) -> str:
        """Start with this order; return "died" if it was carried out, "ended" if the run was faster."""
        log = place / "faults.txt"
        before = _lines(log)
        run.environment = {"STREAMDSL_FAULT": order, "STREAMDSL_FAULT_LOG": str(log)}
        process = run.start(campaign.Settings(parallelism, memory=self.chance.choice([campaign.TINY, campaign.AMPLE])))
        try:
            code = process.wait(campaign.LONGEST_RUN_S)
        finally:
            campaign.kill(process)
        acted = len(_lines(log)) > len(before)
        if code not in (0, -signal.SIGKILL, -signal.SIGALRM) and not (acted and code > 0 and self.action):
            raise RuntimeError(f"exit code {code} with {order}")
        if code < 0 and not acted:
            raise RuntimeError(f"it died of {-code} without having passed {order}")
        return "died" if acted else "ended"


def _lines(path: pathlib.Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def hunt(points: Sequence[str], hits: int, seed: int, directory: pathlib.Path, action: str | None = None) -> Report:
    """Die so often at each of the points."""
    hunter = Hunter(directory, seed, action)
    for name in points:
        hunter.hunt(name, hits)
    return hunter.report


def main() -> int:
    from streamdsl._native.includes.faults import CHECKED

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("points", nargs="*", help="FP01 …; all, if none is named")
    parser.add_argument("--hits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--action", choices=["kill", "later", "raise", "delay", "eio", "enospc"], help="instead of each point's own")
    asked = parser.parse_args()
    if not CHECKED:
        sys.exit("this is a release build, which has no fault points: make faults")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
    report = hunt(asked.points or list(POINTS), asked.hits, asked.seed, directory, asked.action)
    print(report)
    if not report.violations:
        shutil.rmtree(directory)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
