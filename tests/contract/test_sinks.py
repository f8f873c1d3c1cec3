"""What a sink promises, of each connector and against its real server."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from streamdsl import Config, ConnectorError, StreamError, Topology, files, memory, object_stores
from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.transaction import Marker, Transaction
from streamdsl.schema import Schema
from tests.contract.places import PLACES, SCHEMA, Place, rows
from tests.held import Held


@pytest.fixture(autouse=True)
def killed() -> Iterator[None]:
    """Workers that a test has let die have threads all the same."""
    Worker.alive = []
    yield
    for worker in Worker.alive:
        with contextlib.suppress(Exception):  # whatever a dead one says
            worker.close()


class Worker:
    """Writes as a job does: a writer, and the transaction if there is one. A checkpoint is published once both have it."""

    alive: ClassVar[list[Worker]] = []

    def __init__(self, place: Place, name: str, states: dict[int, Json]) -> None:
        self.alive.append(self)
        sink = place.sink().configured(Config(), "contract")
        self.states, self.transaction = states, None
        self.restored = max(states, default=0)
        if sink.transactional:
            self.transaction: Transaction | None = sink.new_transaction("contract", [sink])
            self.transaction.look(name)
            marker = self.transaction.open(name)
            self.restored = 0 if marker is None else marker.checkpoint_id
            self.writer: SinkWriter = sink.open_in(self.transaction, SCHEMA, (), 0)
            self.transaction.begin(self._marker(self.restored))
        else:
            self.writer = sink.open_writer(SCHEMA, (), 0, 1, states.get(self.restored))

    def _marker(self, checkpoint: int) -> Marker:
        return Marker(checkpoint, f"digest {checkpoint}")

    def write(self, first: int, count: int) -> None:
        batch = pa.RecordBatch.from_pylist(rows(first, count), schema=SCHEMA.to_arrow())
        self.writer.write(batch, pa.array(range(count), pa.int64()))

    def _snapshot(self, checkpoint: int) -> None:
        self._taken = json.loads(json.dumps(self.writer.snapshot(checkpoint)))

    def _publish(self, checkpoint: int) -> None:
        self.states[checkpoint] = self._taken

    def _commit(self, checkpoint: int) -> None:
        if self.transaction is not None:
            self.transaction.commit(self._marker(checkpoint))

    def go(self, checkpoint: int, *steps: str) -> None:
        """Take steps of a checkpoint of ten rows."""
        first = 10 * checkpoint - 10
        known = {
            "write": lambda: self.write(first, 4),
            "empty": lambda: self.write(first, 0),
            "write more": lambda: self.write(first + 4, 6),
            "flush": self.writer.flush,
            "snapshot": lambda: self._snapshot(checkpoint),
            "write behind": lambda: self.write(first + 10, 3),  # of the next one, whose writer has not heard of the commit
            "publish": lambda: self._publish(checkpoint),
            "commit": lambda: self._commit(checkpoint),
            "tell": lambda: self.writer.commit(checkpoint),
        }
        for step in steps:
            known[step]()

    def close(self) -> None:
        self.writer.close()
        if self.transaction is not None:
            self.transaction.close()


STEPS = ("write", "empty", "write more", "flush", "snapshot", "write behind", "publish", "commit", "tell")
WHOLE = tuple(step for step in STEPS if step != "write behind")
WITHOUT_ROWS = tuple(step for step in WHOLE if "write" not in step)


#: In an object store each step takes long: only there where something is in it that the checkpoint has not, or the other way round.
POINTS = [(place, point) for place in PLACES for point in (range(len(STEPS) + 1) if "S3" not in place else (3, 6, 8))]


@pytest.mark.parametrize(("place", "point"), POINTS, indirect=["place"])
def test_a_kill_at_any_point_leaves_each_row_once(place, point):
    """A worker dies in front of each step of its second checkpoint: connections break, and nobody says goodbye."""
    states: dict[int, Json] = {}
    worker = Worker(place, "one", states)
    worker.go(1, *WHOLE)
    worker.go(2, *STEPS[:point])
    if place.link is not None:
        place.link.cut()
    again = Worker(place, "two", states)
    assert again.restored in (1, 2)
    for checkpoint in range(again.restored + 1, 5):
        again.go(checkpoint, *WHOLE)
    again.close()
    assert place.rows() == rows(0, 40)


def test_rows_behind_a_barrier_belong_to_the_next_checkpoint(place):
    worker = Worker(place, "one", {})
    worker.go(1, *STEPS)
    worker.write(13, 2)
    worker.go(2, *WITHOUT_ROWS)
    worker.close()
    assert place.rows() == rows(0, 15)


def test_checkpoints_without_rows(place):
    worker = Worker(place, "one", {})
    for checkpoint in (1, 2):
        worker.go(checkpoint, *WITHOUT_ROWS)
    worker.close()
    worker = Worker(place, "two", worker.states)
    worker.go(3, *WHOLE)
    worker.close()
    assert place.rows() == rows(20)


def test_a_checkpoint_that_fails_loses_nothing(place, monkeypatch):
    """The server is away while a snapshot is taken. The run goes on, unless the writer says that it cannot."""
    monkeypatch.setattr(object_stores, "_PAUSE_S", 0.001)
    states: dict[int, Json] = {}
    worker = Worker(place, "one", states)
    worker.go(1, *WHOLE)
    place.leave(monkeypatch)
    dead = False
    try:
        worker.go(2, "write", "write more")
        with pytest.raises(ConnectorError) as caught:
            worker.go(2, "snapshot")
        dead = bool(caught.value.context.get("lasting"))
        # A disk that is full ends the run; a server that is away is waited for.
        assert not dead or place.link is None or caught.value.context["recoverable"]
    except ConnectorError as error:
        dead = True
        assert error.context["recoverable"]
    place.come_back(monkeypatch)
    if dead:
        worker.close()
        worker = Worker(place, "two", states)
    for checkpoint in range(worker.restored + 1 if dead else 3, 4):
        worker.go(checkpoint, *WHOLE)
    worker.close()
    assert place.rows() == rows(0, 30)


def job(place: Place, tmp_path: Any, count: int) -> Topology:
    return job_of(place, written_rows(tmp_path, count))


def job_of(place: Place, source: Any) -> Topology:
    topology = Topology("contract")
    topology.stream(source, name="in").to(place.sink(), name="out")
    return topology


def written_rows(tmp_path: Any, count: int, rate: float | None = None) -> Any:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(0, count)))
    return files(tmp_path / "in.jsonl", SCHEMA, rate=rate)


def config(tmp_path: Any, **more: Any) -> Config:
    return Config(state_dir=tmp_path / "state", checkpoint_interval="50ms", **more)


def test_a_job_writes_names_nulls_and_texts_as_they_are(place, tmp_path):
    job(place, tmp_path, 40).run(config(tmp_path))
    assert place.rows() == rows(0, 40)


def test_a_job_without_rows(place, tmp_path):
    job(place, tmp_path, 0).run(config(tmp_path))
    job(place, tmp_path, 3).run(config(tmp_path))
    assert place.rows() == rows(0, 3)


def test_a_second_worker_of_a_state_directory_is_refused(place, tmp_path):
    read = written_rows(tmp_path, 120)
    source = Held(read, rows=60)
    run = job_of(place, source).start(config(tmp_path))
    with pytest.raises(StreamError, match=r"in use|runs"):
        job_of(place, read).run(config(tmp_path))
    source.over.set()
    assert run.wait(60)
    assert place.rows() == rows(0, 120)


def wait_for_a_checkpoint(run: Any) -> None:
    until = time.monotonic() + 60
    while not run.metrics()["checkpoints"]["completed"]:
        assert not run.wait(0.02) and time.monotonic() < until


def test_a_server_that_goes_and_comes_back_loses_nothing(place, tmp_path):
    if place.link is None:
        return
    source = Held(written_rows(tmp_path, 200, rate=400.0), rows=100)
    run = job_of(place, source).start(config(tmp_path))
    wait_for_a_checkpoint(run)
    place.link.leave()
    source.over.set()
    assert not run.wait(0.2)
    place.link.come_back()
    assert run.wait(60)
    assert place.rows() == rows(0, 200)


def test_a_slow_server_holds_the_job_back(place, tmp_path):
    if place.link is None:
        return
    place.link.slow(0.01)
    job(place, tmp_path, 60).run(Config(state_dir=tmp_path / "state"))
    place.link.slow(0)
    assert place.rows() == rows(0, 60)


def test_rows_that_do_not_fit_are_refused_and_named(place):
    for sink, schema, words in place.wrong():
        values = {pa.int64(): 0, pa.string(): None, pa.float64(): 1.0, pa.bool_(): True}
        row = {field.name: None if field.nullable else values[field.type] for field in schema.fields}
        with pytest.raises(StreamError, match=words):
            written(sink, schema, [row])


def written(sink: Any, schema: Schema, given: list[dict[str, Any]]) -> None:
    topology = Topology("contract")
    topology.stream(memory("in", schema, given), name="in").to(sink, name="out")
    topology.run(Config())


def test_a_wrong_password_ends_the_start_and_is_not_shown(place):
    refused = place.refused()
    if refused is None:
        return
    sink, words = refused
    place.locked(True)
    with pytest.raises(ConnectorError, match=words) as caught:
        written(sink, SCHEMA, rows(0, 1))
    shown = f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    place.locked(False)
    assert "hunter2" not in shown and "battery" not in shown and not caught.value.context.get("recoverable")
