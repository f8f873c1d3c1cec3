"""How fast are the queries of Nexmark? Events as columns in memory, keyed state, checkpoints every 5 s.

    python benchmarks/nexmark.py [--queries q0,q5] [--cores 1,2] [--seconds 30] [--flink heap] [--rounds 20 --dbsp CHECKOUT] [--json]

Each query runs in a process of its own on so many cores. The events go round: each round goes on where the last one ended,
with later times and new ids, as the generator would have made them. All events count, also those of streams that a query does
not read. `--flink heap,rocksdb` runs the same queries on the same events in Flink's SQL, with mini-batches. `--dbsp` runs as many
events, which it generates, through Feldera's engine. What reading or generating takes is what `q0` takes: "less q0" is without it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import dbsp
from benchmarks.flink_sql import run as flink_sql
from benchmarks.fraud import commit, machine
from benchmarks.sinks import Dropped
from examples.nexmark.events import SCHEMAS
from examples.nexmark.generator import AUCTIONS, PERSONS, ROUND, generate
from examples.nexmark.queries import QUERIES
from streamdsl import Config, Schema, Table
from streamdsl.connectors.base import END, Chunk, End, Json, Source, SplitReader, no_metadata

#: What moves on from one round to the next, and by what.
SHIFTED = {
    "n": "events",
    "id": "own",
    "auction": "auctions",
    "bidder": "persons",
    "seller": "persons",
    "dateTime": "time",
    "expires": "time",
}
BLOCK = 1 << 16


@dataclass(frozen=True)
class Round:
    """What a round of the events adds to ids, numbers and times."""

    events: int
    rate: int

    def shift(self, stream: str, column: str) -> int | None:
        """Return by how much a column moves on, None if it stays."""
        what = SHIFTED.get(column)
        if what == "own":
            what = {"person": "persons", "auction": "auctions"}[stream]
        rounds = self.events // ROUND
        by = {"events": self.events, "auctions": rounds * AUCTIONS, "persons": rounds * PERSONS, "time": self.events * 1_000 // self.rate}
        return None if what is None else by[what]


class Clock:
    """When the sources begin no further round; common to all of a query."""

    def __init__(self, seconds: float, rounds: int | None) -> None:
        self.until = time.monotonic() + seconds
        self.rounds = rounds

    def goes_on(self, done: int) -> bool:
        """Tell whether another round follows so many; whoever asks first decides for all."""
        if self.rounds is None and time.monotonic() >= self.until:
            self.rounds = done
        return self.rounds is None or done < self.rounds


class Columns(Source):
    """One stream in memory, round after round."""

    bounded = True

    def __init__(self, name: str, table: pa.Table, round_: Round, clock: Clock, splits: int) -> None:
        self.name, self.schema, self.round, self.clock = name, Schema.of(SCHEMAS[name]), round_, clock
        batches = table.combine_chunks().to_batches(max_chunksize=BLOCK if splits == 1 else BLOCK // 8)
        self.batches = {str(split): batches[split::splits] for split in range(splits)}

    def splits(self) -> Sequence[str]:
        return list(self.batches)

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        return _ColumnsReader(self, [_selected(batch, columns) for batch in self.batches[split]])


def _selected(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Return some columns; a Processor asks for those too that say where a record came from."""
    known = set(batch.schema.names)
    arrays = [batch.column(name) if name in known else no_metadata(name, batch.num_rows) for name in columns]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


class _ColumnsReader(SplitReader):
    def __init__(self, source: Columns, batches: list[pa.RecordBatch]) -> None:
        self.source, self.batches = source, batches
        self.done, self.at = 0, 0

    def read(self, max_rows: int) -> Chunk | End | None:
        if self.at == len(self.batches):
            self.done, self.at = self.done + 1, 0
            if not self.source.clock.goes_on(self.done):
                return END
        batch = self._shifted(self.batches[self.at])
        self.at += 1
        return Chunk(batch, {"round": self.done, "batch": self.at - 1})

    def _shifted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self.done == 0:
            return batch
        columns = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            by = self.source.round.shift(self.source.name, name)
            columns.append(column if by is None else pc.add(column, by * self.done))
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def measure(query: str, cores: int, directory: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Run one query in this process, on so many cores, and return its figures."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    topology, result = QUERIES[query].topology(query)
    sink = Dropped()
    stream = result.to_stream() if isinstance(result, Table) else result
    stream.to(sink)
    clock, round_ = Clock(asked.seconds, asked.rounds), Round(asked.events, asked.rate)
    bind: Mapping[str, Any] = {name: Columns(name, _read(directory, name), round_, clock, cores) for name in topology.sources()}
    with tempfile.TemporaryDirectory() as state_dir:
        config = Config(
            parallelism=cores,
            state_dir=state_dir,
            state_backend=asked.state,
            state_memory=asked.state_memory,
            checkpoint_interval="5s",
        )
        began, cpu = time.perf_counter(), time.process_time()
        run = topology.start(config, bind=bind)
        run.wait()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        checkpoints = run.metrics()["checkpoints"]["completed"]
    events = asked.events * (clock.rounds or 0)
    return {
        "events": events,
        "rows": sink.rows,
        "seconds": round(seconds, 2),
        "events_per_s": round(events / seconds),
        "events_per_cpu_s": round(events / cpu),
        "cpu_us_per_event": round(cpu / events * 1e6, 3),
        "checkpoints": checkpoints,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _read(directory: Path, name: str) -> pa.Table:
    with pa.memory_map(str(directory / f"{name}.arrow")) as file:
        return pa.ipc.open_file(file).read_all()


def _write(directory: Path, asked: argparse.Namespace) -> None:
    for name, table in generate(asked.events, rate=asked.rate):
        with pa.OSFile(str(directory / f"{name}.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        if asked.flink:
            flink_sql.write(directory, name, table, Round(asked.events, asked.rate).shift)


def _in_a_process(query: str, cores: int, directory: Path, argv: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, *argv, "--one", query, "--cores", str(cores), "--events-in", str(directory)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _on_flink(query: str, cores: int, backend: str, directory: Path, asked: argparse.Namespace) -> dict[str, Any]:
    figures = flink_sql.measure(query, cores, asked.flink_rounds, directory, {"heap": "hashmap"}.get(backend, backend))
    return _with_rates(asked.events * asked.flink_rounds, figures)


def _with_rates(events: int, figures: dict[str, Any]) -> dict[str, Any]:
    seconds, cpu = figures["seconds"], figures.pop("cpu_seconds")
    rates = {
        "events_per_s": round(events / seconds),
        "events_per_cpu_s": round(events / cpu),
        "cpu_us_per_event": round(cpu / events * 1e6, 3),
    }
    return {"events": events, **rates, **figures}


def _less_q0(runs: dict[str, dict[str, Any]], q0: Mapping[str, Mapping[str, Any]]) -> None:
    """Add what a query takes beyond reading, or generating, its events."""
    for what in runs.keys() & q0.keys():
        runs[what]["cpu_us_less_q0"] = round(runs[what]["cpu_us_per_event"] - q0[what]["cpu_us_per_event"], 3)


def _line(query: str, what: str, figures: Mapping[str, Any]) -> str:
    rates = f"{figures['events_per_s']:>12,} events/s {figures['events_per_cpu_s']:>12,} per CPU s"
    beyond = f", less q0 {figures['cpu_us_less_q0']:>6}" if "cpu_us_less_q0" in figures else ""
    return f"{query:4} {what:18} {rates} {figures['cpu_us_per_event']:>7} us{beyond}"


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--queries", default=",".join(QUERIES), metavar="q0,q5")
    add("--cores", default="1,2", metavar="1,2")
    add("--events", type=int, default=1_000_000, help="events of a round (default: 1,000,000)")
    add("--rate", type=int, default=10_000, help="events a second of event time (default: 10,000)")
    add("--seconds", type=float, default=30.0, help="no round begins after so long (default: 30)")
    add("--rounds", type=int, help="so many rounds, however long they take")
    add("--state", choices=("rocksdb", "memory"), default="rocksdb")
    add("--state-memory", default="4GiB", help="of our state; what has no room is in RocksDB (default: 4GiB)")
    add("--flink", metavar="heap,rocksdb", help="run Flink SQL beside, with these state backends")
    add("--flink-rounds", type=int, default=3, help="rounds of Flink (default: 3)")
    add("--dbsp", type=Path, metavar="CHECKOUT", help="run Feldera's engine beside, from a checkout of its sources; needs --rounds")
    add("--json", action="store_true")
    add("--one", help=argparse.SUPPRESS)
    add("--events-in", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    unknown = set(asked.queries.split(",")) - set(QUERIES)
    if unknown:
        parser.error(f"there is no query {', '.join(sorted(unknown))}; there are {', '.join(QUERIES)}")
    if asked.dbsp and asked.rounds is None:
        parser.error("--dbsp needs --rounds: it is given as many events as our engine")
    return asked


def main() -> None:
    """Run the benchmark and print its figures."""
    asked = arguments(sys.argv[1:])
    if asked.one:
        print(json.dumps(measure(asked.one, int(asked.cores), Path(asked.events_in), asked)))
        return
    if asked.flink:
        # Before minutes of measuring, not after them.
        flink_sql.build()
    program = dbsp.build(asked.dbsp) if asked.dbsp else None
    found: dict[str, Any] = {"machine": machine(), "commit": commit(), "queries": {}}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _write(directory, asked)
        for query in asked.queries.split(","):
            for cores in map(int, asked.cores.split(",")):
                on = f"{cores} core{'s' * (cores > 1)}"
                runs = {on: _in_a_process(query, cores, directory, sys.argv[1:])}
                for backend in asked.flink.split(",") if asked.flink else ():
                    runs[f"flink {backend}, {on}"] = _on_flink(query, cores, backend, directory, asked)
                if program is not None and query not in dbsp.MISSING:
                    events = runs[on]["events"]
                    runs[f"dbsp, {on}"] = _with_rates(events, dbsp.measure(program, query, cores, events))
                _less_q0(runs, found["queries"].get("q0", {}))
                found["queries"].setdefault(query, {}).update(runs)
                if not asked.json:
                    print(*(_line(query, what, figures) for what, figures in runs.items()), sep="\n", flush=True)
    if asked.json:
        print(json.dumps(found))
    else:
        print(f"{found['machine']}; {found['commit']}")


if __name__ == "__main__":
    main()
