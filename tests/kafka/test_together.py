"""A few records in each of several partitions are decoded in one go: what comes of them is as if each were read by itself."""

from __future__ import annotations

import json
import time

import pytest

from streamdsl import Config, Topology, kafka, memory
from streamdsl.connectors.kafka import reader
from tests.kafka.topics import create_topic, produce

PARTITIONS = 4
#: Those that only the client knows, and where a record stands, which is added to native rows.
COLUMNS = ("id", "_partition", "_offset", "_key", "_headers", "_timestamp"), ("id", "_topic", "_partition", "_offset")


class Counted(reader.ReadsTogether):
    """Counts what was read of several partitions at once."""

    rows = 0

    def read(self, splits):
        found = super().read(splits)
        Counted.rows += 0 if found is None else found.rows.num_rows
        return found


@pytest.fixture
def topic(broker, topic_name):
    return create_topic(broker.bootstrap, topic_name, PARTITIONS)


def records(first: int, count: int) -> list[dict]:
    """Return records with keys and headers, of which every ninth is no JSON."""
    return [
        {
            "key": f"k{n}".encode(),
            "value": f'{{"id": {n}}}' if n % 9 else "{",
            "headers": [("n", str(n).encode())],
            "timestamp": 1_000_000 + n,
        }
        for n in range(first, first + count)
    ]


def rejected(run) -> int:
    (task,) = (task for task in run.metrics()["tasks"] if "splits" in task)
    return task.get("rejected", 0)


@pytest.mark.parametrize("columns", COLUMNS, ids=["of the client", "of the place"])
def test_records_of_several_partitions_keep_what_belongs_to_them(broker, topic, tmp_path, monkeypatch, columns):
    monkeypatch.setattr(reader, "ReadsTogether", Counted)
    Counted.rows = 0
    out = memory("out")
    for start in (1, 401):
        topology = Topology("together")
        rows = topology.stream(kafka(topic, {"id": "int64"}, start="earliest", errors="skip"), name="in")
        rows.select(*columns).to(out)
        produce(broker.bootstrap, topic, records(start, 200))
        run = topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="20ms"))
        for first in range(start + 200, start + 400, 5):
            produce(broker.bootstrap, topic, records(first, 5))
        good = sum(n % 9 != 0 for n in range(start, start + 400))
        until = time.monotonic() + 60
        # A bad record may be the last one of its partition: it comes behind all that are good.
        while len(out.rows()) < (read := good + (start > 1) * 356) or rejected(run) < 400 - good:
            assert time.monotonic() < until, f"{len(out.rows())} of {read} rows, {rejected(run)} are bad"
            time.sleep(0.01)
        run.stop()
        assert run.wait(30)
        assert rejected(run) == 400 - good
    found = out.rows()
    assert Counted.rows > 0
    assert sorted(row["id"] for row in found) == [n for n in range(1, 801) if n % 9]
    assert {row.get("_topic", topic) for row in found} == {topic}
    for row in found if "_key" in columns else ():
        assert row["_key"] == f"k{row['id']}".encode()
        assert row["_headers"] == [{"name": "n", "value": str(row["id"])}]
        assert row["_timestamp"].timestamp() * 1000 == 1_000_000 + row["id"]
    _lie_where_they_say(broker, topic, found)


def _lie_where_they_say(broker, topic, found) -> None:
    """Read the topic anew, partition by partition, and compare."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "looks", "enable.auto.commit": False})
    try:
        at = {(row["_partition"], row["_offset"]): row["id"] for row in found}
        assert len(at) == len(found)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        for _ in range(800):
            message = consumer.poll(30)
            assert message is not None
            assert message.error() is None
            if message.value() != b"{":
                assert at.pop((message.partition(), message.offset())) == json.loads(message.value())["id"]
        assert not at
    finally:
        consumer.close()
