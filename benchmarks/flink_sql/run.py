"""Builds and runs the queries of `benchmarks/nexmark.py` in Flink's SQL, each in a JVM of its own; see `NexmarkJob.java`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks import maven
from benchmarks.flink_jobs.run import OPENS
from benchmarks.flink_sql.queries import QUERIES

HERE = Path(__file__).resolve().parent
BUILT = HERE.parents[1] / "build" / "flink_sql"
HEAP = "4g"


def build() -> str:
    """Compile what has changed since the last time, under `build/flink_sql`, and return the class path."""
    return maven.build(HERE, BUILT, "--flink")


def write(directory: Path, stream: str, table: pa.Table, shift: Callable[[str, str], int | None]) -> None:
    """Write a stream as `Events.java` reads it."""
    types = {name: "STRING" if pa.types.is_string(table.schema.field(name).type) else "BIGINT" for name in table.column_names}
    head = "\t".join(f"{name}:{type_}:{shift(stream, name) or 0}" for name, type_ in types.items())
    columns = [column.cast(pa.string()).to_pylist() for column in table.columns]
    with (directory / f"{stream}.tsv").open("w") as file:
        file.write(head + "\n")
        file.writelines("\t".join(row) + "\n" for row in zip(*columns, strict=True))


def measure(query: str, cores: int, rounds: int, directory: Path, backend: str) -> dict[str, Any]:
    """Run a query on so many cores and return its figures."""
    columns, text = QUERIES[query]
    (directory / "query.sql").write_text(f"{columns}\n{text.strip()}\n")
    with tempfile.TemporaryDirectory() as state:
        command = [maven.java("--flink"), f"-Xmx{HEAP}", *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENS)]
        command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", build(), "streamdsl.benchmarks.NexmarkJob"]
        command += [str(directory), str(rounds), str(cores), backend, state]
        chosen = sorted(os.sched_getaffinity(0))[:cores]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, chosen))
    if done.returncode:
        sys.exit(f"--flink: {query} failed (exit code {done.returncode}); what it says is above")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
