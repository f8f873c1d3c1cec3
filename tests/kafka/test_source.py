"""What a topic gives: every record once, with all that belongs to it, from where it was asked for."""

from __future__ import annotations

import datetime
import json
import time

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from streamdsl import Config, ConnectorError, Topology, TopologyError, col, count, expanding, files, kafka, memory, tumbling
from streamdsl.connectors.kafka import feed
from tests.kafka.topics import create_topic, produce

SCHEMA = {"id": "int64"}


@pytest.fixture
def topic(broker, topic_name):
    return create_topic(broker.bootstrap, topic_name, 2)


def numbers(*given):
    return [(f"k{n}", json.dumps({"id": n})) for n in range(*given)]


def read(broker, topic, schema=None, select=None, tmp_path=None, **more):
    """Read a topic to its end and return the rows."""
    topology = Topology("reading")
    rows = topology.stream(kafka(topic, schema or SCHEMA, **{"until": "latest", **more}), name="in")
    out = memory("out")
    (rows if select is None else rows.select(*select)).to(out)
    topology.run(Config(broker=broker.bootstrap, state_dir=tmp_path and tmp_path / "state"))
    return out.rows()


def test_columns_of_a_record(broker, topic):
    produce(broker.bootstrap, topic, [{"key": b"k", "value": '{"id": 7}', "headers": [("a", b"1"), ("b", b"2")], "timestamp": 1234567}])
    (row,) = read(broker, topic, select=["id", "_key", "_topic", "_partition", "_offset", "_timestamp", "_headers"])
    at = datetime.datetime.fromtimestamp(1234.567, datetime.UTC)
    assert row.pop("_partition") in (0, 1)
    assert row == {
        "id": 7,
        "_key": b"k",
        "_topic": topic,
        "_offset": 0,
        "_timestamp": at,
        "_headers": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}],
    }


def test_the_time_of_a_record_is_its_event_time(broker, topic):
    produce(broker.bootstrap, topic, [{"key": b"k", "value": f'{{"id": {n}}}', "timestamp": 1000 * n} for n in range(1, 10)])
    topology = Topology("times")
    out = memory("out")
    topology.stream(kafka(topic, SCHEMA, until="latest")).key_by().window(tumbling("5s")).count().to(out)
    topology.run(Config(broker=broker.bootstrap))
    assert sorted(row["count"] for row in out.rows()) == [4, 5]


def test_a_column_can_be_the_event_time(broker, topic):
    produce(broker.bootstrap, topic, [{"key": b"k", "value": f'{{"id": {1000 * n}}}', "timestamp": 1} for n in range(1, 10)])
    topology = Topology("times")
    out = memory("out")
    topology.stream(kafka(topic, SCHEMA, until="latest"), timestamp="id").key_by().window(tumbling("5s")).count().to(out)
    topology.run(Config(broker=broker.bootstrap))
    assert sorted(row["count"] for row in out.rows()) == [4, 5]


def test_where_reading_begins(broker, topic):
    produce(broker.bootstrap, topic, [{"key": b"k", "value": f'{{"id": {n}}}', "timestamp": 1000 * n} for n in range(1, 10)])
    found = lambda start: sorted(row["id"] for row in read(broker, topic, start=start))  # noqa: E731
    assert found("earliest") == list(range(1, 10))
    assert found("latest") == []
    assert found(5000) == [5, 6, 7, 8, 9]
    assert found(datetime.datetime.fromtimestamp(8, datetime.UTC)) == [8, 9]
    assert found(99_000) == []


@pytest.mark.parametrize("ms", [-(10**12), -2, -1])
def test_a_time_before_1970_is_the_beginning(broker, topic, ms):
    """A cluster takes -1 for the end of a partition and -2 for its beginning, and refuses others."""
    produce(broker.bootstrap, topic, [{"key": b"k", "value": f'{{"id": {n}}}', "timestamp": n} for n in range(1, 5)])
    start = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=ms)
    assert sorted(row["id"] for row in read(broker, topic, start=start)) == [1, 2, 3, 4]


def test_where_a_part_of_a_millisecond_begins(broker, topic):
    produce(broker.bootstrap, topic, [{"key": b"k", "value": f'{{"id": {n}}}', "timestamp": n} for n in range(1, 5)])
    start = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=2001)
    assert sorted(row["id"] for row in read(broker, topic, start=start)) == [3, 4]


def test_a_start_that_is_no_time_is_refused():
    for start in (-1, 2**63, True, 1.5, "now"):
        with pytest.raises(TopologyError, match="is unknown"):
            kafka("t", SCHEMA, start=start)


def test_a_record_without_a_time_is_a_bad_one(broker, topic):
    """Kafka writes -1 for none: taken for a time of 1969, it would be late in silence."""
    times = [-1, 10**12, -1, 10**12 + 1]
    produce(broker.bootstrap, topic, [{"key": b"k", "value": f'{{"id": {n}}}', "timestamp": at} for n, at in enumerate(times)])
    topology, out = Topology("times"), memory("out")
    topology.stream(kafka(topic, SCHEMA, until="latest", errors="skip"), name="in").key_by().window(tumbling("1h")).count().to(out)
    run = topology.start(Config(broker=broker.bootstrap))
    assert run.wait(60)
    assert [row["count"] for row in out.rows()] == [2]
    assert sum(task.get("rejected", 0) for task in run.metrics()["tasks"]) == 2


def test_latest_is_remembered(broker, topic, tmp_path):
    produce(broker.bootstrap, topic, numbers(5))
    out = memory("out")

    def started():
        topology = Topology("latest")
        topology.stream(kafka(topic, SCHEMA, start="latest")).to(out)
        return topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="50ms"))

    run = started()
    time.sleep(0.3)
    run.stop()
    run.wait(20)
    produce(broker.bootstrap, topic, numbers(5, 10))
    run = started()
    until = time.monotonic() + 20
    while len(out.rows()) < 5 and time.monotonic() < until:
        time.sleep(0.05)
    run.stop()
    run.wait(20)
    assert sorted(row["id"] for row in out.rows()) == [5, 6, 7, 8, 9]


def test_an_offset_that_is_gone_is_an_error(broker, topic, tmp_path):
    produce(broker.bootstrap, topic, numbers(100))
    run = _half(broker, topic, tmp_path)
    produce(broker.bootstrap, topic, numbers(100))
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.delete_records([TopicPartition(topic, p, -1) for p in (0, 1)]).values():
        future.result(20)
    with pytest.raises(ConnectorError, match=r"is gone: the topic begins at \d+ now") as told:
        run()
    assert "state directory" in str(told.value)


@pytest.mark.parametrize("live", [True, False], ids=["while it runs", "while it is down"])
@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_partitions_that_are_added_are_read_from_their_beginning(broker, topic, tmp_path, live, start, monkeypatch):
    monkeypatch.setattr(feed, "LOOK_S", 0.5)
    out = memory("out")

    def started():
        topology = Topology(f"job-{topic}")
        rows = topology.stream(kafka(topic, SCHEMA, start=start), name="in")
        rows.key_by(k=col("id") % 2).with_columns(seen=count().over(expanding())).to(out)
        return topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="50ms", parallelism=2))

    def wait_for(ids):
        until = time.monotonic() + 30
        while len(out.rows()) < len(ids) and time.monotonic() < until:
            assert not run.wait(0.05)
        assert sorted(row["id"] for row in out.rows()) == ids

    run = started()
    time.sleep(0.5)
    produce(broker.bootstrap, topic, numbers(20))
    wait_for(list(range(20)))
    if not live:
        run.stop()
        run.wait(20)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(20)
    produce(broker.bootstrap, topic, [{"value": f'{{"id": {n}}}', "partition": n % 5} for n in range(20, 60)])
    if not live:
        run = started()
    wait_for(list(range(60)))
    run.stop()
    assert run.wait(20)
    assert sorted(row["seen"] for row in out.rows()) == sorted([*range(1, 31)] * 2), "the state goes on"


def _half(broker, topic, tmp_path):
    """Read what there is and stop; return what goes on from there."""
    out = memory("out")

    def started():
        topology = Topology("half")
        topology.stream(kafka(topic, SCHEMA)).to(out)
        return topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="50ms"))

    run = started()
    until = time.monotonic() + 20
    while not out.rows() and time.monotonic() < until:
        time.sleep(0.05)
    run.stop()
    run.wait(20)
    return lambda: started().wait(20)


def test_what_does_not_exist_is_told(broker, topic_name):
    with pytest.raises(ConnectorError, match=rf"the topic '{topic_name}' does not exist"):
        read(broker, topic_name)


def test_other_partitions_than_declared_are_told(broker, topic):
    with pytest.raises(ConnectorError, match=r"has 2 partitions, kafka\(partitions=5\) is declared"):
        read(broker, topic, partitions=5)


def test_more_partitions_than_declared_are_those_of_a_topic_that_has_grown(broker, topic, caplog):
    """Of a job that has declared one and that starts again."""
    produce(broker.bootstrap, topic, [{"value": f'{{"id": {n}}}', "partition": n % 2} for n in range(20)])
    assert sorted(row["id"] for row in read(broker, topic, partitions=1)) == list(range(20))
    assert "has 2 partitions, 1 are declared: it has grown" in caplog.text


def test_options_that_are_not_the_users():
    with pytest.raises(TopologyError, match=r"enable\.auto\.commit"):
        kafka("t", SCHEMA, options={"enable.auto.commit": True})


def test_no_secret_is_shown():
    described = kafka(
        "t", SCHEMA, options={"sasl.password": "hunter2", "sasl.jaas.config": "x password=hunter2"}, registry="http://u:hunter2@r"
    )
    shown = repr(described) + str(described.shown()) + repr(described.configured(Config(kafka={"ssl.key.password": "hunter2"}), "job"))
    assert "hunter2" not in shown
    assert described.client_options()["sasl.password"] == "hunter2"


def test_history_then_live(broker, topic, tmp_path):
    """History from files, then the topic from where the files end."""
    (tmp_path / "history.jsonl").write_text("".join(f'{{"id": {n}}}\n' for n in range(50)))
    produce(broker.bootstrap, topic, numbers(50, 100))
    topology = Topology("history")
    out = memory("out")
    source = files(tmp_path / "history.jsonl", SCHEMA).then(kafka(topic, SCHEMA, until="latest"))
    topology.stream(source, name="in").with_columns(twice=col("id") * 2).to(out)
    topology.run(Config(broker=broker.bootstrap, state_dir=tmp_path / "state"))
    assert [row["id"] for row in out.rows()][:50] == list(range(50))
    assert sorted(row["id"] for row in out.rows()) == list(range(100))


def test_history_is_not_read_twice(broker, topic, tmp_path):
    """A run that stops behind the history goes on in the topic."""
    (tmp_path / "history.jsonl").write_text("".join(f'{{"id": {n}}}\n' for n in range(50)))
    out = memory("out")

    def started():
        topology = Topology("history")
        topology.stream(files(tmp_path / "history.jsonl", SCHEMA).then(kafka(topic, SCHEMA)), name="in").to(out)
        return topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="50ms"))

    for end in (60, 70):
        produce(broker.bootstrap, topic, numbers(end - 10, end))
        run = started()
        until = time.monotonic() + 20
        while len(out.rows()) < end and time.monotonic() < until:
            time.sleep(0.05)
        run.stop()
        run.wait(20)
        assert sorted(row["id"] for row in out.rows()) == list(range(end))
