"""A process that may not have enough memory: it says so or dies, and the next one goes on with nothing lost and nothing twice."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.jobs import environment

JOB = """
from streamdsl import Config, Topology, count, files

topology = Topology("job")
rows = topology.stream(files("in.csv", schema={"k": str, "v": int, "at": int}), timestamp="at", name="in").key_by("k")
rows.aggregate(n=count()).to_stream().to(files("out.jsonl"), name="out")
topology.run(Config(state_dir="state", checkpoint_interval="50ms", state_memory="1GiB"))
"""
KEYS, ROWS = 100_000, 150_000


def run(place: Path, limit: int | None) -> subprocess.CompletedProcess[str]:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    command = [sys.executable, "job.py"]
    return subprocess.run(
        command, cwd=place, env=environment(place), preexec_fn=limited, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("mib", [600, 750, 900])
def test_what_was_committed_is_there_and_the_rest_is_computed_again(mib: int, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("k,v,at\n" + "".join(f"key-{i % KEYS:09}-{'x' * 60},{i},{i}\n" for i in range(ROWS)))
    (tmp_path / "job.py").write_text(JOB)
    ended = run(tmp_path, mib << 20)
    # Whatever comes: a library that aborts for want of memory does not say so.
    assert ended.returncode == 0 or "(ulimit -v)" in ended.stderr, ended.stderr
    if ended.returncode == 1:
        said = ended.stderr.partition("what was committed stays")[2]  # behind the warning
        assert "memory" in said.lower() or "cannot allocate" in said.lower() or "thread" in said, said
    ended = run(tmp_path, None)
    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == ROWS
    last = {row["k"]: row["n"] for row in rows}
    assert len(last) == KEYS and sum(last.values()) == ROWS


NEARLY_FULL = """
import resource
from pathlib import Path
from confluent_kafka import KafkaError, KafkaException
from streamdsl.connectors.kafka.clients import patiently, short_of_memory

def silent():
    raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))

assert not short_of_memory()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (int(1.05 * used), resource.RLIM_INFINITY))
patiently("reading", silent, patience=0.0)
"""


def test_a_client_without_memory_says_so_where_it_hears_no_answer() -> None:
    done = subprocess.run([sys.executable, "-c", NEARLY_FULL], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "nearly all memory that it may (ulimit -v)" in done.stderr, done.stderr
