"""A schema registry that is away, silent or behind: no good record is taken for a bad one, and a stop need not wait for it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest

from streamdsl import Config, ConnectorError, Topology, kafka, memory
from streamdsl.connectors.kafka import registry_values
from tests.kafka.registry import Registry
from tests.kafka.topics import create_topic, produce

SCHEMA = {"id": "int64"}
AVRO = json.dumps({"type": "record", "name": "Row", "fields": [{"name": "id", "type": "long"}]})


@pytest.fixture
def topic(broker, topic_name):
    return create_topic(broker.bootstrap, topic_name, 1)


def encoded(number: int, value: int) -> bytes:
    zigzag, out = value << 1, bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return b"\0" + number.to_bytes(4, "big") + bytes([*out, zigzag])


class Moody(Registry):
    """Answers as `mood` says: "well", "down" (HTTP 503), "silent", "forbidden", "behind" (it knows no schema yet)."""

    mood = "well"

    def answer(self, method, path, body):
        if self.mood == "silent":
            time.sleep(30)
        if self.mood in ("down", "forbidden"):
            raise ConnectionError(self.mood)
        return None if self.mood == "behind" and path.startswith("/schemas/ids/") else super().answer(method, path, body)


@pytest.fixture
def registry():
    with Moody() as one:
        one.register("rows", {"schema": AVRO})
        yield one


@contextlib.contextmanager
def running(broker, topic, tmp_path, url, **more):
    topology, out = Topology(f"job-{topic}"), memory("out")
    topology.stream(kafka(topic, SCHEMA, format="avro", registry=url, errors="skip", **more), name="in").to(out)
    run = topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="100ms"))
    try:
        yield run, out
    finally:
        began = time.monotonic()
        run.stop()
        try:
            assert run.wait(30)
            assert time.monotonic() - began < 5, "a stop waits for the registry"
        finally:
            run.abandon()


def rejected(run) -> int:
    return sum(task.get("rejected", 0) for task in run.metrics()["tasks"])


def wait_for(out, count, seconds=20.0):
    until = time.monotonic() + seconds
    while len(out.rows()) < count and time.monotonic() < until:
        time.sleep(0.05)
    return sorted(row["id"] for row in out.rows())


@pytest.mark.parametrize("mood", ["down", "silent", "behind"])
def test_good_records_wait_until_it_answers(broker, topic, tmp_path, registry, mood, caplog):
    produce(broker.bootstrap, topic, [encoded(1, n) for n in range(10)])
    registry.mood = mood
    with running(broker, topic, tmp_path, registry.url) as (run, out):
        time.sleep(4)
        assert out.rows() == [] and rejected(run) == 0
        registry.mood = "well"
        assert wait_for(out, 10) == list(range(10)) and rejected(run) == 0
    assert "the schema registry does not answer yet" in caplog.text


def test_nothing_is_lost_where_nothing_listens(broker, topic, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    produce(broker.bootstrap, topic, [encoded(1, n) for n in range(10)])
    with running(broker, topic, tmp_path, f"http://127.0.0.1:{port}") as (run, out):
        time.sleep(2)
        assert rejected(run) == 0
    registry = Registry.__new__(Registry)
    Registry.__init__(registry)
    with registry:
        registry.register("rows", {"schema": AVRO})
        with running(broker, topic, tmp_path, registry.url) as (run, out):
            assert wait_for(out, 10) == list(range(10))


def test_one_that_accepts_and_says_nothing_does_not_hold_a_stop(broker, topic, tmp_path):
    """A listening socket that nobody reads from: what `running` asserts at its end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        produce(broker.bootstrap, topic, [encoded(1, 1)])
        with running(broker, topic, tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}") as (run, out):
            time.sleep(1.5)
            assert out.rows() == [] and rejected(run) == 0


def test_what_stands_in_front_of_an_unknown_schema_goes_on(broker, topic, tmp_path, registry):
    produce(broker.bootstrap, topic, [*(encoded(1, n) for n in range(5)), b"no avro", encoded(2, 5), encoded(1, 6)])
    with running(broker, topic, tmp_path, registry.url) as (run, out):
        assert wait_for(out, 5) == list(range(5))
        registry.register("rows", {"schema": AVRO.replace("Row", "Row2")})
        assert wait_for(out, 7) == [0, 1, 2, 3, 4, 5, 6] and rejected(run) == 1


def test_an_id_that_never_becomes_known_is_a_bad_record(broker, topic, tmp_path, registry, monkeypatch):
    monkeypatch.setattr(registry_values, "UNKNOWN_S", 2.0)
    produce(broker.bootstrap, topic, [encoded(1, 0), encoded(77, 1), encoded(78, 1), encoded(1, 2)])
    with running(broker, topic, tmp_path, registry.url) as (run, out):
        assert wait_for(out, 2) == [0, 2] and rejected(run) == 2


def test_one_that_refuses_us_ends_the_run(broker, topic, tmp_path):
    class Refusing(Registry):
        pass

    with Refusing() as registry:
        handler = registry._server.RequestHandlerClass
        handler.do_GET = lambda self: self.send_error(401)
        produce(broker.bootstrap, topic, [encoded(1, 1)])
        topology = Topology(f"job-{topic}")
        topology.stream(kafka(topic, SCHEMA, format="avro", registry=registry.url, errors="skip", until="latest"), name="in").to(
            memory("out")
        )
        with pytest.raises(ConnectorError, match=r"schema registry of the topic .* refuses"):
            topology.run(Config(broker=broker.bootstrap))
    assert threading.active_count() < 50
