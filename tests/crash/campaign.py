"""Kills the fraud example again and again, and compares what it wrote with the oracle.

``python tests/crash/campaign.py --kills 500 --seed 7``. One round is a run from nothing to its end, killed with SIGKILL
(the whole process group) at random moments and started again; parallelism, memory for state, checkpoint interval and the length
of a journal are drawn anew at each start. A failing round keeps its directory and prints its seed.

A SIGKILL leaves the page cache intact: this shows what survives a dead process, not what survives a power cut.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fraud")]

import oracle  # noqa: E402

from examples.fraud import data  # noqa: E402

TOPOLOGY = ROOT / "examples" / "fraud" / "topology.py"
FAST, SLOW = "100ms", "1s"
#: Memory for keyed state: less than the state needs, and more.
TINY, AMPLE = "64KiB", "256MiB"
#: Bytes of a journal behind which a base is due: many bases in the life of a process, or what a user has.
SHORT, LONG = 20_000, 64 << 20
JOURNAL = ROOT / "tests" / "crash" / "short_journal.py"
#: So long a process lives behind its first checkpoint, or, if it is to die early, at all.
LONGEST_LIFE_S = 1.0
LONGEST_RUN_S = 120.0
#: Share of the kills that do not wait for a first checkpoint: they hit starts and restores.
EARLY = 0.3
#: Share of the others that wait for a checkpoint to begin (so long at most), and die within the time that one takes.
AIMED, LONGEST_WAIT_S, LONGEST_CHECKPOINT_S = 0.5, 2.0, 0.01


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be another at every start."""

    parallelism: int = 1
    interval: str = FAST
    memory: str = AMPLE
    journal: int = LONG

    @classmethod
    def drawn(cls, chance: random.Random) -> Settings:
        draw = chance.choice
        return cls(chance.randint(1, 3), draw([FAST, SLOW]), draw([TINY, AMPLE]), draw([SHORT, LONG]))


@dataclass
class Report:
    """What a campaign has done and found. `phases` counts the kills, `starts` the processes by each of their settings."""

    seed: int
    kills: int = 0
    rounds: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        phases, starts = (", ".join(f"{name} {n}" for name, n in sorted(counts.items())) for counts in (self.phases, self.starts))
        lines = [f"seed {self.seed}: {self.kills} kills in {self.rounds} rounds ({phases}); {len(self.violations)} violations"]
        return "\n".join([*lines, f"starts with {starts}", *self.violations])


class Round(ABC):
    """One run of a job in its own directory, from nothing to its end."""

    def __init__(self, directory: pathlib.Path, chance: random.Random) -> None:
        self.directory = directory
        self.state = directory / "state"
        self._chance = chance
        self.starts: Counter[str] = Counter()
        self._log = (directory / "log.txt").open("ab")
        self.environment: dict[str, str] = {}

    @abstractmethod
    def command(self, settings: Settings) -> list[str]:
        """Return what starts the job, or goes on with it."""

    @abstractmethod
    def wrong(self) -> str:
        """Return what is wrong with what the job wrote, or nothing."""

    def start(self, settings: Settings | None = None) -> subprocess.Popen[bytes]:
        settings = settings or Settings.drawn(self._chance)
        self.starts.update(f"{name} {value}" for name, value in asdict(settings).items())
        return subprocess.Popen(
            [sys.executable, str(JOURNAL), str(settings.journal), *self.command(settings)],
            start_new_session=True,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **self.environment},
            preexec_fn=_default_signals,  # noqa: PLW1509 - the child only sets two signals
        )

    def checkpoints(self) -> tuple[set[str], set[str]]:
        """Return the checkpoints that exist, and those that were begun and are not complete."""
        done, begun = set(), set()
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.state / "checkpoints"):
                (done if os.path.exists(os.path.join(entry.path, "manifest.json")) else begun).add(entry.name)
        return done, begun

    def live_and_die(self) -> str | None:
        """Run for a while, kill, and return the phase at death; None if the run ended by itself."""
        known = set().union(*self.checkpoints())
        early = self._chance.random() < EARLY
        aimed = not early and self._chance.random() < AIMED
        process = self.start()
        # The others are given the time to start: on a busy machine most would die of that.
        until = time.monotonic() + self._chance.uniform(0.1, LONGEST_LIFE_S) if early else None
        try:
            while process.poll() is None:
                now = time.monotonic()
                if until is None:
                    if set().union(*self.checkpoints()) - known:
                        until = now + self._chance.uniform(0, LONGEST_LIFE_S)
                elif now >= until and (not aimed or self.checkpoints()[1] - known or now > until + LONGEST_WAIT_S):
                    break
                time.sleep(0.0002 if aimed and until is not None and now >= until else 0.005)
            if aimed:
                time.sleep(self._chance.uniform(0, LONGEST_CHECKPOINT_S))
        finally:
            ended = process.poll() is not None
            kill(process)
        if ended:
            if process.returncode:
                raise RuntimeError(f"exit code {process.returncode}")
            return None
        done, begun = self.checkpoints()
        if begun - known:
            return "in a checkpoint"
        return "between checkpoints" if done - known else "before the first checkpoint"

    def finish(self) -> None:
        """Run to the end; then once more, which must change nothing."""
        for _ in range(2):
            process = self.start()
            try:
                if process.wait(LONGEST_RUN_S):
                    raise RuntimeError(f"exit code {process.returncode}")
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"did not end within {LONGEST_RUN_S} s") from None
            finally:
                kill(process)

    def close(self) -> None:
        self._log.close()


class FraudRound(Round):
    """The example."""

    def __init__(self, directory: pathlib.Path, chance: random.Random, sample: data.Sample, rate: int) -> None:
        super().__init__(directory, chance)
        self.output = directory / "alerts.jsonl"
        self._sample, self._rate = sample, rate

    def command(self, settings: Settings) -> list[str]:
        arguments = [str(TOPOLOGY), "--quiet", "--input", *map(str, self._sample.transactions), "--output", str(self.output)]
        arguments += ["--state-dir", str(self.state), "--rate", str(self._rate), "--checkpoint-interval", settings.interval]
        return [*arguments, "--state-memory", settings.memory, "--parallelism", str(settings.parallelism)]

    def wrong(self) -> str:
        return oracle.difference(oracle.expected(self._sample.transactions), oracle.found(self.output))


def _default_signals() -> None:
    # What a shell starts in the background ignores Ctrl-C, and hands that on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def campaign(
    kills: int, seed: int, directory: pathlib.Path, transactions: int = 30_000, rate: int = 5_000, *, until_violation: bool = False
) -> Report:
    """Kill the example so often; `until_violation`: or until something is wrong."""
    sample = data.generate(directory / "data", transactions, transactions // 10, seed)

    def make(place: pathlib.Path, chance: random.Random) -> Round:
        return FraudRound(place, chance, sample, rate)

    return rounds(kills, seed, directory, make, until_violation=until_violation)


def rounds(
    kills: int,
    seed: int,
    directory: pathlib.Path,
    make: Callable[[pathlib.Path, random.Random], Round],
    *,
    until_violation: bool = False,
) -> Report:
    """Kill so often, in as many rounds as that takes."""
    report = Report(seed)
    chance = random.Random(seed)
    while report.kills < kills and not (until_violation and report.violations):
        report.rounds += 1
        place = directory / f"round-{report.rounds}"
        place.mkdir()
        problem = _round(make(place, chance), report, kills)
        if problem:
            report.violations.append(f"round {report.rounds} ({place}): {problem}")
        else:
            shutil.rmtree(place)
    return report


def _round(run: Round, report: Report, kills: int) -> str:
    """Run one round and return what is wrong with it."""
    try:
        while report.kills < kills:
            phase = run.live_and_die()
            if phase is None:
                break
            report.kills += 1
            report.phases[phase] += 1
        run.finish()
    except RuntimeError as error:
        return f"{error}\n{(run.directory / 'log.txt').read_text()[-2000:]}"
    finally:
        run.close()
        report.starts.update(run.starts)
    return run.wrong()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--transactions", type=int, default=30_000)
    parser.add_argument("--rate", type=int, default=5_000)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    directory = pathlib.Path(tempfile.mkdtemp(prefix="crash-"))
    report = campaign(asked.kills, seed, directory, asked.transactions, asked.rate)
    print(report)
    if not report.violations:
        shutil.rmtree(directory)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
