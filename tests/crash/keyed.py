"""Kills a job with windows, timers, numbered records and bad ones, and compares what it wrote with plain Python.

``python tests/crash/keyed.py --kills 100 --seed 7``. The oracle is a dozen lines over the same file; it shares nothing with
the library. What is restored here under SIGKILL, from real RocksDB and at changing parallelism and memory: open windows, pending timers,
values by key, with a time to live and without; bad records go to a file of dead letters. With ``--savepoints`` the job takes
savepoints all the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "crash")]

import campaign  # noqa: E402

WINDOW_MS, QUIET_MS, LIVES_MS = 5_000, 7_000, 2_000
OUTPUTS = ("windows", "numbers", "timers", "letters")
#: After so many records time makes a step that lets everything close, fire and expire (expired values stay an hour for late records).
PAUSE_RECORDS, PAUSE_MS = 700, 2 * 3_600_000
#: Every so many records one cannot be read.
BAD_RECORDS = 90


def write_records(path: pathlib.Path, records: int, keys: int, seed: int) -> None:
    """Write records in the order of their time, so that none is late at any parallelism."""
    chance = random.Random(seed)
    now = 0
    with path.open("w") as file:
        file.write("id,key,value,at\n")
        for number in range(records):
            now += chance.randint(1, 20) + (PAUSE_MS if number % PAUSE_RECORDS == PAUSE_RECORDS - 1 else 0)
            if number % BAD_RECORDS == BAD_RECORDS - 1:
                file.write(f"{number},bad,none,{now}\n")
            file.write(f"{number},k{chance.randrange(keys)},{chance.randint(-100, 100)},{now}\n")


def expected(path: pathlib.Path) -> dict[str, Counter[Any]]:
    """Return what must be written: counts and sums by window, two numbers and a timer for each record, the bad records."""
    windows: dict[tuple[str, int], list[int]] = {}
    numbers: Counter[Any] = Counter()
    timers: Counter[Any] = Counter()
    letters: Counter[Any] = Counter()
    seen: Counter[str] = Counter()
    recent: dict[str, tuple[int, int]] = {}
    for line in path.read_text().splitlines()[1:]:
        number, key, value, at = line.split(",")
        if key == "bad":
            letters["records",] += 1
            continue
        windows.setdefault((key, int(at) // WINDOW_MS), []).append(int(value))
        seen[key] += 1
        n, until = recent.get(key, (0, 0))
        recent[key] = (n + 1 if int(at) < until else 1, int(at) + LIVES_MS)
        numbers[int(number), key, seen[key], recent[key][0]] += 1
        timers[key, int(number), int(at) + QUIET_MS] += 1
    closed = Counter({(key, len(values), sum(values)): 0 for (key, _), values in windows.items()})
    for (key, _), values in windows.items():
        closed[key, len(values), sum(values)] += 1
    return {"windows": closed, "numbers": numbers, "timers": timers, "letters": letters}


def found(directory: pathlib.Path) -> dict[str, Counter[Any]]:
    """Return what was written."""
    fields = {"windows": ("key", "n", "total"), "numbers": ("id", "key", "n", "recent"), "timers": ("key", "id", "due")}
    fields["letters"] = ("operator",)
    result = {}
    for name in OUTPUTS:
        rows = map(json.loads, (directory / f"{name}.jsonl").read_text().splitlines())
        result[name] = Counter(tuple(row[field] for field in fields[name]) for row in rows)
    return result


def difference(wanted: dict[str, Counter[Any]], got: dict[str, Counter[Any]]) -> str:
    """Return what is lost and what is too much, or nothing."""
    lines = []
    for name in OUTPUTS:
        lost, extra = wanted[name] - got[name], got[name] - wanted[name]
        if lost or extra:
            examples = f"lost {sorted(lost)[:3]}, too much {sorted(extra)[:3]}"
            lines.append(f"{name}: {lost.total()} lost, {extra.total()} too much ({examples})")
    return "; ".join(lines)


def job(source: pathlib.Path, directory: pathlib.Path, rate: float) -> Any:
    """Return the topology."""
    from streamdsl import Processor, Topology, col, count, dead_letter, files, tumbling

    class Numbers(Processor):
        """Numbers the records of a key, and sets a timer for each."""

        output = {"id": int, "key": str, "n": int, "recent": int}
        outputs = {"fired": {"key": str, "id": int, "due": int}}

        def open(self, ctx: Any) -> None:
            self.seen = ctx.state.value("seen", int)
            self.recent = ctx.state.value("recent", int, ttl=LIVES_MS)

        def process(self, row: Any, ctx: Any) -> Any:
            self.seen.set((self.seen.get() or 0) + 1)
            self.recent.set((self.recent.get() or 0) + 1)
            ctx.set_timer(row.at + QUIET_MS, name=str(row.id))
            yield {"id": row.id, "key": row.key, "n": self.seen.get(), "recent": self.recent.get()}

        def on_timer(self, timer: Any, ctx: Any) -> None:
            ctx.emit({"key": ctx.key, "id": int(timer.name), "due": timer.timestamp}, to="fired")

    topology = Topology("keyed")
    schema = {"id": int, "key": str, "value": int, "at": int}
    letters = dead_letter(files(directory / "letters.jsonl"), name="letters-out")
    records = topology.stream(files(source, schema=schema, rate=rate), timestamp="at", name="records", errors=letters)
    keyed = records.key_by("key")
    closed = keyed.window(tumbling(WINDOW_MS)).aggregate(n=count(), total=col("value").sum(), name="windows")
    closed.to(files(directory / "windows.jsonl"), name="windows-out")
    numbered = keyed.process(Numbers(), name="numbers")
    numbered.to(files(directory / "numbers.jsonl"), name="numbers-out")
    numbered.output("fired").to(files(directory / "timers.jsonl"), name="timers-out")
    return topology


class KeyedRound(campaign.Round):
    """The job above."""

    def __init__(
        self, directory: pathlib.Path, chance: random.Random, source: pathlib.Path, rate: int, *, savepoints: bool = False
    ) -> None:
        super().__init__(directory, chance)
        self._source, self._rate, self._savepoints = source, rate, savepoints

    def command(self, settings: campaign.Settings) -> list[str]:
        asked = {"source": self._source, "directory": self.directory, "rate": self._rate}
        asked |= {"parallelism": settings.parallelism, "interval": settings.interval, "memory": settings.memory}
        savepoints = ["--savepoints"] if self._savepoints else []
        return [str(pathlib.Path(__file__).resolve()), *[f"--{name}={value}" for name, value in asked.items()], *savepoints]

    def wrong(self) -> str:
        return difference(expected(self._source), found(self.directory)) or self._wrong_savepoint()

    def _wrong_savepoint(self) -> str:
        """Return which savepoint has a manifest and is not whole."""
        from streamdsl.checkpoint.savepoint import find_savepoint
        from streamdsl.errors import StateError

        for manifest in self.directory.glob("savepoint-*/*/manifest.json"):
            try:
                find_savepoint(manifest.parents[1], "keyed")
            except StateError as error:
                return str(error)
        return ""


def kill_often(kills: int, seed: int, directory: pathlib.Path, records: int = 20_000, rate: int = 5_000) -> campaign.Report:
    """Kill the job so often."""
    source = directory / "records.csv"
    write_records(source, records, 300, seed)
    return campaign.rounds(kills, seed, directory, lambda place, chance: KeyedRound(place, chance, source, rate))


def run(topology: Any, config: Any, directory: pathlib.Path, *, savepoints: bool) -> None:
    """Run to the end; with `savepoints`, take one after another on the way."""
    from streamdsl import StateError
    from streamdsl.launch import start

    if not savepoints:
        topology.run(config)
        return
    running = start(topology, config)
    while not running.wait(0.05):
        # The run may end while it is asked.
        with contextlib.suppress(StateError):
            running.savepoint(directory / f"savepoint-{time.time_ns()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    kinds = {"source": pathlib.Path, "directory": pathlib.Path, "rate": int, "parallelism": int, "interval": str, "memory": str}
    for name, kind in kinds.items():
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--savepoints", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.source:
        from streamdsl import Config

        config = Config(
            state_dir=asked.directory / "state",
            parallelism=asked.parallelism,
            checkpoint_interval=asked.interval,
            state_memory=asked.memory,
        )
        run(job(asked.source, asked.directory, asked.rate), config, asked.directory, savepoints=asked.savepoints)
        return 0
    directory = pathlib.Path(tempfile.mkdtemp(prefix="crash-"))
    report = kill_often(asked.kills, asked.seed, directory)
    print(report)
    if not report.violations:
        shutil.rmtree(directory)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
