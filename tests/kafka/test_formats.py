"""Values of every format, in and out; keys, headers, topics and tombstones of what is written."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from streamdsl import Config, StreamError, Topology, TopologyError, col, count, kafka, memory
from streamdsl._native.state.murmur2 import shard_of_key
from tests.kafka.registry import Registry
from tests.kafka.topics import consume_all, create_topic, produce

SCHEMA = {"id": "int64", "name": "string | None"}
ROWS = [{"id": n, "name": None if n % 3 == 0 else f"n{n}"} for n in range(20)]
AVRO = json.dumps(
    {
        "type": "record",
        "name": "Row",
        "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}],
    }
)


@pytest.fixture
def topic(broker, topic_name):
    return create_topic(broker.bootstrap, topic_name, 2)


def write(broker, sink, rows=ROWS, schema=None, bind=None):
    topology = Topology("writing")
    topology.stream(memory("in", schema or SCHEMA, rows)).to(sink)
    topology.run(Config(broker=broker.bootstrap, checkpoint_interval="200ms"))


def read(broker, source, columns=None):
    topology = Topology("reading")
    out = memory("out")
    rows = topology.stream(source)
    (rows if columns is None else rows.select(*columns)).to(out)
    topology.run(Config(broker=broker.bootstrap))
    return sorted(out.rows(), key=lambda row: row.get("id") or 0)


@pytest.fixture(scope="module")
def registry():
    with Registry() as started:
        yield started


@pytest.fixture
def message():
    """A Protobuf message without generated code."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="row_of_tests.proto", package="tests", syntax="proto3")
    row = file.message_type.add(name="Row")
    row.field.add(name="id", number=1, type=3, label=1)
    row.field.add(name="name", number=2, type=9, label=1, proto3_optional=True, oneof_index=0)
    row.oneof_decl.add(name="_name")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tests.Row"))


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("format", ["json", "arrow", "avro", "protobuf"])
def test_what_is_written_is_read(broker, topic, format, delivery, message, registry):
    more = {"avro": {"registry": registry.url, "subject_schema": AVRO}, "protobuf": {"registry": registry.url, "message": message}}
    described = more.get(format, {})
    write(broker, kafka(topic, format=format, delivery=delivery, **described))
    described.pop("subject_schema", None)
    assert read(broker, kafka(topic, SCHEMA, format=format, until="latest", **described)) == ROWS


def test_bytes_as_they_are(broker, topic):
    produce(broker.bootstrap, topic, [b"\x00\xff", "text", b""])
    found = read(broker, kafka(topic, format="raw", until="latest"))
    assert sorted(row["value"] for row in found) == [b"", b"\x00\xff", b"text"]


def test_raw_takes_one_column(broker, topic):
    with pytest.raises(TopologyError, match="writes one column"):
        write(broker, kafka(topic, format="raw"))


def test_positions_within_a_batch_of_arrow(broker, topic, tmp_path):
    """A value of many rows may be cut by a checkpoint anywhere."""
    batches = [pa.RecordBatch.from_pylist([{"id": 1000 * n + i, "name": "x"} for i in range(700)]) for n in range(4)]
    for batch in batches:
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, batch.schema) as stream:
            stream.write_batch(batch)
        produce(broker.bootstrap, topic, [("k", out.getvalue().to_pybytes())])
    source = kafka(topic, SCHEMA, format="arrow", until="latest").configured(Config(broker=broker.bootstrap), "positions")
    split = next(split for split in source.splits() if source.open_split(split, None, ["id"]).lag() != 0)
    reader = source.open_split(split, None, ["id"])
    chunk = None
    while chunk is None or not hasattr(chunk, "rows"):
        chunk = reader.read(10_000)
    ids = chunk.rows.column("id").to_pylist()
    for rows in (0, 1, 699, 700, 701, 1400, 2100, len(ids)):
        again = source.open_split(split, json.loads(json.dumps(reader.position(chunk, rows))), ["id"])
        rest = []
        while len(rest) < len(ids) - rows:
            got = again.read(10_000)
            rest += got.rows.column("id").to_pylist() if hasattr(got, "rows") else []
        assert rest == ids[rows:], rows
        again.close()
    reader.close()


def test_keys_headers_and_topics(broker, topic):
    other = create_topic(broker.bootstrap, f"{topic}-other")
    rows = [{"id": 1, "name": "a", "to": None, "trace": "t1"}, {"id": 2, "name": "b", "to": other, "trace": None}]
    schema = {**SCHEMA, "to": "string | None", "trace": "string | None"}
    write(broker, kafka(topic, key=("id", "name"), headers=["trace"], topic_from="to"), rows, schema)
    (first,) = consume_all(broker.bootstrap, topic)
    (second,) = consume_all(broker.bootstrap, other)
    assert json.loads(first.value) == {"id": 1, "name": "a"}
    assert first.key == b'{"id":1,"name":"a"}'
    assert first.headers == [("trace", b"t1")]
    assert json.loads(second.value) == {"id": 2, "name": "b"}
    assert second.headers == [("trace", None)]


def test_headers_of_any_type(broker, topic):
    schema = {"id": "int64", "ok": "bool", "ratio": "float64", "tags": list[str]}
    write(broker, kafka(topic, headers=["ok", "ratio", "tags"]), [{"id": 1, "ok": True, "ratio": 0.5, "tags": ["a", "b"]}], schema)
    (record,) = consume_all(broker.bootstrap, topic)
    assert record.headers == [("ok", b"true"), ("ratio", b"0.5"), ("tags", b'["a","b"]')]


INTERNAL = ["streamdsl.other.commits", "__consumer_offsets", "__transaction_state", "a b", "..", "é"]


@pytest.mark.parametrize("name", INTERNAL)
def test_data_cannot_name_a_topic_of_the_cluster_or_of_a_job(broker, topic, name):
    rows = [{"id": 1, "to": None}, {"id": 2, "to": name}]
    with pytest.raises(StreamError, match=r"column 'to' names the topic"):
        write(broker, kafka(topic, topic_from="to"), rows, {"id": int, "to": "string | None"})
    assert consume_all(broker.bootstrap, topic) == []


@pytest.mark.parametrize("name", INTERNAL)
def test_no_sink_is_declared_on_such_a_topic(name):
    with pytest.raises(TopologyError, match="is a sink"):
        Topology("t").stream(memory("in", SCHEMA)).to(kafka(name))


def test_the_column_of_topics_is_text():
    with pytest.raises(TopologyError, match="topics have names of text"):
        Topology("t").stream(memory("in", SCHEMA)).to(kafka("out", topic_from="id"))


@pytest.mark.parametrize("timestamps", ["event", "arrival"])
def test_the_time_of_what_is_written(broker, topic, timestamps):
    topology = Topology("times")
    topology.stream(memory("in", SCHEMA, [{"id": 1234, "name": "x"}]), timestamp="id").to(kafka(topic, timestamps=timestamps))
    topology.run(Config(broker=broker.bootstrap))
    (record,) = consume_all(broker.bootstrap, topic)
    assert record.timestamp_ms == 1234 if timestamps == "event" else record.timestamp_ms > 1_700_000_000_000


def test_keys_lie_where_javas_clients_put_them(broker, topic_name):
    topic = create_topic(broker.bootstrap, topic_name, 7)
    write(broker, kafka(topic, key="name"), [{"id": n, "name": f"account-{n}"} for n in range(100)])
    for record in consume_all(broker.bootstrap, topic):
        assert record.partition == shard_of_key(record.key, 7)


def test_a_table_is_upserts_and_tombstones(broker, topic):
    rows = [{"id": n % 3, "name": f"n{n}"} for n in range(9)]
    topology = Topology("table")
    topology.stream(memory("in", SCHEMA, rows)).key_by("id").aggregate(n=count()).to(kafka(topic))
    topology.run(Config(broker=broker.bootstrap))
    last = {record.key: json.loads(record.value) for record in consume_all(broker.bootstrap, topic)}
    assert last == {str(k).encode(): {"id": k, "n": 3} for k in range(3)}


def test_a_withdrawn_row_is_a_tombstone(broker, topic):
    topology = Topology("tombstones")
    table = topology.table(
        memory("in", {"id": "int64", "name": "string | None"}, [{"id": 1, "name": "a"}, {"id": 1, "name": None}]), key="id"
    )
    table.to(kafka(topic))
    topology.run(Config(broker=broker.bootstrap))
    found = [record.value for record in consume_all(broker.bootstrap, topic)]
    assert [value and json.loads(value) for value in found] == [{"id": 1, "name": "a"}, None]


def test_a_column_that_is_not_there():
    rows = Topology("wrong").stream(memory("in", SCHEMA, ROWS)).with_columns(x=col("id"))
    with pytest.raises(TopologyError, match="unknown column 'nope'"):
        rows.to(kafka("t", key="nope"))


def test_a_table_takes_rows_away_whatever_the_schema_of_its_values(broker, topic, registry):
    """A row that goes has nulls where the schema has none."""
    rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 1, "name": None}]
    topology = Topology("avro-tombstones")
    table = topology.table(memory("in", {"id": "int64", "name": "string | None"}, rows), key="id")
    schema = json.dumps({"type": "record", "name": "Row", "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]})
    table.filter(col("name") == "a").to(kafka(topic, format="avro", registry=registry.url, subject_schema=schema))
    topology.run(Config(broker=broker.bootstrap))
    assert [(record.key, record.value is None) for record in consume_all(broker.bootstrap, topic)] == [(b"1", False), (b"1", True)]


def test_maps_are_written_as_avro_has_them(broker, topic, registry):
    place = {"type": "record", "name": "Place", "fields": [{"name": "m", "type": {"type": "map", "values": "long"}}]}
    fields = [{"name": "id", "type": "long"}, {"name": "m", "type": place["fields"][0]["type"]}, {"name": "place", "type": place}]
    given = pa.schema(
        [("id", pa.int64()), ("m", pa.map_(pa.string(), pa.int64())), ("place", pa.struct([("m", pa.map_(pa.string(), pa.int64()))]))]
    )
    rows = [{"id": 1, "m": {"a": 1, "b": 2}, "place": {"m": {"c": 3}}}, {"id": 2, "m": {}, "place": {"m": {}}}]
    described = {"format": "avro", "registry": registry.url}
    write(broker, kafka(topic, subject_schema=json.dumps({"type": "record", "name": "Row", "fields": fields}), **described), rows, given)
    found = read(broker, kafka(topic, given, until="latest", **described))
    assert [(dict(row["m"]), dict(row["place"]["m"])) for row in found] == [({"a": 1, "b": 2}, {"c": 3}), ({}, {})]
