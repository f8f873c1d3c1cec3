"""How fast are joins of two streams by key? Each record meets those of its key on the other side, within ten minutes.

    python benchmarks/joins.py [--records N] [--keys N] [--join NAME ...] [--state-memory SIZE] [--checkpoint-interval T] [--json]

Both sides have so many records, from memory, in order of time; they are made before the clock starts. In ten minutes each side has
a record of every key on average. `records_per_cpu_s` counts both sides. `rows_digest` is the same whatever memory there is: run it
again with a small `--state-memory` and compare; `peak_rss_mb` less `start_rss_mb` is what the join took. Pin it to one core with
`taskset -c 0`. A short run: `--records 1000000 --keys 100000`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fraud import commit, machine
from benchmarks.sinks import Dropped
from benchmarks.state import MIX, resident_mb, state_bytes
from benchmarks.windows import BATCH, FIRST_MS, Drawn, key_numbers
from streamdsl import Config, Schema, Stream, Topology

#: In which each side has a record of each key, on average.
WITHIN_MS = 600_000

JOINS: dict[str, Callable[[Stream, Stream], Stream]] = {
    "inner": lambda left, right: left.join(right, on="key", within=WITHIN_MS),
    "left": lambda left, right: left.join(right, on="key", how="left", within=WITHIN_MS),
    "outer": lambda left, right: left.join(right, on="key", how="outer", within=WITHIN_MS),
    "before": lambda left, right: left.join(right, on="key", before=WITHIN_MS, after=0),
    "asof": lambda left, right: left.join_asof(right, by="key", tolerance=WITHIN_MS),
}


class Summed(Dropped):
    """Adds up what rows hold, whatever order they come in."""

    def __init__(self) -> None:
        super().__init__("summed")
        self.digest = 0

    def look(self, rows: pa.RecordBatch) -> None:
        # A missing side counts as zero; a product tells which two sides met.
        x, y = (pc.fill_null(rows.column(name), 0).to_numpy().astype(np.uint64) for name in ("x", "y"))
        met = (x + np.uint64(1)) * (y + np.uint64(MIX))
        self.digest = (self.digest + int(met.sum(dtype=np.uint64))) % 2**64


def side(value: str, records: int, keys: int, seed: int) -> Drawn:
    """Return one side's records; `value` is the column that tells one from the other."""
    batches = []
    for start in range(0, records, BATCH):
        n = min(BATCH, records - start)
        places = pa.array(np.arange(start, start + n, dtype=np.int64))
        made = {
            "key": pc.cast(pc.multiply(key_numbers(seed + start, n, keys), MIX), pa.string()),
            "at": pc.add(pc.divide(pc.multiply(places, WITHIN_MS), keys), FIRST_MS),
            value: places,
        }
        batches.append(pa.RecordBatch.from_pydict(made))
    source = Drawn(batches)
    source.name, source.schema = value, Schema.of({"key": str, "at": int, value: int})
    return source


def measure(join: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Run one kind of join to its end and return its figures."""
    sink = Summed()
    topology = Topology(f"joins-{join}")
    left, right = (
        topology.stream(side(value, asked.records, asked.keys, seed), timestamp="at", name=value) for value, seed in (("x", 1), ("y", 2))
    )
    JOINS[join](left, right).to(sink, name="summed")
    gc.collect()
    start_rss = resident_now_mb()
    with tempfile.TemporaryDirectory() as state_dir:
        config = Config(state_dir=state_dir, state_memory=asked.state_memory, checkpoint_interval=asked.checkpoint_interval)
        began, began_cpu = time.monotonic(), time.process_time()
        run = topology.start(config)
        run.wait()
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - began_cpu
        return {
            "records_per_s": round(2 * asked.records / seconds),
            "records_per_cpu_s": round(2 * asked.records / cpu_seconds),
            "rows": sink.rows,
            "rows_digest": f"{sink.digest:016x}",
            "checkpoints": run.metrics()["checkpoints"]["completed"],
            "checkpoint_mb": round(state_bytes(state_dir) / 2**20, 1),
            "start_rss_mb": start_rss,
            "peak_rss_mb": resident_mb(),
        }


def resident_now_mb() -> int:
    """Return the memory that this process has now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def apart(join: str, given: Sequence[str]) -> dict[str, Any]:
    """Measure in a process of its own: memory that another join took is not this one's."""
    command = [sys.executable, __file__, *given, "--here", join]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000_000, help="of each side")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--join", choices=list(JOINS), nargs="+", default=list(JOINS))
    parser.add_argument("--state-memory", default="1GiB")
    parser.add_argument("--checkpoint-interval", default="5s")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", choices=list(JOINS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measure(asked.here, asked)))
        return
    figures: dict[str, Any] = {"records": 2 * asked.records, "keys": asked.keys, "state_memory": asked.state_memory}
    figures |= {join: apart(join, sys.argv[1:]) for join in asked.join}
    figures |= {"machine": machine(), "commit": commit()}
    if asked.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        for part, number in value.items() if name in JOINS else [("", value)]:
            print(f"{name + ('_' + part if part else ''):40} {number}")


if __name__ == "__main__":
    main()
