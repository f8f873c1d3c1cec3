"""A stop ends in time whatever hangs, and what it could not commit is computed again: once, and only by the next run."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamdsl import Config, Topology, files
from streamdsl.checkpoint.history import DirectoryHistory
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.connectors.base import Sink, Source
from streamdsl.connectors.files.text_writer import TextWriter
from streamdsl.errors import StateError
from tests.cli.jobs import worker

from . import jobs
from .jobs import ROWS, SCHEMA, Gate, GatedReader, GatedSink, GatedSource, check_numbered, read_jsonl, streamdsl_threads, write_csv

TIMEOUT_S = 1.5


class Hanging:
    """Has a call wait, from when it is told to until it is let go."""

    def __init__(self) -> None:
        self.armed, self.there, self.go = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> None:
        if self.armed.is_set():
            self.there.set()
            assert self.go.wait(60)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.go.set()


def hangs_in(owner: Any, method: str, hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(owner, method)

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        hanging()
        return original(self, *arguments, **named)

    monkeypatch.setattr(owner, method, call)


def job(place: Path, hanging: Hanging | None, source: Source | None = None, sink: Sink | None = None) -> Topology:
    def slow(row: Any) -> Any:
        if hanging is not None:
            hanging()
        return row

    topology = Topology("job")
    stream = topology.stream(source or files(place / "in.csv", schema=SCHEMA), timestamp="at", name="in")
    stream.map(slow, schema=SCHEMA).key_by("k").process(jobs.Numbering(), name="number").to(sink or files(place / "out.jsonl"), name="out")
    return topology


#: Whose call hangs; that of "function" is the user's.
OWNERS: dict[str, Any] = {
    **dict.fromkeys(("write", "flush", "snapshot", "commit", "close"), TextWriter),
    "read": GatedReader,
    **dict.fromkeys(("begin", "publish"), DirectoryStorage),
    "share": DirectoryHistory,
}


@pytest.mark.parametrize("where", ["function", *OWNERS])
def test_a_stop_ends_whatever_hangs(
    where: str, hanging: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A function, a method of the sink, the source, the disk of the checkpoints."""
    write_csv(tmp_path / "in.csv")
    gate = Gate(ROWS // 2, hold=True)
    source, sink = GatedSource(files(tmp_path / "in.csv", schema=SCHEMA), gate), GatedSink(files(tmp_path / "out.jsonl"), gate)
    config = Config(state_dir=tmp_path / "state", checkpoint_interval="5ms", stop_timeout=f"{TIMEOUT_S}s")
    with monkeypatch.context() as patch:
        if where in OWNERS:
            hangs_in(OWNERS[where], where, hanging, patch)
        run = job(tmp_path, hanging if where == "function" else None, source, sink).start(config)
        assert gate.covered.wait(60)
        hanging.armed.set()
        gate.rows += 5
        if where != "close":
            assert hanging.there.wait(60)
        began = time.monotonic()
        run.stop()
        assert run.wait()
        assert time.monotonic() - began < TIMEOUT_S + 0.5
        assert run.left_behind and not run.finished
        said = [record.getMessage() for record in caplog.records if "asked to stop" in record.getMessage()]
        assert len(said) == 1 and "computes again" in said[0]
        with pytest.raises(StateError, match="in use"):
            job(tmp_path, None).start(config)
        hanging.go.set()
        run._control.join(60)
    assert not run.left_behind and not streamdsl_threads()
    assert job(tmp_path, None).run(config).finished
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


WORKER = """
import time
from pathlib import Path
from streamdsl import Topology, files

here = Path(__file__).parent
topology = Topology("job")

def slow(row):
    if row.v >= int((here / "hangs-at").read_text()):
        print("hangs", flush=True)
        time.sleep(3600)
    return row

schema = {"k": str, "v": int, "at": int}
topology.stream(files(here / "in.csv", schema=schema), timestamp="at", name="in").map(slow, schema=schema).to(files(here / "out.jsonl"))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_leaves_in_time(number: signal.Signals, tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv")
    (tmp_path / "job.py").write_text(WORKER)
    (tmp_path / "hangs-at").write_text("25")
    target = ("-A", "job.py", "worker", "--state-dir", "state", "--checkpoint-interval", "10ms", "--stop-timeout", "1500ms")
    with worker(*target, place=tmp_path) as running:
        assert running.process.stdout is not None
        assert running.process.stdout.readline() == "hangs\n"
        running.until("twice: at once")  # before that, a signal leaves at once
        began = time.monotonic()
        running.process.send_signal(number)
        code, said = running.ended()
        assert time.monotonic() - began < TIMEOUT_S + 1
    assert code == 0 and said.count("computes again") == 1, said
    (tmp_path / "hangs-at").write_text("1000")
    with worker(*target, place=tmp_path) as running:
        assert running.ended()[0] == 0
    assert sorted(row["v"] for row in read_jsonl(tmp_path / "out.jsonl")) == list(range(ROWS))
