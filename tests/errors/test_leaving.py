"""A run that is left by an exception, of whatever kind, is abandoned: its threads end and its state directory is free."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from streamdsl import Config, Topology, files, memory

ROWS = [{"b": i} for i in range(50_000)]


def slow(tmp_path, seen):
    topology = Topology("t")
    rows = topology.stream(memory("m", schema={"b": int}, rows=ROWS))
    rows.filter(lambda row: (seen.append(row.b), time.sleep(0.001), True)[2]).to(files(tmp_path / "o.jsonl"), name="o")
    return topology


class Left(BaseException):
    """No `Exception`: what test runners and thread pools raise to end a thread's work."""


@pytest.mark.parametrize("kind", [TimeoutError, Left, MemoryError, GeneratorExit])
def test_run_left_by_an_exception(tmp_path, kind):
    seen = []

    def alarm(number, frame):
        # Until rows have come it is being made, and code that is none of ours may take the exception.
        if not seen:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            return
        raise kind

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(kind):
            slow(tmp_path, seen).run(Config(state_dir=tmp_path / "state", batch_rows=100))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert_left(tmp_path, seen)


def assert_left(tmp_path, seen):
    number = len(seen)
    time.sleep(0.3)
    assert len(seen) == number
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("streamdsl")]
    with slow(tmp_path, []).start(Config(state_dir=tmp_path / "state", batch_rows=100)):
        pass  # the directory is free


def test_start_as_a_block_left_by_an_exception(tmp_path):
    seen = []
    with pytest.raises(ZeroDivisionError), slow(tmp_path, seen).start(Config(state_dir=tmp_path / "state", batch_rows=100)):
        time.sleep(0.2)
        raise ZeroDivisionError
    assert_left(tmp_path, seen)


def test_start_as_a_block_stops_at_its_end(tmp_path):
    seen = []
    with slow(tmp_path, seen).start(Config(state_dir=tmp_path / "state", batch_rows=100)) as run:
        time.sleep(0.3)
    assert not run.finished
    assert 0 < len(seen) < len(ROWS)
    lines = (tmp_path / "o.jsonl").read_text().splitlines()
    assert len(lines) == len(seen)
    assert_left(tmp_path, seen)


def test_the_interpreter_ends_with_a_live_run(tmp_path):
    code = f"""
import time
from streamdsl import Config, Topology, files, memory
topology = Topology("t")
rows = topology.stream(memory("m", schema={{"b": int}}, rows=[{{"b": i}} for i in range(50_000)]))
rows.filter(lambda row: (time.sleep(0.001), True)[1]).to(files({str(tmp_path / "o.jsonl")!r}))
run = topology.start(Config(state_dir={str(tmp_path / "state")!r}, batch_rows=100))
time.sleep(0.2)
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 20
