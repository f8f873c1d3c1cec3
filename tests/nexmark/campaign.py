"""Nexmark on many events, with a SIGKILL in the middle, against DuckDB: ``python -m tests.nexmark.campaign --events 1000000``.

Each query runs in a process of its own, on Parquet files, in order and out of order, in one task and in two. It is killed once
half of its time in an undisturbed run has passed, and started again from its state directory. What its file has in the end is
compared with DuckDB's answer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from examples.nexmark.events import SCHEMAS
from examples.nexmark.generator import generate
from examples.nexmark.queries import QUERIES
from examples.nexmark.run import final_rows
from streamdsl import Config, Table, files
from tests.nexmark.oracle import answer, answers, rows

DISORDER_MS = 3_000


def job(query: str, place: Path, parallelism: int, disorder: int) -> None:
    """Run a query from the files of `place`, into a file that is exactly once."""
    topology, result = QUERIES[query].topology(query, disorder)
    (result.to_stream() if isinstance(result, Table) else result).to(files(place / "out.jsonl"), name="out")
    inputs = place.parents[1] / f"events-{disorder}"
    bind = {name: files(inputs / f"{name}.parquet", schema=SCHEMAS[name]) for name in topology.sources()}
    topology.run(Config(parallelism=parallelism, state_dir=place / "state", checkpoint_interval="1s"), bind=bind)


def started(query: str, place: Path, parallelism: int, disorder: int) -> subprocess.Popen[bytes]:
    """Begin a run, or go on with it."""
    place.mkdir(parents=True, exist_ok=True)
    words = ["--job", query, str(place), str(parallelism), str(disorder)]
    return subprocess.Popen([sys.executable, "-m", "tests.nexmark.campaign", *words])


def found(query: str, place: Path) -> list[tuple[object, ...]]:
    """Return the final rows of what a run has written."""
    # Texts that look like dates stay texts.
    texts = pa.schema([(name, pa.string()) for name in ("day", "minute") if name in QUERIES[query].columns])
    written = (
        pj.read_json(place / "out.jsonl", parse_options=pj.ParseOptions(explicit_schema=texts))
        if (place / "out.jsonl").stat().st_size
        else None
    )
    return [] if written is None else rows(final_rows(query, written))


def held(query: str, place: Path, parallelism: int, disorder: int, expected: list[tuple[object, ...]]) -> str:
    """Run a query undisturbed, then with a kill; return what became of it."""
    begun = time.monotonic()
    plain = place / "plain"
    if started(query, plain, parallelism, disorder).wait():
        return "FAILED"
    lasted = time.monotonic() - begun
    if found(query, plain) != expected:
        return "DIFFERENT"
    killed = place / "killed"
    process = started(query, killed, parallelism, disorder)
    time.sleep(lasted / 2)
    process.kill()
    process.wait()
    # At another parallelism: what was kept moves between tasks.
    if started(query, killed, 3 - parallelism, disorder).wait():
        return "FAILED after a kill"
    return f"equal, {lasted:.1f} s" if found(query, killed) == expected else "DIFFERENT after a kill"


def main() -> int:
    """Return 1 if a query has another answer than DuckDB."""
    parser = argparse.ArgumentParser(description="Nexmark against DuckDB, with kills.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--queries", default=",".join(QUERIES))
    parser.add_argument("--job", nargs=4, metavar=("QUERY", "PLACE", "PARALLELISM", "DISORDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.job is not None:
        query, place, parallelism, disorder = asked.job
        job(query, Path(place), int(parallelism), int(disorder))
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        for disorder in (0, DISORDER_MS):
            inputs = Path(directory) / f"events-{disorder}"
            inputs.mkdir()
            for name, table in generate(asked.events, rate=asked.events // 100, disorder_ms=disorder):
                pq.write_table(table, inputs / f"{name}.parquet")
        database = answers(generate(asked.events, rate=asked.events // 100))
        for query in asked.queries.split(","):
            expected = answer(database, query)
            for parallelism, disorder in ((1, 0), (2, DISORDER_MS)):
                place = Path(directory) / f"{query}-{parallelism}-{disorder}"
                verdict = held(query, place, parallelism, disorder, expected)
                print(f"{query} parallelism {parallelism} disorder {disorder} ms: {verdict}", flush=True)
                wrong += not verdict.startswith("equal")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
