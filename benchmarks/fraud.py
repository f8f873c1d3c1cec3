"""How fast is the fraud job? Columns in memory, the three rules, keyed state, checkpoints.

    python benchmarks/fraud.py --input FILE.arrow [--loop SECONDS] [--parallelism N] [--state rocksdb|memory] [--json]

`--loop` repeats the input, with shifted times, until the time is over. The last checkpoint is opened again and its keys are
counted. Without `--input` the example's own sample is used. Pin it to one core with `taskset -c 0` for a figure per core.

    taskset -c 0 python benchmarks/fraud.py --loop 15 --checkpoint-interval 100ms --against 5s --pairs 5

What do frequent checkpoints cost? Runs with either interval, by turns, and the median of what a pair says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.sinks import Dropped
from examples.fraud import topology as example
from streamdsl import Config, Schema
from streamdsl.checkpoint.inspect import count_keys
from streamdsl.connectors.base import END, Chunk, End, Json, Source, SplitReader


class Looped(Source):
    """A table in memory, again and again until `seconds` are over; each round stands later in time."""

    bounded = True

    def __init__(self, table: pa.Table, seconds: float, splits: int) -> None:
        self.name = "looped"
        self.schema = Schema.of(example.Transaction)
        self.table = table.combine_chunks()
        self.seconds = seconds
        times = table.column("event_time")
        self.span = pc.max(times).as_py() - pc.min(times).as_py() + 120_000
        # One split for each task, as a topic has partitions: an account stays in one, and so keeps its order.
        crc = [zlib.crc32(account.encode()) % splits for account in self.table.column("account_number").to_pylist()]
        self.tables = {
            f"memory-{i}": self.table.filter(pc.equal(pa.array(crc), i)).combine_chunks() if splits > 1 else self.table
            for i in range(splits)
        }
        self.rows_read = 0

    def splits(self) -> Sequence[str]:
        return list(self.tables)

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        return _LoopedReader(self, self.tables[split], columns)


class _LoopedReader(SplitReader):
    def __init__(self, source: Looped, table: pa.Table, columns: Sequence[str]) -> None:
        self.source, self.columns = source, columns
        self.round, self.at = 0, 0
        self.until = time.monotonic() + source.seconds
        # Made once: what is measured is the job, not how fast Python lists become columns.
        n = table.num_rows
        given = {
            "_topic": pa.array(["memory"] * n),
            "_partition": pa.array([0] * n, pa.int64()),
            "_offset": pa.array(range(n), pa.int64()),
        }
        self.table = pa.table(
            {
                name: given[name]
                if name in given
                else table.column(name)
                if name in table.column_names
                else pa.nulls(n, source.schema.field(name).type)
                for name in columns
            }
        ).combine_chunks()
        self.batches = self._shifted()

    def _shifted(self) -> list[pa.RecordBatch]:
        table = self.table
        for name, shift in (("event_time", self.source.span), ("_offset", table.num_rows)):
            if name in self.columns:
                shifted = pc.add(table.column(name), self.round * shift)
                table = table.set_column(table.column_names.index(name), name, shifted)
        return table.to_batches(max_chunksize=1 << 16)

    def read(self, max_rows: int) -> Chunk | End | None:
        if self.at == len(self.batches):
            if time.monotonic() >= self.until:
                return END
            self.round, self.at = self.round + 1, 0
            self.batches = self._shifted()
        batch = self.batches[self.at]
        self.at += 1
        self.source.rows_read += batch.num_rows
        return Chunk(batch, {"round": self.round, "batch": self.at - 1})


class Counting(Dropped):
    """Counts alerts by rule."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.by_rule: dict[str, int] = {}

    def look(self, rows: pa.RecordBatch) -> None:
        for entry in pc.value_counts(rows.column("rule")):
            rule = entry["values"].as_py()
            self.by_rule[rule] = self.by_rule.get(rule, 0) + entry["counts"].as_py()


def read_table(path: str | None) -> pa.Table:
    """Return the transactions of an Arrow file, or the example's sample."""
    if path is None:
        import pyarrow.csv

        return pa.concat_tables([pyarrow.csv.read_csv(p) for p in example.data.sample().transactions]).sort_by("event_time")
    with pa.memory_map(path) as file:
        try:
            return pa.ipc.open_file(file).read_all()
        except pa.ArrowInvalid:  # the stream format
            file.seek(0)
            return pa.ipc.open_stream(file).read_all()


def machine() -> str:
    """Return what the figures were measured on."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores, Python {platform.python_version()}"


def commit() -> str:
    """Return the commit that was measured."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return done.stdout.strip() or "unknown"


class ThreadTimes:
    """CPU seconds of the run's threads, looked at now and then: when a thread has ended, what it took is gone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def look(self) -> None:
        for thread in threading.enumerate():
            if thread.name.startswith("streamdsl-"):
                try:
                    nanoseconds = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0]
                except OSError:
                    continue
                self.seconds[thread.name.removeprefix("streamdsl-")] = round(int(nanoseconds) / 1e9, 2)


def compare(argv: Sequence[str], intervals: Sequence[str], pairs: int) -> None:
    """Run with both intervals by turns and print what the first one costs against the second."""
    shares, milliseconds, slower = [], [], []
    for _ in range(pairs):
        runs = []
        for interval in intervals:
            command = [sys.executable, __file__, *argv, "--json", "--checkpoint-interval", interval]
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        often, seldom = runs
        more = often["records"] * (1 / often["records_per_cpu_s"] - 1 / seldom["records_per_cpu_s"])
        shares.append(100 * (1 - often["records_per_cpu_s"] / seldom["records_per_cpu_s"]))
        slower.append(100 * (1 - often["records_per_s"] / seldom["records_per_s"]))
        milliseconds.append(1000 * more / (often["checkpoints"] - seldom["checkpoints"]))
        rates = f"{often['records_per_cpu_s']:,} {seldom['records_per_cpu_s']:,} records per CPU second"
        print(f"{rates}, {shares[-1]:.1f} % fewer; {slower[-1]:.1f} % fewer records/s; {milliseconds[-1]:.1f} CPU ms a checkpoint")
        print(f"  CPU seconds by thread: {often['threads']} {seldom['threads']}", flush=True)
    median = f"{statistics.median(shares):.1f} % fewer records per CPU second, {statistics.median(milliseconds):.1f} CPU ms a checkpoint"
    print(f"{' against '.join(intervals)}, median of {pairs} pairs: {median} ({machine()}; {commit()})")
    print(f"by the clock, where other cores help: {statistics.median(slower):.1f} % fewer records/s")


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", help="Arrow IPC file with the columns of a transaction")
    parser.add_argument("--loop", type=float, default=0.0, help="seconds to go on for (default: the input once)")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--state", choices=("rocksdb", "memory"), default="rocksdb")
    parser.add_argument("--checkpoint-interval", default="2s")
    parser.add_argument("--rules", choices=("declarative", "python"), default="declarative")
    parser.add_argument("--against", metavar="INTERVAL", help="compare --checkpoint-interval with this one")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.against:
        same = ["--loop", str(arguments.loop or 15), "--parallelism", str(arguments.parallelism), "--state", arguments.state]
        same += ["--rules", arguments.rules, *(["--input", arguments.input] if arguments.input else [])]
        compare(same, (arguments.checkpoint_interval, arguments.against), arguments.pairs)
        return

    source, sink = Looped(read_table(arguments.input), arguments.loop, arguments.parallelism), Counting()
    topology = example.topology if arguments.rules == "declarative" else example.build("processors")
    with tempfile.TemporaryDirectory() as state_dir:
        config = Config(
            parallelism=arguments.parallelism,
            state_backend=arguments.state,
            state_dir=state_dir,
            checkpoint_interval=arguments.checkpoint_interval,
        )
        began, cpu = time.perf_counter(), time.process_time()
        run = topology.start(config, bind={"transactions": source, "alerts": sink})
        threads = ThreadTimes()
        while not run.wait(0.2):
            threads.look()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        checkpoints = run.metrics()["checkpoints"]
        keys = sum(count_keys(state_dir).values())
    figures = {
        "records": source.rows_read,
        "seconds": round(seconds, 3),
        "records_per_s": round(source.rows_read / seconds),
        "records_per_cpu_s": round(source.rows_read / cpu),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "checkpoints": checkpoints["completed"],
        "threads": threads.seconds,
        "keys_in_last_checkpoint": keys,
        "accounts": len(pc.unique(source.table.column("account_number"))),
        "alerts": dict(sorted(sink.by_rule.items())),
        "parallelism": arguments.parallelism,
        "state": arguments.state,
        "rules": arguments.rules,
        "machine": machine(),
        "commit": commit(),
    }
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:26} {value}")


if __name__ == "__main__":
    main()
