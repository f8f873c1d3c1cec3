"""Tables of topics: tombstones, change events, and what another job has written as upserts."""

from __future__ import annotations

import json

import pytest

from streamdsl import Config, Topology, kafka, memory
from tests.kafka.topics import create_topic, produce

CUSTOMERS = {"id": int, "city": str}


@pytest.fixture
def topic(broker, topic_name):
    return create_topic(broker.bootstrap, topic_name, 2)


def read(broker, topic, **more):
    """Return the changes of a topic's table, in the order of its keys."""
    topology = Topology("reading")
    out = memory("out")
    topology.table(kafka(topic, CUSTOMERS, until="latest", **more), key="id").to_stream().to(out)
    topology.run(Config(broker=broker.bootstrap))
    return [(row["id"], row["op"], row["city"]) for row in sorted(out.rows(), key=lambda row: row["id"])]


def test_a_record_without_a_value_takes_the_row_of_its_key_away(broker, topic):
    rows = [{"key": str(n), "value": json.dumps({"id": n, "city": f"c{n}"})} for n in (1, 2, 3)]
    produce(broker.bootstrap, topic, [*rows, {"key": "2", "value": None}, {"key": '{"id": 3}', "value": None}, {"key": "9", "value": None}])
    found = read(broker, topic)
    # The tombstone of 3 has another key, so it may stand in another partition, and be read before the row.
    assert [one for one in found if one[0] != 3] == [(1, "add", "c1"), (2, "add", "c2"), (2, "withdraw", "c2")]


def test_what_a_table_writes_is_the_same_table_elsewhere(broker, topic):
    topology = Topology("writing")
    given = [{"id": n % 5, "city": f"c{n}" if n % 5 != 3 or n < 5 else None} for n in range(20)]
    table = topology.table(memory("customers", {"id": int, "city": str | None}, given), key="id")
    table.to(kafka(topic), name="out")
    topology.run(Config(broker=broker.bootstrap))
    last = {key: (op, city) for key, op, city in read(broker, topic)}
    assert last == {**{n: ("replace", f"c{15 + n}") for n in (0, 1, 2, 4)}, 3: ("withdraw", "c3")}


@pytest.mark.parametrize("envelope", [False, True])
def test_change_events_and_the_tombstones_behind_them(broker, topic, envelope):
    def event(op, before, after):
        body = {"op": op, "before": before, "after": after, "ts_ms": 1}
        return json.dumps({"schema": {}, "payload": body} if envelope else body)

    def key(n):
        return json.dumps({"schema": {}, "payload": {"id": n}} if envelope else {"id": n})

    events = [
        {"key": key(1), "value": event("r", None, {"id": 1, "city": "a"})},
        {"key": key(2), "value": event("c", None, {"id": 2, "city": "b"})},
        {"key": key(1), "value": event("u", {"id": 1, "city": "a"}, {"id": 1, "city": "c"})},
        {"key": key(2), "value": event("d", {"id": 2}, None)},
        {"key": key(2), "value": None},
    ]
    produce(broker.bootstrap, topic, events)
    expected = [(1, "add", "a"), (1, "replace", "c"), (2, "add", "b"), (2, "withdraw", "b")]
    assert read(broker, topic, format="debezium-json") == expected
