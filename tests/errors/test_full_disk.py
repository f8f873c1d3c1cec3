"""A disk that is full for a moment ends no run, however often it takes checkpoints: nothing is lost and nothing comes twice."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.jobs import environment

JOB = """
import json, sys
from streamdsl import Config, Topology, count, files, memory

topology, out = Topology("job"), memory("out")
schema = {"k": str, "v": int, "at": int}
rows = topology.stream(files("in.csv", schema=schema, rate=400), timestamp="at", name="in")
rows.key_by("k").aggregate(n=count()).to(out)
run = topology.start(Config(state_dir="state", checkpoint_interval="200ms", state_backend=sys.argv[1]))
print("started", flush=True)
run.wait()
print(json.dumps({"finished": run.finished, "last": {row["k"]: row["n"] for row in out.rows()}}))
"""
ROWS = 2000


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "in.csv").write_text("k,v,at\n" + "".join(f"k{i % 3},{i},{100 * i}\n" for i in range(ROWS)))
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, "job.py", request.param]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("started", ["memory", "rocksdb"], indirect=True)
def test_a_disk_that_takes_nothing_for_a_moment(started: subprocess.Popen[str]) -> None:
    """No file may grow meanwhile: every write of a checkpoint, of its manifest and of the database is refused by the system."""
    assert started.stdout is not None
    assert started.stdout.readline() == "started\n"
    for _ in range(2):
        time.sleep(0.6)
        before = resource.prlimit(started.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        time.sleep(0.8)
        resource.prlimit(started.pid, resource.RLIMIT_FSIZE, before)
    out, said = started.communicate(timeout=60)
    assert started.returncode == 0, said
    found = json.loads(out)
    assert found["finished"] and said.count("File too large") >= 3, said
    assert found["last"] == {f"k{k}": len(range(k, ROWS, 3)) for k in range(3)}
