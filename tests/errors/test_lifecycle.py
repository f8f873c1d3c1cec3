"""How runs end: finished, stopped, drained, failed, restarted, abandoned; nothing is left behind and nothing hangs."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from streamdsl import Config, Topology, count, files, memory
from streamdsl._native.state.memory import MemoryBackend
from streamdsl.checkpoint.history import DirectoryHistory
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.connectors.base import Chunk, End, Json, Sink, SinkWriter, Source, SplitReader
from streamdsl.errors import ConnectorError, StateError, StreamError
from streamdsl.runtime import restarts

from .jobs import ROWS, SCHEMA, Gate, GatedSink, GatedSource, Numbering, check_numbered, read_jsonl, streamdsl_threads, windows, write_csv

HALF = 20


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """No thread, no descriptor, no temporary directory outlives a run, however it ended."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(restarts, "FIRST_RESTART_S", 0.001)
    write_csv(tmp_path / "in.csv")
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert not streamdsl_threads()
    assert not glob.glob(str(tmp_path / "tmp" / "*"))
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def job(place: Path, source: Source | None = None, sink: Sink | None = None) -> Topology:
    """Numbered records."""
    topology = Topology("job")
    stream = topology.stream(source or files(place / "in.csv", schema=SCHEMA), timestamp="at", name="in")
    stream.key_by("k").process(Numbering(), name="number").to(sink or files(place / "out.jsonl"), name="out")
    return topology


# ---------------------------------------------------------------------- stop and drain


def test_a_stop_closes_no_window_and_the_next_run_goes_on(tmp_path: Path) -> None:
    gate = Gate(HALF + 5, hold=True)
    run = windows(tmp_path, gate).start(Config(state_dir=tmp_path / "state", checkpoint_interval="5ms"))
    assert gate.covered.wait(60)
    run.stop()
    assert run.wait(60) and not run.finished
    stopped = read_jsonl(tmp_path / "out.jsonl")
    assert len(stopped) == 6, "the windows that had closed"
    windows(tmp_path, Gate(0)).run(Config(state_dir=tmp_path / "state", parallelism=2, checkpoint_interval="5ms"))
    rows = read_jsonl(tmp_path / "out.jsonl")
    (tmp_path / "once").mkdir()
    write_csv(tmp_path / "once" / "in.csv")
    windows(tmp_path / "once", Gate(0)).run(Config(checkpoint_interval="5ms"))
    assert sorted(map(str, rows)) == sorted(map(str, read_jsonl(tmp_path / "once" / "out.jsonl")))
    assert rows[: len(stopped)] == stopped


def test_a_drain_closes_windows_and_finishes(tmp_path: Path) -> None:
    gate = Gate(HALF + 5, hold=True)
    config = Config(state_dir=tmp_path / "state", checkpoint_interval="5ms", parallelism=2)
    run = windows(tmp_path, gate).start(config)
    assert gate.covered.wait(60)
    run.drain()
    assert run.wait(60) and run.finished
    assert sum(row["count"] for row in read_jsonl(tmp_path / "out.jsonl")) == HALF + 5
    again = windows(tmp_path, Gate(0)).run(config)
    assert again.already_finished and again.finished


def test_a_stop_before_anything_was_read(tmp_path: Path) -> None:
    gate = Gate(0, hold=True)
    run = windows(tmp_path, gate).start(Config(state_dir=tmp_path / "state"))
    run.stop()
    assert run.wait(60)
    windows(tmp_path, Gate(0)).run(Config(state_dir=tmp_path / "state", checkpoint_interval="5ms"))
    assert sum(row["count"] for row in read_jsonl(tmp_path / "out.jsonl")) == ROWS


@pytest.mark.parametrize("parallelism", [1, 3])
def test_stops_at_any_moment(tmp_path: Path, parallelism: int) -> None:
    """Stopped again and again, wherever it happens to be, a job comes to the same end."""
    for start in range(12):
        gate = Gate(3 + start % 4, hold=True)
        source = GatedSource(files(tmp_path / "in.csv", schema=SCHEMA), gate)
        run = job(tmp_path, source).start(Config(state_dir=tmp_path / "state", parallelism=1 + (start + parallelism) % 3))
        run.stop()
        run.wait()
    assert job(tmp_path).run(Config(state_dir=tmp_path / "state", parallelism=parallelism)).finished
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


def test_a_stop_after_the_end_changes_nothing(tmp_path: Path) -> None:
    run = job(tmp_path).start(Config(state_dir=tmp_path / "state"))
    run.wait()
    run.stop()
    run.drain()
    assert run.wait() and run.finished
    assert run.abandon()
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


def test_an_abandoned_run_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    gate = Gate(HALF, hold=True)
    source = GatedSource(files(tmp_path / "in.csv", schema=SCHEMA), gate)
    run = job(tmp_path, source, GatedSink(files(tmp_path / "out.jsonl"), gate)).start(
        Config(state_dir=tmp_path / "state", checkpoint_interval="5ms")
    )
    assert gate.covered.wait(60)
    assert run.abandon(60)
    assert run.wait() and not run.finished
    second = job(tmp_path).run(Config(state_dir=tmp_path / "state"))
    assert sum(second.metrics()["tasks"][0]["splits"].values()) == ROWS - HALF
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


# ---------------------------------------------------------------------- failing connectors


class Failing:
    """Raises where it is told to, so often."""

    def __init__(self, place: str, error: Callable[[], Exception], times: int = 1) -> None:
        self.place, self.error, self.times = place, error, times

    def at(self, place: str) -> None:
        if place == self.place and self.times > 0:
            self.times -= 1
            raise self.error()


class FailingSource(Source):
    """Another source, which fails somewhere."""

    bounded = True

    def __init__(self, inner: Source, failing: Failing) -> None:
        self.inner, self.failing, self.name, self.schema = inner, failing, inner.name, inner.schema

    def splits(self) -> Sequence[str]:
        self.failing.at("splits")
        return self.inner.splits()

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        self.failing.at("open_split")
        return _FailingReader(self.inner.open_split(split, position, columns), self.failing)


class _FailingReader(SplitReader):
    def __init__(self, inner: SplitReader, failing: Failing) -> None:
        self.inner, self.failing, self.chunks = inner, failing, 0

    def read(self, max_rows: int) -> Chunk | End | None:
        chunk = self.inner.read(7)
        self.chunks += 1
        if self.chunks == 3:
            self.failing.at("read")
            if self.failing.place == "rows" and self.failing.times:
                self.failing.times -= 1
                return Chunk(pa.record_batch({"x": [1.5]}), None)
        return chunk

    def position(self, chunk: Chunk, rows: int) -> Json:
        if self.chunks == 3:
            self.failing.at("position")
        return self.inner.position(chunk, rows)

    def close(self) -> None:
        self.inner.close()
        self.failing.at("reader.close")


class FailingSink(Sink):
    """Another sink, which fails somewhere."""

    def __init__(self, inner: Sink, failing: Failing) -> None:
        self.inner, self.failing, self.name = inner, failing, inner.name

    def open_writer(self, schema: Any, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        self.failing.at("open_writer")
        return _FailingWriter(self.inner.open_writer(schema, keys, task, tasks, state), self.failing)


class _FailingWriter(SinkWriter):
    def __init__(self, inner: SinkWriter, failing: Failing) -> None:
        self.inner, self.failing = inner, failing

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        self.failing.at("write")
        self.inner.write(rows, timestamps)

    def flush(self) -> None:
        self.failing.at("flush")
        self.inner.flush()

    def snapshot(self, checkpoint_id: int) -> Json:
        return self.inner.snapshot(checkpoint_id)

    def commit(self, checkpoint_id: int) -> None:
        self.inner.commit(checkpoint_id)
        self.failing.at("commit")

    def close(self) -> None:
        self.inner.close()
        self.failing.at("close")


PLACES = [
    "splits",
    "open_split",
    "read",
    "rows",
    "position",
    "reader.close",  # of a source
    "open_writer",
    "write",
    "flush",
    "commit",
    "close",  # of a sink
]
ERRORS: dict[str, Callable[[], Exception]] = {
    "ours": lambda: ConnectorError("the line is dead", remedy="call somebody"),
    "the system's": lambda: OSError(28, "No space left on device"),
    "any": lambda: ValueError("the line is dead"),
}


def failing_job(place: Path, failing: Failing) -> Topology:
    return job(place, FailingSource(files(place / "in.csv", schema=SCHEMA), failing), FailingSink(files(place / "out.jsonl"), failing))


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", PLACES)
def test_a_failing_connector_ends_the_run_and_the_next_one_goes_on(where: str, error: str, parallelism: int, tmp_path: Path) -> None:
    failing = Failing(where, ERRORS[error])
    config = Config(state_dir=tmp_path / "state", parallelism=parallelism, checkpoint_interval="5ms")
    with pytest.raises(ConnectorError) as caught:
        failing_job(tmp_path, failing).run(config)
    text = str(caught.value)
    if where != "rows" and error == "ours":
        assert "the line is dead" in text and "call somebody" in text
    elif where != "rows":
        assert ("'out'" if where in PLACES[6:] else "'in'") in text and str(ERRORS[error]()) in text
        assert isinstance(caught.value.__cause__, type(ERRORS[error]()))
    assert not streamdsl_threads()
    job(tmp_path).run(config)
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


@pytest.mark.parametrize("where", ["read", "rows", "position", "write", "flush"])
def test_a_restart_mends_what_passes(where: str, tmp_path: Path) -> None:
    failing = Failing(where, ERRORS["any"], times=2)
    run = failing_job(tmp_path, failing).run(Config(restarts=2, checkpoint_interval="5ms", parallelism=2))
    assert run.finished and failing.times == 0
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


@pytest.mark.parametrize("where", ["open_split", "open_writer"])
def test_a_restart_that_cannot_begin_counts_as_one(where: str, tmp_path: Path) -> None:
    """The first start works, the run fails, the first restart cannot begin, the second can."""

    class Later(Failing):
        def at(self, place: str) -> None:
            if (place == "read" and self.times == 2) or (place == where and self.times == 1):
                self.times -= 1
                raise ValueError("not now")

    run = failing_job(tmp_path, Later("", ValueError, times=2)).run(Config(restarts=2))
    assert run.finished
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


def test_restarts_end(tmp_path: Path) -> None:
    failing = Failing("read", ERRORS["any"], times=10**6)
    with pytest.raises(ConnectorError, match="the line is dead"):
        failing_job(tmp_path, failing).run(Config(restarts=3))
    assert failing.times == 10**6 - 4


def test_a_stop_does_not_wait_for_the_next_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(restarts, "FIRST_RESTART_S", 3600.0)
    run = failing_job(tmp_path, Failing("read", ERRORS["any"], times=10**6)).start(Config(restarts=3))
    while not any("started again" in record.getMessage() for record in caplog.records):
        assert not run._done.wait(0.001)
    run.stop()
    with pytest.raises(ConnectorError):
        run.wait(60)


def test_wait_raises_every_time(tmp_path: Path) -> None:
    run = failing_job(tmp_path, Failing("read", ERRORS["any"])).start()
    for _ in range(2):
        with pytest.raises(ConnectorError):
            run.wait()
    assert run.metrics()["phase"] == "ended"


def test_a_failure_between_the_last_checkpoint_and_the_end_is_told(tmp_path: Path) -> None:
    """The commit of the last checkpoint fails when the control plane has left its loop already."""
    started = threading.Event()
    runs: list[Any] = []

    class Late(Failing):
        def at(self, place: str) -> None:
            if place == "commit":
                assert started.wait(60)
                while runs[0].metrics()["phase"] != "ended":
                    threading.Event().wait(0.001)
            super().at(place)

    runs.append(failing_job(tmp_path, Late("commit", ERRORS["any"])).start(Config(checkpoint_interval="1h")))
    started.set()
    with pytest.raises(ConnectorError, match="cannot commit"):
        runs[0].wait(60)


def test_two_tasks_that_fail_at_once(tmp_path: Path) -> None:
    """Both threads end; one of the errors is told, with its own record."""
    barrier = threading.Barrier(2, timeout=60)
    topology = Topology("job")

    def fail(row: Any) -> Any:
        if row.v >= ROWS // 2:
            barrier.wait()
            raise ValueError(f"no {row.v}")
        return row

    rows = [{"k": f"k{i}", "v": i, "at": i} for i in range(ROWS)]
    stream = topology.stream(memory("in", schema=SCHEMA, rows=rows, splits=2), timestamp="at")
    stream.map(fail, schema=SCHEMA).to(memory("out"))
    with pytest.raises(StreamError, match=r"no (20|21)\b") as caught:
        topology.run(Config(parallelism=2))
    value = caught.value.context["row"]["v"]
    assert f"no {value}" in str(caught.value)


# ---------------------------------------------------------------------- failing checkpoints


def failing_storage(monkeypatch: pytest.MonkeyPatch, method: str, times: int) -> list[int]:
    """Have a method of the storage fail so often; what is returned counts down."""
    left = [times]
    owner = DirectoryHistory if method == "share" else DirectoryStorage
    original = getattr(owner, method)

    def fail(self: Any, *arguments: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(28, "No space left on device")
        return original(self, *arguments)

    monkeypatch.setattr(owner, method, fail)
    return left


@pytest.mark.parametrize("method", ["begin", "publish", "share"])
def test_failed_checkpoints_are_tolerated(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = failing_storage(monkeypatch, method, 3)
    run = job(tmp_path).run(Config(state_dir=tmp_path / "state", checkpoint_interval="1ms"))
    assert run.finished and left == [0]
    assert run.metrics()["checkpoints"]["failed"] == 3
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


@pytest.mark.parametrize("method", ["begin", "publish", "share"])
@pytest.mark.parametrize("stopped", [False, True])
def test_one_more_is_fatal(method: str, stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_storage(monkeypatch, method, 10**6)
    config = Config(state_dir=tmp_path / "state", checkpoint_interval="1ms", checkpoint_failure_timeout="20ms")
    run = job(tmp_path).start(config)
    if stopped:
        run.stop()
    with pytest.raises(StateError) as caught:
        run.wait(60)
    assert "in a row within" in str(caught.value) and "No space left" in str(caught.value)
    monkeypatch.undo()
    job(tmp_path).run(config)
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


def test_a_checkpoint_that_takes_too_long_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one hangs until it has been given up; those behind it are good again."""
    given_up = threading.Event()
    original = MemoryBackend.checkpoint

    def slow(self: MemoryBackend, target: Any) -> None:
        assert given_up.wait(60)
        original(self, target)

    monkeypatch.setattr(MemoryBackend, "checkpoint", slow)
    gate = Gate(HALF, hold=True)
    source = GatedSource(files(tmp_path / "in.csv", schema=SCHEMA), gate)
    config = Config(state_dir=tmp_path / "state", state_backend="memory", checkpoint_interval="1ms", checkpoint_timeout="1ms")
    run = job(tmp_path, source).start(config)
    while not run.metrics()["checkpoints"]["failed"]:
        assert not run._done.wait(0.001)
    run.abandon(0)
    given_up.set()
    run.wait(60)
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    job(tmp_path).run(Config(state_dir=tmp_path / "state", state_backend="memory"))
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


class FullDisk:
    """`os.write` of the file sinks: no room, for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, calls: range) -> None:
        from streamdsl.connectors.files import text_writer

        self.original, self.calls, self.count = getattr(os, name), calls, 0
        system = type("system", (), {n: staticmethod(getattr(os, n)) for n in dir(os) if callable(getattr(os, n)) and n[0] != "_"})
        for constant in dir(os):
            if constant.startswith("O_") or constant in ("SEEK_SET", "path"):
                setattr(system, constant, getattr(os, constant))
        setattr(system, name, staticmethod(self.call))
        monkeypatch.setattr(text_writer, "os", system)

    def call(self, *arguments: Any) -> Any:
        self.count += 1
        if self.count - 1 in self.calls:
            raise OSError(28, "No space left on device")
        return self.original(*arguments)


@pytest.mark.parametrize(("call", "tolerated"), [("write", "0s"), ("write", "1m"), ("fsync", "0s")])
@pytest.mark.parametrize("first", [0, 1])
def test_a_full_disk_under_a_file_sink_loses_no_row(
    call: str, tolerated: str, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed write or fsync has swallowed is in no checkpoint: the run begins again from the last one, or another run does."""
    gate = Gate(3)
    source = GatedSource(files(tmp_path / "in.csv", schema=SCHEMA), gate)
    sink = GatedSink(files(tmp_path / "out.jsonl"), gate)
    config = Config(state_dir=tmp_path / "state", checkpoint_interval="1ms", checkpoint_failure_timeout=tolerated)
    ends = pytest.raises((ConnectorError, StateError), match="No space left") if tolerated == "0s" else contextlib.nullcontext()
    with monkeypatch.context() as patch:
        disk = FullDisk(patch, call, range(first, first + 1))
        with ends:
            job(tmp_path, source, sink).run(config)
        assert disk.count > first
    job(tmp_path).run(config)
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


# ---------------------------------------------------------------------- odd shapes


class NoSplits(Source):
    """A source that has nothing to read."""

    name, bounded = "in", True

    def __init__(self, schema: Any) -> None:
        self.schema = schema

    def splits(self) -> Sequence[str]:
        return []

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        raise NotImplementedError


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_source_without_splits_ends_at_once(parallelism: int, tmp_path: Path) -> None:
    schema = files(tmp_path / "in.csv", schema=SCHEMA).schema
    topology = Topology("job")
    keyed = topology.stream(NoSplits(schema), timestamp="at", name="in").key_by("k")
    keyed.aggregate(n=count(), name="n").to_stream().to(files(tmp_path / "out.jsonl"), name="out")
    config = Config(state_dir=tmp_path / "state", parallelism=parallelism)
    assert topology.run(config).finished
    assert topology.run(config).already_finished
    assert read_jsonl(tmp_path / "out.jsonl") == []


def test_figures_can_be_asked_for_at_any_time(tmp_path: Path) -> None:
    failing = Failing("read", ERRORS["any"], times=3)
    run = failing_job(tmp_path, failing).start(Config(restarts=5, checkpoint_interval="1ms", parallelism=2))
    asked = 0
    while not run.wait(0):
        assert set(run.metrics()) >= {"tasks", "operators", "checkpoints", "latency_ms", "sinks", "phase"}
        asked += 1
    assert run.metrics()["phase"] == "ended" and run.metrics()["sinks"]["out"] > 0 and asked
