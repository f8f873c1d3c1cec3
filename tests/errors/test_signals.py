"""Ctrl-C and SIGTERM, in a process of their own: the first takes a checkpoint, the second leaves at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from streamdsl import Config, Topology, files, tumbling

from .jobs import ROWS, SCHEMA, read_jsonl, write_csv

ROOT = str(Path(__file__).resolve().parents[2])
HALF = 25

#: Counts in windows, pauses at HALF for good. With "stuck", no checkpoint after that one comes to its end.
SCRIPT = """
    import sys, threading, time
    sys.path[:0] = sys.argv[3:]
    from pathlib import Path
    from streamdsl import Config
    from tests.errors.jobs import Gate
    from tests.errors.test_signals import windows

    place, how = Path(sys.argv[1]), sys.argv[2]

    class Told(Gate):
        def snapshot(self, checkpoint_id):
            if how == "stuck" and self.covered.is_set():
                print("stuck", flush=True)
                time.sleep(3600)
            super().snapshot(checkpoint_id)

        def commit(self, checkpoint_id):
            before = self.covered.is_set()
            super().commit(checkpoint_id)
            if self.covered.is_set() and not before:
                print("covered", flush=True)

    config = Config(state_dir=place / "state", checkpoint_interval="5ms" if how != "stuck" else "50ms")
    run = windows(place, Told(25, hold=True)).run(config)
    print("finished" if run.finished else "stopped", flush=True)
"""


def windows(place: Path, gate: object = None) -> Topology:
    """Counts by key in windows of 10 records."""
    from .jobs import Gate, GatedSink, GatedSource

    held = gate if isinstance(gate, Gate) else Gate(0)
    topology = Topology("job")
    stream = topology.stream(GatedSource(files(place / "in.csv", schema=SCHEMA), held), timestamp="at", name="in")
    stream.key_by("k").window(tumbling("1s")).count().to(GatedSink(files(place / "out.jsonl"), held), name="out")
    return topology


def started(place: Path, how: str) -> subprocess.Popen[str]:
    write_csv(place / "in.csv")
    arguments = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(place), how, ROOT]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(place)})


def said(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if found.strip() == line:
            return
    raise AssertionError(f"it never said {line!r}: {process.communicate()[1]}")


def left(process: subprocess.Popen[str], number: int) -> str:
    """Send a signal until the process has ended: one that comes before the last one was looked at is one with it."""
    for _ in range(60):
        process.send_signal(number)
        try:
            return process.communicate(timeout=1)[1]
        except subprocess.TimeoutExpired:
            pass
    raise AssertionError("it does not leave")


def resumed(place: Path) -> None:
    """The next run goes on from the checkpoint, with the windows that were open."""
    run = windows(place).run(Config(state_dir=place / "state", parallelism=2, checkpoint_interval="5ms"))
    assert run.finished and sum(run.metrics()["tasks"][0]["splits"].values()) == ROWS - HALF
    rows = read_jsonl(place / "out.jsonl")
    assert sum(row["count"] for row in rows) == ROWS
    assert len({(row["k"], str(row["window_start"])) for row in rows}) == len(rows) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_with_a_checkpoint(number: int, tmp_path: Path) -> None:
    with started(tmp_path, "") as process:
        try:
            said(process, "covered")
            process.send_signal(number)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert output.strip() == "stopped" and errors == ""
    resumed(tmp_path)


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)]
)
def test_the_second_signal_leaves_at_once(first: int, second: int, tmp_path: Path) -> None:
    """The last checkpoint hangs in the sink: only the second signal gets out, and nothing that was committed is lost."""
    with started(tmp_path, "stuck") as process:
        try:
            said(process, "covered")
            process.send_signal(first)
            said(process, "stuck")
            errors = left(process, second)
        finally:
            process.kill()
    assert process.returncode in ((-signal.SIGINT, 130) if second == signal.SIGINT else (128 + signal.SIGTERM,)), errors
    resumed(tmp_path)
