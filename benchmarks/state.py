"""How fast is keyed state that does not fit into memory? Uniform access to many keys, each with 64 bytes of aggregates.

    python benchmarks/state.py [--keys N] [--state-memory SIZE] [--seconds S] [--checkpoint-interval T] [--restore] [--flink] [--json]

Every key is written once (`fill`), then keys are drawn uniformly for so many seconds (`access`), in the same run, with checkpoints.
`--restore` starts again from the last checkpoint and says how long that takes until the first row is out. Pin it to one core
with `taskset -c 0` for a figure per core; where others share the core, the figure per second of CPU says more.

`--flink` then does the same on Apache Flink with RocksDB (Java 17 and Maven; built by the first run) with the same memory for state,
the same checkpoints and the same cores. `ratio` is ours by Flink's. `--flink-option NAME=VALUE` sets an option of Flink.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.flink_jobs import run as flink
from benchmarks.fraud import commit, machine
from benchmarks.sinks import Dropped
from streamdsl import Config, Schema, Topology, col, count
from streamdsl.connectors.base import Chunk, End, Json, Source, SplitReader

BATCH = 1 << 16
#: Spreads the numbers over 64 bits, each its own place.
MIX = 0x1E3779B97F4A7C15
SCHEMA = {"key": str, "at": int, "x": float}


class Drawn(Source):
    """All keys in a mixed order, then any of them, without an end."""

    bounded = True

    def __init__(self, keys: int) -> None:
        self.name = "drawn"
        self.schema = Schema.of(SCHEMA)
        self.keys = keys
        self.fill = -(-keys // BATCH)
        self.filled_at = self.filled_cpu = 0.0

    def splits(self) -> Sequence[str]:
        return ["drawn-0"]

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        # A batch that was begun is given again: what is asked is how fast, not what comes out.
        return _DrawnReader(self, columns, 0 if position is None else int(position["start"]["batch"]))


class _DrawnReader(SplitReader):
    def __init__(self, source: Drawn, columns: Sequence[str], batch: int) -> None:
        self.source, self.columns, self.batch = source, columns, batch

    def read(self, max_rows: int) -> Chunk | End | None:
        source, n = self.source, self.batch
        if n < source.fill:
            numbers = pa.array(range(n * BATCH, min(source.keys, (n + 1) * BATCH)), pa.int64())
        else:
            if not source.filled_at:
                source.filled_cpu, source.filled_at = time.process_time(), time.monotonic()
            numbers = pc.cast(pc.multiply(pc.random(BATCH, initializer=n), source.keys), pa.int64(), safe=False)
        made = {
            "key": pc.cast(pc.multiply(numbers, MIX), pa.string()),
            "at": pa.repeat(1_700_000_000_000 + n, len(numbers)),
            "x": pc.divide(pc.cast(numbers, pa.float64()), 4.0),
        }
        self.batch += 1
        given = {name: made.get(name, pa.nulls(len(numbers), source.schema.field(name).type)) for name in self.columns}
        return Chunk(pa.RecordBatch.from_pydict(given), {"batch": n})


def build(source: Drawn, sink: Dropped) -> Topology:
    """Seven running aggregates: some 64 bytes a key."""
    topology = Topology("state")
    x = col("x")
    running = topology.stream(source, timestamp="at", name="drawn").key_by("key")
    running = running.aggregate(n=count(), total=x.sum(), low=x.min(), high=x.max(), mean=x.mean(), first=x.first(), last=x.last())
    running.to_stream().to(sink, name="dropped")
    return topology


def state_bytes(state_dir: str) -> int:
    """Return the size of the files of the newest checkpoint."""
    newest = max(Path(state_dir).glob("checkpoints/*/manifest.json"), key=lambda path: int(path.parent.name)).parent
    return sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())


def resident_mb() -> int:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def beside_flink(asked: argparse.Namespace, config: Config, ours: dict[str, Any]) -> dict[str, Any]:
    """Return Flink's figures for the same work, and by how much ours are larger."""
    options = flink.OPTIONS | dict(option.split("=", 1) for option in asked.flink_option)
    with tempfile.TemporaryDirectory() as directory:
        theirs = flink.measure(
            asked.keys, asked.seconds, config.state_memory_bytes, config.checkpoint_interval_ms, Path(directory), options
        )
    compared = [name for name in theirs if "_per_" in name or name == "peak_rss_mb"]
    ratios = {f"ratio_{name}": round(ours[name] / theirs[name], 2) for name in compared}
    return {f"flink_{name}": value for name, value in theirs.items()} | ratios | {"flink_options": options}


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=5_000_000)
    parser.add_argument("--state-memory", default="64MiB")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--checkpoint-interval", default="2s")
    parser.add_argument("--state", choices=("rocksdb", "memory"), default="rocksdb")
    parser.add_argument("--restore", action="store_true")
    parser.add_argument("--flink", action="store_true")
    parser.add_argument("--flink-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if any("=" not in option for option in asked.flink_option):
        parser.error("--flink-option takes NAME=VALUE, as in state.backend.rocksdb.use-bloom-filter=false")
    return asked


def main() -> None:
    """Run the benchmark and print its figures."""
    asked = arguments()
    if asked.flink:
        # Before minutes of measuring, not after them.
        flink.build()
    idle_mb = resident_mb()
    with tempfile.TemporaryDirectory() as state_dir:
        config = Config(
            state_backend=asked.state,
            state_dir=state_dir,
            state_memory=asked.state_memory,
            checkpoint_interval=asked.checkpoint_interval,
        )
        source, sink = Drawn(asked.keys), Dropped()
        began, began_cpu = time.monotonic(), time.process_time()
        run = build(source, sink).start(config)
        while not source.filled_at:
            time.sleep(0.01)
        time.sleep(asked.seconds)
        accessed, seconds = sink.rows - asked.keys, time.monotonic() - source.filled_at
        cpu_seconds = time.process_time() - source.filled_cpu
        metrics = run.metrics()
        run.stop()
        run.wait()
        figures: dict[str, Any] = {
            "keys": asked.keys,
            "state_memory": asked.state_memory,
            "fill_records_per_s": round(asked.keys / (source.filled_at - began)),
            "fill_records_per_cpu_s": round(asked.keys / (source.filled_cpu - began_cpu)),
            "access_records_per_s": round(accessed / seconds),
            "access_records_per_cpu_s": round(accessed / cpu_seconds),
            "peak_rss_mb": resident_mb(),
            "rss_before_mb": idle_mb,
            "checkpoints": metrics["checkpoints"]["completed"],
            "evicted": metrics["state"]["evicted"],
            "reads": metrics["state"]["reads"],
            "checkpoint_mb": state_bytes(state_dir) >> 20,
        }
        if asked.restore:
            source, sink = Drawn(asked.keys), Dropped()
            began = time.monotonic()
            run = build(source, sink).start(config)
            while not sink.rows:
                time.sleep(0.001)
            figures["restored_first_row_s"] = round(sink.first_at - began, 2)
            run.stop()
            run.wait()
    if asked.flink:
        figures |= beside_flink(asked, config, figures)
    figures |= {"state": asked.state, "machine": machine(), "commit": commit()}
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")


if __name__ == "__main__":
    main()
