"""User code that takes its time: results, stops and checkpoints do not wait for a whole batch of calls."""

from __future__ import annotations

import time

import pytest

from streamdsl import Aggregate, Config, Processor, Topology, col, expanding, files, memory, tumbling

CALL_S = 0.05
ROWS = [{"k": "abcdef"[i % 6], "b": i} for i in range(4_096)]


class Slow(Processor):
    """Waits for each row, as for an answer from somewhere else."""

    output = {"b": int}

    def process(self, row, ctx):
        time.sleep(CALL_S)
        yield {"b": row.b}


def slow_row(row):
    time.sleep(CALL_S)
    return True


JOBS = {
    "filter": lambda s: s.filter(slow_row),
    "map": lambda s: s.map(lambda row: {"b": row.b} if slow_row(row) else None, schema={"b": int}),
    "process": lambda s: s.key_by("k").process(Slow, name="slow"),
    "reduce": lambda s: s.key_by("k").reduce(lambda so_far, row: slow_row(row) and row, name="slow"),
    "aggregate": lambda s: s.key_by("k").aggregate(n=Aggregate(init=int, add=lambda n, x: n + slow_row(x), type=int)(col("b"))),
    "frame": lambda s: s.key_by("k").with_columns(
        n=Aggregate(init=int, add=lambda n, x: n + slow_row(x), type=int)(col("b")).over(expanding())
    ),
    "behind a filter": lambda s: s.filter(lambda row: row.b >= 0).key_by("k").process(Slow, name="slow"),
}


class SlowWindow(Processor):
    """Waits for each window."""

    output = {"b": int}

    def process_window(self, key, window, rows, ctx):
        time.sleep(CALL_S)
        return {"b": len(rows)}


def test_windows_that_close_together_do_so_step_by_step(tmp_path):
    rows = [{"k": str(i), "at": i % 10} for i in range(2_000)]
    topology = Topology("t")
    stream = topology.stream(memory("in", schema={"k": str, "at": int}, rows=rows), timestamp="at")
    stream.key_by("k").window(tumbling(10)).process(SlowWindow, name="slow").to(files(tmp_path / "out.jsonl"))
    run = topology.start(Config(state_dir=tmp_path / "state", checkpoint_interval="200ms", stop_timeout="1s"))
    time.sleep(1.0)
    began = time.monotonic()
    run.stop()
    run.wait()
    assert time.monotonic() - began < 2.5
    assert not run.left_behind


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_stop_takes_about_a_second(tmp_path, job, parallelism):
    topology = Topology("t")
    made = JOBS[job](topology.stream(memory("in", schema={"k": str, "b": int}, rows=ROWS)))
    made.to(files(tmp_path / "out.jsonl"))
    run = topology.start(Config(state_dir=tmp_path / "state", parallelism=parallelism, checkpoint_interval="200ms"))
    time.sleep(1.0)
    assert run.metrics()["checkpoints"]["completed"] > 0
    began = time.monotonic()
    run.stop()
    run.wait()
    assert time.monotonic() - began < 2.0
    assert (tmp_path / "out.jsonl").read_text().count("\n") > 0


def test_the_first_result_does_not_wait_for_the_batch():
    began = time.monotonic()
    seen = []
    rows = Topology("t").stream(memory("m", schema={"b": int}, rows=[{"b": i} for i in range(300)]))
    slow = rows.filter(lambda row: (time.sleep(0.005), True)[1])
    slow.peek(lambda row: seen.append(time.monotonic() - began)).collect()
    assert len(seen) == 300
    assert seen[0] < 0.6


def test_what_was_left_of_a_batch_comes_at_the_next_start(tmp_path):
    for _ in range(2):
        topology = Topology("t")
        rows = topology.stream(memory("in", schema={"k": str, "b": int}, rows=ROWS[:60]))
        rows.key_by("k").process(Slow, name="slow").to(files(tmp_path / "out.jsonl"))
        run = topology.start(Config(state_dir=tmp_path / "state", parallelism=2))
        run.wait(0.6)
        run.stop()
        run.wait()
    topology = Topology("t")
    rows = topology.stream(memory("in", schema={"k": str, "b": int}, rows=ROWS[:60]))
    rows.key_by("k").process(Slow, name="slow").to(files(tmp_path / "out.jsonl"))
    topology.run(Config(state_dir=tmp_path / "state", parallelism=2))
    found = [int(line.strip("{}").split(":")[1]) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(found) == list(range(60))
