"""How fast are windows by key? Count, sum and mean of many keys, in RocksDB, with checkpoints inside the clock.

    python benchmarks/windows.py [--records N] [--keys N] [--per-key N] [--work NAME ...] [--checkpoint-interval T] [--flink heap] [--json]

Records come in order of time, from memory: they are made before the clock starts, for Flink too. A tumbling window sees each key once on
average, a hopping one is six panes long, a session ends after half a window without a record. `table` is the same aggregates
without a window, with a row for each record, `table-batch` with a row for each batch and key. `hopping-60` is sixty panes long, and only
measured if named: `--keys 1000 --per-key 3600 --work tumbling hopping-60`. Pin it to one core with
`taskset -c 0`. A few records run first, so that the modules of a job are not loaded inside the clock. A short run:
`--records 1000000 --keys 100000`; Flink's figures of one are those of a cold JVM.

`--flink heap,rocksdb` then does the same on Apache Flink (Java 17 and Maven; built by the first run), with state on the heap and in
RocksDB. `ratio` is ours by Flink's. In RocksDB it takes much longer.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.flink_jobs import run as flink
from benchmarks.fraud import commit, machine
from benchmarks.sinks import Dropped
from benchmarks.state import MIX, SCHEMA, resident_mb, state_bytes
from streamdsl import Config, Schema, Topology, col, count, count_window, hopping, session, sliding, tumbling
from streamdsl.connectors.base import Chunk, End, Json, Source, SplitReader

BATCH = 1 << 16
FIRST_MS = 1_700_000_000_000
#: Of a tumbling window; so many records as there are keys have their times within it.
SIZE_MS = 60_000

#: What is measured: the window that a keyed stream is given. None: a table, whose rows leave for each record or batch.
WORK: dict[str, Callable[[], Any] | None] = {
    "tumbling": lambda: tumbling(SIZE_MS),
    "hopping": lambda: hopping(SIZE_MS, SIZE_MS // 6),
    "hopping-60": lambda: hopping(SIZE_MS, SIZE_MS // 60),
    "session": lambda: session(SIZE_MS // 2),
    "sliding": lambda: sliding(SIZE_MS // 6),
    "count": lambda: count_window(10),
    "table": None,
    "table-batch": None,
}
#: Flink's state backends by their names.
BACKENDS = {"heap": "hashmap", "rocksdb": "rocksdb"}
#: Flink's sliding windows are our hopping ones; its DataStream tables emit for each record.
OURS_ALONE = ("hopping-60", "sliding", "table-batch")
#: Makes sixty rows of a record where a window sees a key once: for `--per-key`.
IF_ASKED = ("hopping-60",)


class Drawn(Source):
    """Keys drawn uniformly, in order of time."""

    bounded = True

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self.name = "drawn"
        self.schema = Schema.of(SCHEMA)
        self.batches = batches

    def splits(self) -> Sequence[str]:
        return ["drawn-0"]

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        return _DrawnReader(self, columns, 0 if position is None else int(position["batch"]))


class _DrawnReader(SplitReader):
    def __init__(self, source: Drawn, columns: Sequence[str], batch: int) -> None:
        self.source, self.columns, self.batch = source, list(columns), batch

    def read(self, max_rows: int) -> Chunk | End | None:
        if self.batch == len(self.source.batches):
            return End()
        rows = self.source.batches[self.batch].select(self.columns)
        self.batch += 1
        return Chunk(rows, {"batch": self.batch})


def key_numbers(start: int, n: int, keys: int) -> pa.Array:
    """Return which keys the records from `start` on have."""
    return pc.cast(pc.multiply(pc.random(n, initializer=start), keys), pa.int64(), safe=False)


def drawn(records: int, keys: int, per_key: int = 1) -> list[pa.RecordBatch]:
    """Return the records, in batches: so many of a key in a tumbling window, on average."""
    batches = []
    for start in range(0, records, BATCH):
        n = min(BATCH, records - start)
        numbers = key_numbers(start, n, keys)
        places = pa.array(range(start, start + n), pa.int64())
        made = {
            "key": pc.cast(pc.multiply(numbers, MIX), pa.string()),
            "at": pc.add(pc.divide(pc.multiply(places, SIZE_MS), keys * per_key), FIRST_MS),
            "x": pc.divide(pc.cast(numbers, pa.float64()), 4.0),
        }
        batches.append(pa.RecordBatch.from_pydict(made))
    return batches


def build(work: str, source: Source, sink: Dropped) -> Topology:
    """Return the topology: three aggregates by key."""
    topology = Topology(f"windows-{work}")
    keyed = topology.stream(source, timestamp="at", name="drawn").key_by("key")
    made = {"n": count(), "total": col("x").sum(), "mean": col("x").mean()}
    window = WORK[work]
    if window is None:
        rows = keyed.aggregate(**made, emit="batch" if work == "table-batch" else "update").to_stream()
    else:
        rows = keyed.window(window()).aggregate(**made)
    rows.to(sink, name="dropped")
    return topology


def measure(work: str, batches: Sequence[pa.RecordBatch], asked: argparse.Namespace) -> dict[str, Any]:
    """Run one kind of work to its end and return its figures."""
    sink = Dropped()
    topology = build(work, Drawn(batches), sink)
    records = sum(len(batch) for batch in batches)
    gc.collect()
    with tempfile.TemporaryDirectory() as state_dir:
        config = Config(
            state_backend=asked.state,
            state_dir=state_dir,
            state_memory=asked.state_memory,
            checkpoint_interval=asked.checkpoint_interval,
        )
        began, began_cpu = time.monotonic(), time.process_time()
        run = topology.start(config)
        run.wait()
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - began_cpu
        metrics = run.metrics()
        return {
            "records_per_s": round(records / seconds),
            "records_per_cpu_s": round(records / cpu_seconds),
            "rows": sink.rows,
            "checkpoints": metrics["checkpoints"]["completed"],
            "checkpoint_mb": round(state_bytes(state_dir) / 2**20, 1),
            "peak_rss_mb": resident_mb(),
        }


def beside_flink(work: str, ours: dict[str, Any], asked: argparse.Namespace, config: Config) -> dict[str, Any]:
    """Return Flink's figures for the same work, with each state backend, and by how much ours are larger."""
    found: dict[str, Any] = {}
    for backend in asked.flink:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "records"
            with file.open("wb") as out:
                for start in range(0, asked.records, BATCH):
                    out.write(key_numbers(start, min(BATCH, asked.records - start), asked.keys).buffers()[1])
            arguments = [work, file, asked.keys, SIZE_MS, BACKENDS[backend], config.state_memory_bytes, config.checkpoint_interval_ms]
            theirs = flink.run("WindowJob", [*map(str, arguments), directory], asked.flink_heap, asked.flink_timeout)
        found |= {f"flink_{backend}_{name}": value for name, value in theirs.items()}
        found |= {f"ratio_{backend}_{name}": round(ours[name] / theirs[name], 2) for name in theirs if "_per_" in name}
    return found


def backends(text: str) -> list[str]:
    """Return the state backends that are named."""
    named = text.split(",")
    if not set(named) <= set(BACKENDS):
        raise argparse.ArgumentTypeError(f"{text!r} is not of {', '.join(BACKENDS)}")
    return named


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--per-key", type=int, default=1, help="records of a key in a tumbling window")
    parser.add_argument("--work", choices=list(WORK), nargs="+", default=[work for work in WORK if work not in IF_ASKED])
    parser.add_argument("--state-memory", default="1GiB")
    parser.add_argument("--checkpoint-interval", default="5s")
    parser.add_argument("--state", choices=("rocksdb", "memory"), default="rocksdb")
    parser.add_argument("--flink", type=backends, default=(), metavar="heap,rocksdb", help="run Flink beside, with these state backends")
    parser.add_argument("--flink-heap", default="3g", metavar="SIZE")
    parser.add_argument("--flink-timeout", type=float, default=900.0, metavar="SECONDS", help="of one job")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.flink and asked.per_key != 1:
        parser.error("--per-key is not known to the jobs of Flink: leave out --flink")
    return asked


def main() -> None:
    """Run the benchmark and print its figures."""
    asked = arguments()
    if asked.flink:
        # Before minutes of measuring, not after them.
        flink.build()
    batches = drawn(asked.records, asked.keys, asked.per_key)
    config = Config(state_memory=asked.state_memory, checkpoint_interval=asked.checkpoint_interval)
    figures: dict[str, Any] = {"records": asked.records, "keys": asked.keys, "per_key": asked.per_key, "state": asked.state}
    figures |= {"machine": machine(), "commit": commit()}
    if not asked.json:
        show(figures)
    measure(asked.work[0], drawn(1000, 1000), asked)
    for work in asked.work:
        ours = measure(work, batches, asked)
        figures[work] = ours | (beside_flink(work, ours, asked, config) if asked.flink and work not in OURS_ALONE else {})
        if not asked.json:
            show({f"{work}_{name}": value for name, value in figures[work].items()})
    if asked.json:
        print(json.dumps(figures))


def show(figures: dict[str, Any]) -> None:
    """Print figures for people, as soon as they are there."""
    for name, value in figures.items():
        print(f"{name:40} {value}", flush=True)


if __name__ == "__main__":
    main()
