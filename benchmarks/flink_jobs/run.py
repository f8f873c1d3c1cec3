"""Builds and runs the work of other benchmarks on Apache Flink, in one local JVM: see `StateJob.java` and `WindowJob.java`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import maven

HERE = Path(__file__).resolve().parent
BUILT = HERE.parents[1] / "build" / "flink"
#: Managed memory, where RocksDB's share lies, is outside of the heap.
HEAP = "512m"
#: Of one job, unless it is said otherwise.
MOST_SECONDS = 900.0
#: Flink reads the JDK's own classes by reflection; its distribution starts a JVM with these too.
OPENS = ("java.base/java.lang", "java.base/java.util")
#: RocksDB as an operator would set it for state larger than memory: without filters each read goes through every level. Names are Flink's.
OPTIONS = {
    "state.backend.rocksdb.use-bloom-filter": "true",
    "state.backend.rocksdb.memory.partitioned-index-filters": "true",
}


def build() -> str:
    """Compile what has changed since the last time, under `build/flink`, and return the class path."""
    return maven.build(HERE, BUILT, "--flink")


def measure(keys: int, seconds: float, state_memory: int, interval_ms: int, directory: Path, options: Mapping[str, str]) -> dict[str, Any]:
    """Run the job in a JVM of its own, which stays on the cores of this process, and return its figures.

    `state_memory` (bytes) is all of Flink's managed memory; state and checkpoints go to `directory`.
    """
    arguments = [str(keys), str(seconds), str(state_memory), str(interval_ms), str(directory)]
    return run("StateJob", [*arguments, *(f"{name}={value}" for name, value in options.items())])


def run(job: str, arguments: Sequence[str], heap: str = HEAP, most_seconds: float = MOST_SECONDS) -> dict[str, Any]:
    """Run a job in a JVM of its own, which stays on the cores of this process, and return what it prints.

    One that takes more than `most_seconds` ends the benchmark: a JVM whose heap is nearly full collects garbage without an end.
    """
    command = [maven.java("--flink"), f"-Xmx{heap}", *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENS)]
    command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", build(), f"streamdsl.benchmarks.{job}", *arguments]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=most_seconds)
    except subprocess.TimeoutExpired:
        sys.exit(
            f"--flink: {job} {' '.join(arguments[:1])} has not ended within {most_seconds:.0f} s with a heap of {heap}; "
            "raise --flink-heap or --flink-timeout, or lower --records and --keys"
        )
    if done.returncode:
        sys.exit(f"--flink: the job failed (exit code {done.returncode}); what it says is above")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
