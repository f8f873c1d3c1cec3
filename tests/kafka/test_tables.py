"""Tables of topics: tombstones, change events, and what another job has written as upserts."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest

from streamdsl import Config, Topology, kafka, memory
from tests.kafka.registry import Registry
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


VALUE = {
    "type": "record",
    "name": "Customer",
    "fields": [{"name": "id", "type": ["long", "string"]}, {"name": "city", "type": "string"}],
}


class Written(Registry):
    """A registry, and what its users write; "away": it knows no schema for now."""

    away = False

    def answer(self, method: str, path: str, body: Any) -> Any:
        """Say nothing of schemas while it is away."""
        return None if self.away and path.startswith("/schemas/ids/") else super().answer(method, path, body)

    def written(self, subject: str, schema: Any, value: Any) -> bytes:
        """Return a value behind the number of its schema."""
        out = io.BytesIO()
        if schema == "JSON":
            number = self.register(subject, {"schema": "{}", "schemaType": "JSON"})["id"]
            out.write(json.dumps(value).encode())
        else:
            from fastavro import schemaless_writer

            number = self.register(subject, {"schema": json.dumps(schema)})["id"]
            schemaless_writer(out, schema, value)
        return b"\0" + int(number).to_bytes(4, "big") + out.getvalue()


@pytest.fixture
def registry():
    with Written() as one:
        yield one


def record(*fields):
    return {"type": "record", "name": "Key", "fields": [{"name": name, "type": type_} for name, type_ in fields]}


KEYS = {
    "a record": (int, record(("id", "long")), lambda n: {"id": n}),
    "a record of another name": (int, record(("key", ["null", "int"])), lambda n: {"key": n}),
    "a number": (int, "long", lambda n: n),
    "a text": (str, "string", str),
    "JSON Schema": (int, "JSON", lambda n: {"id": n}),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("format", ["avro", "json"])
def test_a_key_that_a_registry_describes_takes_its_row_away(broker, topic, registry, key, format):
    """As a text it would be the key of no row, and the row would stay."""
    python, schema, of = KEYS[key]

    def value(n):
        row = {"id": python(n), "city": f"c{n}"}
        return registry.written("value", VALUE, row) if format == "avro" else json.dumps(row)

    keyed = [registry.written("key", schema, of(n)) for n in range(4)]
    records = [{"key": keyed[n], "value": value(n), "partition": 0} for n in range(3)]
    # Behind them: what is no key, and what is of a format that is not read.
    protobuf = b"\0" + int(registry.register("p", {"schema": "x", "schemaType": "PROTOBUF"})["id"]).to_bytes(4, "big")
    odd = [b"\0", keyed[1][:5], protobuf + b"\0\x08\x01", None]
    records += [{"key": one, "value": None, "partition": 0} for one in (keyed[1], keyed[3], *odd, keyed[2])]
    produce(broker.bootstrap, topic, records)
    topology, out = Topology("reading"), memory("out")
    described = kafka(topic, {"id": python, "city": str}, until="latest", format=format, registry=registry.url, errors="skip")
    topology.table(described, key="id").to_stream().to(out)
    run = topology.run(Config(broker=broker.bootstrap))
    found = [(row["id"], row["op"]) for row in out.rows()]
    assert found == [(python(0), "add"), (python(1), "add"), (python(2), "add"), (python(1), "withdraw"), (python(2), "withdraw")]
    assert sum(task.get("rejected", 0) for task in run.metrics()["tasks"]) == len(odd)


def test_a_key_waits_until_its_registry_answers(broker, topic, registry, tmp_path):
    rows = [{"key": b"k", "value": json.dumps({"id": n, "city": "c"}), "partition": 0} for n in range(3)]
    gone = {"key": registry.written("key", "long", 1), "value": None, "partition": 0}
    produce(broker.bootstrap, topic, [rows[0], rows[1], gone, rows[2]])
    registry.away = True
    topology, out = Topology(f"job-{topic}"), memory("out")
    described = kafka(topic, CUSTOMERS, registry=registry.url, errors="skip")
    topology.table(described, key="id").to_stream().to(out)
    run = topology.start(Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="50ms"))

    def wait_for(count):
        until = time.monotonic() + 20
        while len(out.rows()) < count and time.monotonic() < until:
            run.wait(0.05)
        return [(row["id"], row["op"]) for row in out.rows()]

    try:
        assert wait_for(2) == [(0, "add"), (1, "add")]
        run.wait(1)
        registry.away = False
        assert wait_for(4)[2:] == [(1, "withdraw"), (2, "add")]
        assert sum(task.get("rejected", 0) for task in run.metrics()["tasks"]) == 0
        run.stop()
        assert run.wait(20)
    finally:
        run.abandon()
