"""What belongs to a position: the topic itself, the ends of transactions; and what is known to wait behind it."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamdsl import Config, ConnectorError, Topology, kafka, memory, tumbling
from streamdsl.runtime.health import Health
from tests.kafka.topics import consume_all, create_topic, delete_topic, produce

SCHEMA = {"id": "int64"}


@pytest.fixture
def topic(broker, topic_name):
    return create_topic(broker.bootstrap, topic_name, 1)


def values(*given):
    return [json.dumps({"id": n}) for n in range(*given)]


class Reading:
    """A job that reads a topic into memory, started again and again with one state directory."""

    def __init__(self, broker, topic, tmp_path) -> None:
        self.out, self.broker, self.topic, self.path = memory("out"), broker, topic, tmp_path

    @contextlib.contextmanager
    def running(self, **more):
        topology = Topology(f"job-{self.topic}")
        topology.stream(kafka(self.topic, SCHEMA, **more), name="in").to(self.out)
        run = topology.start(Config(broker=self.broker.bootstrap, state_dir=self.path / "state", checkpoint_interval="50ms"))
        try:
            yield run
            run.stop()
            assert run.wait(30)
        finally:
            run.abandon()

    def wait_for(self, count, seconds=20.0):
        until = time.monotonic() + seconds
        while len(self.out.rows()) < count and time.monotonic() < until:
            time.sleep(0.05)
        return sorted(row["id"] for row in self.out.rows())


@pytest.fixture
def reading(broker, topic, tmp_path):
    return Reading(broker, topic, tmp_path)


def transactional(broker, name, **options):
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": name, **options})
    producer.init_transactions(20)
    return producer


def write_in(producer, topic, numbers, *, end="commit"):
    producer.begin_transaction()
    for value in values(*numbers):
        producer.produce(topic, value)
    producer.flush(20)
    if end == "commit":
        producer.commit_transaction(20)
    elif end == "abort":
        producer.abort_transaction(20)


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("fewer", [True, False], ids=["fewer", "as many"])
def test_a_topic_made_anew_while_the_job_is_down_is_refused(broker, topic, reading, fewer):
    produce(broker.bootstrap, topic, values(10))
    with reading.running():
        assert reading.wait_for(10) == list(range(10))
    delete_topic(broker.bootstrap, topic)
    create_topic(broker.bootstrap, topic, 1)
    produce(broker.bootstrap, topic, values(5 if fewer else 25))
    with pytest.raises(ConnectorError, match="was deleted and made anew since"), reading.running():
        pass


def test_a_topic_made_anew_while_the_job_runs_ends_it(broker, topic, reading):
    produce(broker.bootstrap, topic, values(10))
    began = 0.0
    with pytest.raises(ConnectorError, match=r"made anew since|[Uu]nknown topic|is gone"), reading.running() as run:
        assert reading.wait_for(10) == list(range(10))
        delete_topic(broker.bootstrap, topic)
        create_topic(broker.bootstrap, topic, 1)
        produce(broker.bootstrap, topic, values(4))
        began = time.monotonic()
        run.wait(60)
    assert time.monotonic() - began < 30


def test_a_deleted_topic_ends_the_run(broker, topic, reading):
    produce(broker.bootstrap, topic, values(10))
    began = 0.0
    with pytest.raises(ConnectorError, match=r"[Uu]nknown topic|made anew") as told, reading.running(idle_timeout="1s") as run:
        reading.wait_for(10)
        delete_topic(broker.bootstrap, topic)
        began = time.monotonic()
        run.wait(90)
    assert time.monotonic() - began < 20, told.value


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_what_was_read_may_expire_to_the_end_of_its_transaction(broker, topic, reading, end):
    """The topic begins behind the marker of the last transaction then: one offset further than the last record."""
    producer = transactional(broker, f"tx-{topic}")
    write_in(producer, topic, (10,))
    if end == "abort":
        write_in(producer, topic, (10, 15), end="abort")
    with reading.running() as run:
        assert reading.wait_for(10) == list(range(10))
        position = 11 if end == "commit" else 17
        until(lambda: lag(run, topic) == 0)
        time.sleep(0.5)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_records([TopicPartition(topic, 0, position)])[TopicPartition(topic, 0)].result(20)
    with reading.running():
        write_in(producer, topic, (20, 25))
        assert reading.wait_for(15) == [*range(10), *range(20, 25)]


def lag(run, topic):
    [task] = run.metrics()["tasks"]
    return task["lag"][f"{topic}/0"]


def uncommitted(run, topic):
    [task] = run.metrics()["tasks"]
    return task["uncommitted"][f"{topic}/0"]


def test_nothing_lags_behind_a_transaction_that_was_read(broker, topic, reading):
    producer = transactional(broker, f"tx-{topic}")
    with reading.running() as run:
        for n in range(3):
            write_in(producer, topic, (10 * n, 10 * n + 10))
            reading.wait_for(10 * n + 10)
        until(lambda: lag(run, topic) == 0)
        health = Health(run, stalled_after_s=1.0)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            health.look()
            assert health.problems == ()
            time.sleep(0.2)


def test_a_transaction_that_hangs_is_told_of(broker, topic, reading):
    hanging, other = transactional(broker, f"a-{topic}"), transactional(broker, f"b-{topic}")
    with reading.running() as run:
        write_in(hanging, topic, (5,), end="never")
        write_in(other, topic, (5, 12))
        until(lambda: uncommitted(run, topic) == 13)
        assert lag(run, topic) == 0 and reading.out.rows() == []
        health = Health(run, stalled_after_s=1.0)
        for _ in range(10):
            health.look()
            time.sleep(0.3)
        [problem] = health.problems
        assert "13 records behind a transaction of its writer" in problem
        hanging.abort_transaction(20)
        assert reading.wait_for(7) == list(range(5, 12))
        until(lambda: uncommitted(run, topic) == 0)


def test_an_offset_in_doubt_is_looked_for_again(broker, topic, reading):
    """Retention while the job runs takes what it has read: it goes on, whatever the client makes of it."""
    produce(broker.bootstrap, topic, values(1000))
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    with reading.running():
        assert reading.wait_for(1000) == list(range(1000))
        admin.delete_records([TopicPartition(topic, 0, 1000)])[TopicPartition(topic, 0)].result(20)
        produce(broker.bootstrap, topic, values(1000, 1500))
        assert reading.wait_for(1500) == list(range(1500))


def test_a_window_that_ends_tomorrow_is_written_today(broker, topic, topic_name, tmp_path):
    """Its row has the window's last millisecond as event time, which a broker refuses when it is more than an hour ahead."""
    now = int(time.time() * 1000)
    sink = create_topic(broker.bootstrap, f"{topic_name}-out", 1)
    produce(broker.bootstrap, topic, [{"key": b"k", "value": '{"id": 1}', "timestamp": now}])
    topology = Topology(f"job-{topic}")
    days = topology.stream(kafka(topic, SCHEMA, until="latest"), name="in").key_by("id").window(tumbling("7d")).count()
    days.to(kafka(sink), name="out")
    topology.run(Config(broker=broker.bootstrap, state_dir=tmp_path / "state"))
    from tests.kafka.topics import consume_all

    [record] = consume_all(broker.bootstrap, sink)
    assert json.loads(record.value)["count"] == 1
    assert now - 1000 <= record.timestamp_ms <= int(time.time() * 1000)


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_deleted_topic_of_a_sink_ends_the_run(broker, topic, tmp_path, delivery):
    """The client would wait for its return, and the commit with it."""
    sink = create_topic(broker.bootstrap, f"{topic}-out", 1)
    produce(broker.bootstrap, topic, values(5))
    topology = Topology(f"job-{topic}")
    topology.stream(kafka(topic, SCHEMA), name="in").to(kafka(sink, delivery=delivery), name="out")
    run = topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="50ms"))
    try:
        until(lambda: len(consume_all(broker.bootstrap, sink)) == 5)
        delete_topic(broker.bootstrap, sink)
        produce(broker.bootstrap, topic, values(5, 60))
        with pytest.raises(ConnectorError, match=f"there is no topic '{sink}' any more"):
            run.wait(50)
        assert run._done.is_set()
    finally:
        run.abandon()
