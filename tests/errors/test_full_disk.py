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
import pyarrow.parquet as pq
from streamdsl import Config, Topology, count, files, memory

backend, sink = sys.argv[1:]
topology, out = Topology("job"), memory("out") if sink == "memory" else files(sink)
schema = {"k": str, "v": int, "at": int}
rows = topology.stream(files("in.csv", schema=schema, rate=400), timestamp="at", name="in")
rows.key_by("k").aggregate(n=count()).to(out)
run = topology.start(Config(state_dir="state", checkpoint_interval="200ms", state_backend=backend))
print("started", flush=True)
run.wait()
if sink == "memory":
    rows = out.rows()
else:
    rows = pq.read_table(sink).to_pylist() if sink.endswith("parquet") else [json.loads(line) for line in open(sink)]
last = {}
for row in rows:
    last[row["k"]] = max(row["n"], last.get(row["k"], 0))
print(json.dumps({"finished": run.finished, "last": last, "doubles": len(rows) - len({(row["k"], row["n"]) for row in rows})}))
"""
ROWS = 2000


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "in.csv").write_text("k,v,at\n" + "".join(f"k{i % 3},{i},{100 * i}\n" for i in range(ROWS)))
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, "job.py", *request.param]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


JOBS = [("memory", "out.jsonl"), ("rocksdb", "out.parquet")]


@pytest.mark.parametrize("started", JOBS, ids=["-".join(job) for job in JOBS], indirect=True)
def test_a_disk_that_takes_nothing_for_a_moment(started: subprocess.Popen[str]) -> None:
    """No file may grow meanwhile: every write of a checkpoint, its manifest, the database and the sink is refused by the system."""
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
    assert found["finished"] and found["doubles"] == 0 and said.count("File too large") >= 3, said
    assert "started again" in said and ("out." in said.partition("started again")[2].partition("\n")[0]), said
    assert found["last"] == {f"k{k}": len(range(k, ROWS, 3)) for k in range(3)}
