"""Chains of parallelisms: a job that is stopped or dies at each of them and goes on at the next writes what one at parallelism 1 does.

``python tests/recovery/rescale.py --chains 50`` (`make rescale`). Real tasks, real RocksDB, a real state directory, in one thread:
a seed is a chain. Windows, timers and values are open across every move; the oracle is plain Python (`tests/crash/keyed.py`).
"""

from __future__ import annotations

import argparse
import errno
import os
import pathlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "crash")]

import keyed  # noqa: E402

from streamdsl import Config  # noqa: E402
from streamdsl._native.event_time.clock import ManualClock  # noqa: E402
from streamdsl.compiler import compile  # noqa: E402
from streamdsl.errors import StateError  # noqa: E402
from streamdsl.runtime.job import Job  # noqa: E402
from tests.trust import jobs  # noqa: E402
from tests.trust.filesystems import FailingFileSystem  # noqa: E402

#: The chain that everybody asks for.
CHAIN = (1, 3, 2, 5, 1)
RECORDS, KEYS, BATCH = 1_400, 40, 16
#: Share of the steps of a leg behind which a checkpoint is asked for; of the legs that die instead of stopping; of the starts that
#: fail on the way, once, and are made again at another parallelism.
CHECKPOINTS, DEATHS, BROKEN_STARTS = 0.2, 0.7, 0.3


@dataclass
class Outcome:
    """What happened in a chain, and what is wrong with what it wrote."""

    happened: Counter[str] = field(default_factory=Counter)
    wrong: str = ""


class Chain:
    """One job in a directory of its own, and a seed."""

    def __init__(self, directory: pathlib.Path, seed: int, backend: str) -> None:
        self.directory, self.backend = directory, backend
        self.chance = random.Random(seed)
        self.clock = ManualClock(0)
        self.source = directory / "records.csv"
        keyed.write_records(self.source, RECORDS, KEYS, seed)
        self.splits = split(self.source, directory, self.chance.randint(1, 4))
        self.journal_bytes = self.chance.choice([0, 4_000, jobs.BACKLOG_BYTES])
        self.outcome = Outcome()

    def run(self, widths: tuple[int, ...]) -> Outcome:
        """Live at one parallelism after the other, the last time to the end."""
        for width in widths[:-1]:
            # On average the records last for all legs; a split is one task's.
            most = 2 * RECORDS // (BATCH * min(width, len(self.splits)) * len(widths))
            self._leg(self._start(width), self.chance.randint(1, most))
        job = self._start(widths[-1])
        had_finished = job.finished
        while not job.ended:
            self._step(job)
        if job.error is not None:
            raise job.error
        # Keys that two tasks believe to own would hide behind one another.
        numbers = [task.operator("numbers").state() for task in job.tasks if task.operator("numbers") is not None]
        job.close()
        assert job.finished
        got = keyed.found(self.directory)
        self.outcome.wrong = keyed.difference(keyed.expected(self.source), got)
        if not had_finished:
            self.outcome.happened["states compared"] += 1
            self.outcome.wrong = self.outcome.wrong or difference_of_state(numbers, got["numbers"])
        return self.outcome

    def _start(self, width: int) -> Job:
        if self.chance.random() < BROKEN_STARTS:
            self._broken_start(self.chance.randint(1, 5))
        job = self._job(width)
        job.open()
        restored = job.environment._checkpoint
        if restored is not None:
            self.outcome.happened["rescales" if len(restored.manifest.stores) != width else "restores"] += 1
        return job

    def _job(self, width: int, filesystem: FailingFileSystem | None = None) -> Job:
        topology = keyed.job(self.splits, self.directory, None)
        config = Config(parallelism=width, batch_rows=BATCH, state_backend=self.backend, checkpoint_failure_timeout="7d")
        environment = jobs.Environment(self.directory / "state", self.backend, filesystem, self.journal_bytes)
        return Job(compile(topology, parallelism=width).physical, config, environment, clock=self.clock)

    def _broken_start(self, width: int) -> None:
        """A start that gets as far as some call of the disk."""
        number = self.chance.randrange(60)
        job = self._job(width, FailingFileSystem(lambda n, _: errno.EINTR if n == number else 0))
        try:
            job.open()
        except StateError:
            self.outcome.happened["broken starts"] += 1
        else:
            job.environment.close(failed=True)

    def _leg(self, job: Job, steps: int) -> None:
        for _ in range(steps):
            if job.coordinator.may_trigger() and self.chance.random() < CHECKPOINTS:
                job._trigger(self.clock.monotonic_ms())
            self._step(job)
        if self.chance.random() < DEATHS:
            self.outcome.happened["deaths"] += 1
            self.outcome.happened["deaths in a checkpoint"] += not job.coordinator.may_trigger()
            job.environment.close(failed=True)  # as a crash would: what it was working on stays where it is
            return
        job.request_stop()
        while not job.ended:
            self._step(job)
        if job.error is not None:
            raise job.error
        job.close()
        self.outcome.happened["stops"] += 1

    def _step(self, job: Job) -> None:
        job.step_tasks()
        if self.chance.random() < 0.7:
            job.write_step()
        job.control_step()


def split(source: pathlib.Path, directory: pathlib.Path, n: int) -> list[pathlib.Path]:
    """Deal the records out to so many files, a key to one of them."""
    head, *lines = source.read_text().splitlines(keepends=True)
    parts: list[list[str]] = [[head] for _ in range(n)]
    for line in lines:
        parts[sum(line.split(",")[1].encode()) % n].append(line)
    paths = [directory / f"part-{i}.csv" for i in range(n)]
    for path, part in zip(paths, parts, strict=True):
        path.write_text("".join(part))
    return paths


def difference_of_state(found: list[dict[Any, Any]], numbers: Counter[Any]) -> str:
    """Return what is wrong with the values of the keys, by task, where the rows that were written have these numbers."""
    wanted: Counter[str] = Counter()
    for _, key, n, _ in numbers:
        wanted[key] = max(wanted[key], n)
    got = Counter({key: values["seen"] for task in found for key, values in task.items()})
    if sum(map(len, found)) != len(got):
        return "a key is in the state of two tasks"
    return "" if got == wanted else f"state: {wanted - got} lost, {got - wanted} too much"


def chains(n: int, seed: int, directory: pathlib.Path) -> tuple[Counter[str], list[str]]:
    """Run `CHAIN`, and so many others, in both backends by turns; return what happened, and what went wrong."""
    happened: Counter[str] = Counter()
    wrong = []
    for number in range(n + 1):
        draw = random.Random(seed + number)
        widths = CHAIN if number == 0 else tuple(draw.randint(1, 6) for _ in range(draw.randint(4, 8)))
        place = directory / f"chain-{number}"
        place.mkdir()
        try:
            outcome = Chain(place, seed + number, "memory" if number % 4 == 3 else "rocksdb").run(widths)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is this chain's fault
            outcome = Outcome(wrong=f"{type(error).__name__}: {error}")
        happened += outcome.happened
        if outcome.wrong:
            wrong.append(f"chain {seed + number} {widths} ({place}): {outcome.wrong}")
        else:
            shutil.rmtree(place)
    return happened, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    room = "/dev/shm" if os.path.isdir("/dev/shm") else None
    directory = pathlib.Path(tempfile.mkdtemp(prefix="rescale-", dir=room))
    happened, wrong = chains(asked.chains, seed, directory)
    facts = ", ".join(f"{name} {count}" for name, count in sorted(happened.items()))
    print("\n".join([f"seed {seed}: {'→'.join(map(str, CHAIN))} and {asked.chains} chains ({facts}); {len(wrong)} violations", *wrong]))
    if not wrong:
        shutil.rmtree(directory)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
