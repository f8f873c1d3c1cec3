"""Kills a job with windows, timers and numbered records, and compares what it wrote with plain Python.

``python tests/crash/keyed.py --kills 100 --seed 7``. The oracle is a dozen lines over the same file; it shares nothing with
the library. What is restored here under SIGKILL, from real RocksDB and at changing parallelism: open windows, pending timers,
values by key.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "crash")]

import campaign  # noqa: E402

WINDOW_MS, QUIET_MS = 5_000, 7_000
OUTPUTS = ("windows", "numbers", "timers")


def write_records(path: pathlib.Path, records: int, keys: int, seed: int) -> None:
    """Write records in the order of their time, so that none is late at any parallelism."""
    chance = random.Random(seed)
    now = 0
    with path.open("w") as file:
        file.write("id,key,value,at\n")
        for number in range(records):
            now += chance.randint(1, 20)
            file.write(f"{number},k{chance.randrange(keys)},{chance.randint(-100, 100)},{now}\n")


def expected(path: pathlib.Path) -> dict[str, Counter[Any]]:
    """Return what must be written: counts and sums by window, a number for each record, a timer for each record."""
    windows: dict[tuple[str, int], list[int]] = {}
    numbers: Counter[Any] = Counter()
    timers: Counter[Any] = Counter()
    seen: Counter[str] = Counter()
    for line in path.read_text().splitlines()[1:]:
        number, key, value, at = line.split(",")
        windows.setdefault((key, int(at) // WINDOW_MS), []).append(int(value))
        seen[key] += 1
        numbers[int(number), key, seen[key]] += 1
        timers[key, int(number), int(at) + QUIET_MS] += 1
    closed = Counter({(key, len(values), sum(values)): 0 for (key, _), values in windows.items()})
    for (key, _), values in windows.items():
        closed[key, len(values), sum(values)] += 1
    return {"windows": closed, "numbers": numbers, "timers": timers}


def found(directory: pathlib.Path) -> dict[str, Counter[Any]]:
    """Return what was written."""
    fields = {"windows": ("key", "n", "total"), "numbers": ("id", "key", "n"), "timers": ("key", "id", "due")}
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
    from streamdsl import Processor, Topology, col, count, files, tumbling

    class Numbers(Processor):
        """Numbers the records of a key, and sets a timer for each."""

        output = {"id": int, "key": str, "n": int}
        outputs = {"fired": {"key": str, "id": int, "due": int}}

        def open(self, ctx: Any) -> None:
            self.seen = ctx.state.value("seen", int)

        def process(self, row: Any, ctx: Any) -> Any:
            self.seen.set((self.seen.get() or 0) + 1)
            ctx.set_timer(row.at + QUIET_MS, name=str(row.id))
            yield {"id": row.id, "key": row.key, "n": self.seen.get()}

        def on_timer(self, timer: Any, ctx: Any) -> None:
            ctx.emit({"key": ctx.key, "id": int(timer.name), "due": timer.timestamp}, to="fired")

    topology = Topology("keyed")
    schema = {"id": int, "key": str, "value": int, "at": int}
    keyed = topology.stream(files(source, schema=schema, rate=rate), timestamp="at", name="records").key_by("key")
    closed = keyed.window(tumbling(WINDOW_MS)).aggregate(n=count(), total=col("value").sum(), name="windows")
    closed.to(files(directory / "windows.jsonl"), name="windows-out")
    numbered = keyed.process(Numbers(), name="numbers")
    numbered.to(files(directory / "numbers.jsonl"), name="numbers-out")
    numbered.output("fired").to(files(directory / "timers.jsonl"), name="timers-out")
    return topology


class KeyedRound(campaign.Round):
    """The job above."""

    def __init__(self, directory: pathlib.Path, chance: random.Random, source: pathlib.Path, rate: int) -> None:
        super().__init__(directory, chance)
        self._source, self._rate = source, rate

    def command(self, parallelism: int) -> list[str]:
        asked = {"source": self._source, "directory": self.directory, "rate": self._rate, "parallelism": parallelism}
        return [str(pathlib.Path(__file__).resolve()), *[f"--{name}={value}" for name, value in asked.items()]]

    def wrong(self) -> str:
        return difference(expected(self._source), found(self.directory))


def kill_often(kills: int, seed: int, directory: pathlib.Path, records: int = 20_000, rate: int = 5_000) -> campaign.Report:
    """Kill the job so often."""
    source = directory / "records.csv"
    write_records(source, records, 300, seed)
    return campaign.rounds(kills, seed, directory, lambda place, chance: KeyedRound(place, chance, source, rate))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    for name, kind in (("source", pathlib.Path), ("directory", pathlib.Path), ("rate", int), ("parallelism", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.source:
        from streamdsl import Config

        config = Config(state_dir=asked.directory / "state", parallelism=asked.parallelism, checkpoint_interval=campaign.INTERVAL)
        job(asked.source, asked.directory, asked.rate).run(config)
        return 0
    directory = pathlib.Path(tempfile.mkdtemp(prefix="crash-"))
    report = kill_often(asked.kills, asked.seed, directory)
    print(report)
    if not report.violations:
        shutil.rmtree(directory)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
