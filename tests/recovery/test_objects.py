"""Checkpoints and savepoints in an object store: S3's protocol, by a server of this process, and a store that fails."""

from __future__ import annotations

import shutil
import threading
import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from moto.server import ThreadedMotoServer

from streamdsl import Config, ConfigError, StateError, Topology, col, files, memory, object_stores
from streamdsl.checkpoint import objects
from streamdsl.checkpoint.objects import ObjectStore
from tests import silence
from tests.tables.jobs import ROWS, SCHEMA, Held


@pytest.fixture(scope="module")
def s3():
    """The options of a client of an S3 server."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s"}
    before = dict(fsspec.config.conf)
    fsspec.config.conf["s3"] = endpoint
    fsspec.filesystem("s3", **endpoint).mkdir("bucket")
    yield endpoint
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)
    server.stop()


def job(place, rows):
    """Sums by key, from a source that grows, into a file that holds each row once."""
    (place / "in.jsonl").write_text("".join(f'{{"account": "{row["account"]}", "amount": {row["amount"]}}}\n' for row in rows))
    topology = Topology("sums")
    read = topology.stream(files(place / "in.jsonl", {"account": str, "amount": int}), name="in")
    read.key_by("account").aggregate(sum=col("amount").sum(), name="sums").to_stream().to(files(place / "out.jsonl"), name="out")
    return topology


def test_a_new_machine_goes_on_from_the_object_store(s3, tmp_path):
    url = f"s3://bucket/{uuid.uuid4().hex}"
    config = Config(state_dir=tmp_path / "one", checkpoint_store=url)
    job(tmp_path, ROWS[:200]).run(config)
    shutil.rmtree(tmp_path / "one")
    run = job(tmp_path, ROWS).run(Config(state_dir=tmp_path / "two", checkpoint_store=url))
    wanted = {}
    for row in ROWS:
        wanted[row["account"]] = wanted.get(row["account"], 0) + row["amount"]
    assert {row["account"]: row["sum"] for row in run.table("sums").scan()} == wanted
    assert (tmp_path / "out.jsonl").read_text().count("\n") == len(ROWS)


def test_only_what_is_new_is_sent_and_what_is_old_is_removed(s3, tmp_path):
    url = f"s3://bucket/{uuid.uuid4().hex}"
    source = Held([{"account": f"k{i % 500}", "n": 0, "amount": i, "at": i} for i in range(20_000)])
    topology = Topology("busy")
    topology.stream(source, timestamp="at", name="in").key_by("account").aggregate(n=col("amount").sum(), name="sums").to(memory("out"))
    config = Config(state_dir=tmp_path / "s", checkpoint_store=url, checkpoint_interval="50ms", retained_checkpoints=2, batch_rows=100)
    with topology.start(config) as run:
        while run.metrics()["checkpoints"]["completed"] < 5:
            assert not run.wait(0.02)
        source.over.set()
    store = ObjectStore(url)
    ids = store.ids("busy")
    system = fsspec.filesystem("s3", **s3)
    system.invalidate_cache()
    found = [path.removeprefix(url.removeprefix("s3://") + "/") for path in system.find(url)]
    assert len(ids) == 2 and sorted(name for name in found if name.endswith("manifest.json")) == [f"{i}/manifest.json" for i in ids]
    used = {objects._name(file) for i in ids for file in objects._files(store._manifest(i))}
    assert {name for name in found if name.startswith("files/")} == used


def held(place, source):
    """Sums by key of rows that wait for the test, into a file."""
    topology = Topology("held")
    read = topology.stream(source, timestamp="at", name="in")
    read.key_by("account").aggregate(n=col("amount").sum(), name="sums").to_stream().to(files(place / "out.jsonl"), name="out")
    return topology


def test_a_savepoint_is_written_to_and_begun_with(s3, tmp_path):
    url = f"s3://bucket/{uuid.uuid4().hex}"
    source = Held(ROWS)
    with held(tmp_path, source).start(Config(state_dir=tmp_path / "a")) as run:
        while run.metrics()["sinks"].get("out") != len(ROWS):
            assert not run.wait(0.02)
        assert run.savepoint(url) == url
        with pytest.raises(StateError, match="exists"):
            run.savepoint(url)
        source.over.set()
    source.over.set()
    run = held(tmp_path, source).run(Config(state_dir=tmp_path / "b", restore_from=url))
    assert sum(row["n"] for row in run.table("sums").scan()) == sum(row["amount"] for row in ROWS)
    assert (tmp_path / "out.jsonl").read_text().count("\n") == len(ROWS)
    with pytest.raises(StateError, match="is not a savepoint"):
        held(tmp_path, source).start(Config(state_dir=tmp_path / "c", restore_from=f"{url}-none"))


class Faulty(MemoryFileSystem):
    """Loses answers, and fails requests, as `faults` say: {method: how often}."""

    store: dict = {}
    pseudo_dirs: list = [""]
    cachable = False

    def __init__(self):
        super().__init__()
        self.faults = {}
        self.lost = {}
        self.answers = threading.Event()  # until it is set, nothing that is written is answered
        self.answers.set()
        self.old = False  # whether what is listed, or looked for by name, is of the time before all was written

    def _fails(self, method):
        if self.faults.get(method, 0) > 0:
            self.faults[method] -= 1
            raise ConnectionError(f"{method} failed")

    def ls(self, path, detail=True, **options):
        return [] if self.old else super().ls(path, detail, **options)

    def info(self, path, **options):
        if self.old:
            raise FileNotFoundError(path)
        return super().info(path, **options)

    def pipe_file(self, path, value, **options):
        assert self.answers.wait(60)
        self._fails("pipe_file")
        super().pipe_file(path, value, **options)
        if self.lost.get("pipe_file", 0) > 0:  # written, and nobody was told
            self.lost["pipe_file"] -= 1
            raise TimeoutError("no answer")

    def cat_file(self, path, **options):
        self._fails("cat_file")
        return super().cat_file(path, **options)

    def open(self, path, mode="rb", **options):
        self._fails("open")
        return super().open(path, mode, **options)


@pytest.fixture
def faulty(monkeypatch):
    system = Faulty()
    system.store.clear()
    monkeypatch.setattr(objects, "opened", lambda url: (system, "/" + url.partition("://")[2]))
    monkeypatch.setattr(object_stores, "_PAUSE_S", 0.001)
    return system


def test_requests_that_fail_and_answers_that_are_lost_are_made_again(faulty, tmp_path):
    faulty.faults = {"pipe_file": 2, "cat_file": 2, "open": 2}
    faulty.lost = {"pipe_file": 2}
    job(tmp_path, ROWS).run(Config(state_dir=tmp_path / "one", checkpoint_store="mem://sums"))
    shutil.rmtree(tmp_path / "one")
    faulty.faults = {"cat_file": 3}
    run = job(tmp_path, ROWS).run(Config(state_dir=tmp_path / "two", checkpoint_store="mem://sums"))
    assert run.already_finished and faulty.faults == {"cat_file": 0}


def test_a_store_that_is_away_fails_the_checkpoint_and_nothing_is_lost(faulty, tmp_path):
    source = Held(ROWS)
    topology = Topology("away")
    topology.stream(source, timestamp="at", name="in").key_by("account").aggregate(n=col("amount").sum(), name="sums").to(memory("out"))
    with topology.start(Config(state_dir=tmp_path / "s", checkpoint_store="mem://away", checkpoint_interval="50ms")) as run:
        faulty.faults = {"pipe_file": 12}
        while run.metrics()["checkpoints"]["failed"] < 1 or run.metrics()["checkpoints"]["completed"] < 1:
            assert not run.wait(0.02)
        assert "cannot be written" in next(one["error"] for one in run.metrics()["checkpoints"]["history"] if one["error"])
        source.over.set()
    assert ObjectStore("mem://away").ids("away")[-1] == run.metrics()["checkpoints"]["last_id"]


def test_a_listing_that_is_old_loses_nothing(faulty, tmp_path):
    faulty.old = True
    config = Config(state_dir=tmp_path / "one", checkpoint_store="mem://sums", retained_checkpoints=1)
    job(tmp_path, ROWS[:100]).run(config)
    job(tmp_path, ROWS[:200]).run(config)
    shutil.rmtree(tmp_path / "one")
    run = job(tmp_path, ROWS).run(Config(state_dir=tmp_path / "two", checkpoint_store="mem://sums"))
    assert sum(row["sum"] for row in run.table("sums").scan()) == sum(row["amount"] for row in ROWS)
    assert (tmp_path / "out.jsonl").read_text().count("\n") == len(ROWS)


def test_an_answer_that_is_slow_holds_up_the_checkpoint_and_no_record(faulty, tmp_path):
    source = Held(ROWS)
    topology = Topology("slow")
    topology.stream(source, timestamp="at", name="in").key_by("account").aggregate(n=col("amount").sum(), name="sums").to(memory("out"))
    faulty.answers.clear()
    with topology.start(Config(state_dir=tmp_path / "s", checkpoint_store="mem://slow", checkpoint_interval="10ms")) as run:
        while run.metrics()["sinks"].get("out") != len(ROWS):
            assert not run.wait(0.005)
        assert run.metrics()["checkpoints"]["completed"] == 0
        faulty.answers.set()
        source.over.set()
    assert run.metrics()["checkpoints"]["failed"] == 0
    assert ObjectStore("mem://slow").ids("slow")[-1] == run.metrics()["checkpoints"]["last_id"]


def test_damage_and_other_jobs_are_named(faulty, tmp_path):
    job(tmp_path, ROWS).run(Config(state_dir=tmp_path / "one", checkpoint_store="mem://sums"))
    path = next(path for path in faulty.find("/sums/files") if faulty.info(path)["size"])
    faulty.pipe_file(path, b"x" + faulty.cat_file(path)[1:])
    with pytest.raises(StateError, match="is damaged"):
        job(tmp_path, ROWS).run(Config(state_dir=tmp_path / "two", checkpoint_store="mem://sums"))
    other = Topology("other")
    other.stream(memory("in", SCHEMA, ROWS), name="in").to(memory("out"))
    with pytest.raises(StateError, match="of 'sums', not of 'other'"):
        other.run(Config(state_dir=tmp_path / "three", checkpoint_store="mem://sums"))
    with pytest.raises(ConfigError, match="is no URL"):
        Config(checkpoint_store="/tmp/x")


@pytest.mark.parametrize("what", ["store", "sink"])
def test_a_stop_does_not_wait_for_a_store_that_falls_silent(s3, tmp_path, monkeypatch, what):
    link = silence.Link(int(s3["endpoint_url"].rpartition(":")[2]))
    once = {"retries": {"total_max_attempts": 1}, "read_timeout": 5, "connect_timeout": 5}
    options = {**s3, "endpoint_url": f"http://127.0.0.1:{link.port}", "config_kwargs": once}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    monkeypatch.setattr(object_stores, "_TRIES", 1)
    url = f"s3://bucket/{uuid.uuid4().hex}"
    sink = files(f"{url}.parquet") if what == "sink" else files(tmp_path / "out.jsonl")
    settings = {"checkpoint_store": url} if what == "store" else {}
    silence.check_stop(silence.run_of(tmp_path, lambda rows: rows.to(sink, name="out"), **settings), link)
