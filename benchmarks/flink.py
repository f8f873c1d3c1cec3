"""Rates of the same topologies here and on Flink, side by side: ``python benchmarks/flink.py [--records N] [--cores 1 2] [--python]``.

Files to files. Of Flink it is the CPU time of the TaskManagers, and the wall time of the job from its start to its end; here it is that
of a process of its own. Rates per CPU second are what a loaded machine can be judged by.

``--python`` adds a Python function, which Flink calls in PyFlink (800 MB, installed on first use): the CPU time of its workers is in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import flink_function
from examples.nexmark.generator import generate
from examples.nexmark.queries import topology as nexmark
from streamdsl import Config, Topology, files
from streamdsl.flink.gateway import Gateway
from streamdsl.flink.job import Statement
from streamdsl.flink.project import write_project
from tests.flink import cases
from tests.flink.cluster import Cluster
from tests.flink.compare import on_flink, written_json
from tests.flink.pyflink import pyflink

TICKS = os.sysconf("SC_CLK_TCK")
QUERIES = ("q1", "q12", "q16")
ROOT = Path(__file__).resolve().parents[1]


def topology_of(name: str) -> tuple[Topology, str]:
    """Return a topology, and the name of its sink."""
    if name == "fraud":
        return cases.fraud(), "alerts"
    if name == "python":
        return flink_function.topology, "out"
    topology, result = nexmark(name)
    result.to(files("out.jsonl", format="json"), name="out")
    return topology, "out"


def sources_of(directory: Path, records: int) -> dict[str, dict[str, Path]]:
    """Write the inputs, and return them by topology and source."""
    events = {name: written_json(directory / f"{name}.jsonl", table.to_pylist()) for name, table in generate(records)}
    queries = {name: {"bid": events["bid"]} for name in (*QUERIES, "python")}
    return {"fraud": {"transactions": cases.transactions(directory, records)}, **queries}


def run_here(name: str, sources: dict[str, Path], cores: int, output: Path) -> tuple[float, float]:
    """Run in this process; return wall and CPU seconds."""
    topology, sink = topology_of(name)
    known = topology.sources()
    inputs = {source: files(str(path), schema=known[source].schema, format="json") for source, path in sources.items()}
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    topology.run(Config(parallelism=cores), bind={**inputs, sink: files(str(output), format="json")})
    after = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def apart(name: str, sources: dict[str, Path], cores: int, output: Path) -> tuple[float, float]:
    """Run here in a process of its own, on so many cores."""
    given = json.dumps([name, {key: str(path) for key, path in sources.items()}, cores, str(output)])
    command = ["taskset", "-c", _cores(cores), sys.executable, __file__, "--run", given]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    wall, cpu = json.loads(done.stdout.splitlines()[-1])
    return float(wall), float(cpu)


def _cores(count: int) -> str:
    return ",".join(map(str, sorted(os.sched_getaffinity(0))[:count]))


@contextmanager
def held_to(flink: Cluster, cores: int) -> Iterator[None]:
    """Keep the TaskManagers on so many cores."""
    for process in flink.task_managers:
        subprocess.run(["taskset", "-a", "-c", "-p", _cores(cores), str(process.pid)], capture_output=True, check=True)
    yield


def cpu_of(flink: Cluster) -> float:
    """Return the CPU seconds of the TaskManagers, and of the Python workers that they have started."""
    stats: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    family = {process.pid for process in flink.task_managers}
    while more := {pid for pid, one in stats.items() if int(one[1]) in family} - family:
        family |= more
    # Of those that have ended, their parents know.
    return sum(sum(map(int, stats[pid][11:15])) for pid in family) / TICKS


def there(flink: Cluster, name: str, sources: dict[str, Path], cores: int, output: Path) -> tuple[float, float]:
    """Run on Flink; return wall and CPU seconds."""
    topology, sink = topology_of(name)
    with held_to(flink, cores), Gateway(flink.gateway) as gateway:
        gateway.run(Statement("set", "parallelism", f"SET 'parallelism.default' = '{cores}'"))
        before, began = cpu_of(flink), time.monotonic()
        python_files = _project(topology, output) if name == "python" else None
        gateway.wait(gateway.submit(on_flink(topology, sources, {sink: output}), python_files=python_files))
        return time.monotonic() - began, cpu_of(flink) - before


def _project(topology: Topology, output: Path) -> str:
    """Write the modules of the function, and return where they are."""
    directory = output.with_suffix(".project")
    write_project(topology.to_flink(), directory, flink_function)
    return str(directory / "python")


def main() -> None:
    """Print a line for each topology and number of cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--python", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        name, sources, cores, output = json.loads(asked.run)
        print(json.dumps(run_here(name, {key: Path(path) for key, path in sources.items()}, cores, Path(output))))
        return
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=ROOT
    ).stdout.strip()
    print(f"{platform.machine()}, {os.cpu_count()} cores, commit {commit}, {asked.records} records, JSON files to JSON files")
    print(f"{'':8}{'cores':>6}{'here rec/s':>14}{'per CPU s':>12}{'Flink rec/s':>14}{'per CPU s':>12}")
    with tempfile.TemporaryDirectory() as temporary, Cluster(python=pyflink() if asked.python else None) as flink:
        directory = Path(temporary)
        for name, sources in sources_of(directory, asked.records).items():
            if name == "python" and not asked.python:
                continue
            count = sum(1 for path in sources.values() for _ in path.open("rb"))
            for cores in asked.cores:
                there(flink, name, sources, cores, directory / f"{name}.{cores}.warm")  # Java compiles on the way
                figures: list[Any] = [apart(name, sources, cores, directory / f"{name}.{cores}.jsonl")]
                figures.append(there(flink, name, sources, cores, directory / f"{name}.{cores}.flink"))
                rates = [count / part for wall, cpu in figures for part in (wall, cpu)]
                print(f"{name:8}{cores:>6}{rates[0]:>14,.0f}{rates[1]:>12,.0f}{rates[2]:>14,.0f}{rates[3]:>12,.0f}", flush=True)


if __name__ == "__main__":
    main()
