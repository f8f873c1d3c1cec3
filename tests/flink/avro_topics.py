"""Topics with Avro that this library and Flink both read and write, with schemas of a registry."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import random
import struct
from collections.abc import Sequence
from typing import Any, Final

import fastavro
import pyarrow as pa

from streamdsl import Config, ConnectorError, StreamError, Topology, col, count, kafka, tumbling
from streamdsl.flink.gateway import Gateway
from tests.flink.compare import alike
from tests.kafka.broker import Broker
from tests.kafka.registry import Registry
from tests.kafka.topics import consume_all, create_topic, produce

__all__ = ["check_avro"]

_START: Final = datetime.datetime(2024, 1, 31, 23, 59, tzinfo=datetime.UTC)


def _may(type_: Any) -> list[Any]:
    return ["null", type_]


def _logical(type_: str, name: str, **more: int) -> dict[str, Any]:
    return {"type": type_, "logicalType": name, **more}


_MILLIS: Final = _logical("long", "timestamp-millis")
_MICROS: Final = _logical("long", "timestamp-micros")
_CENTS: Final = _logical("bytes", "decimal", precision=12, scale=2)
_PLACE: Final[dict[str, Any]] = {
    "type": "record",
    "name": "Place",
    "fields": [{"name": "n", "type": "long"}, {"name": "since", "type": _MILLIS}],
}
_OLD: Final = [
    {"name": "id", "type": "int"},
    {"name": "k", "type": "string"},
    {"name": "at", "type": _MILLIS},
    {"name": "gone", "type": "string"},
    {"name": "exact", "type": _may(_MICROS)},
    {"name": "d", "type": _may(_logical("int", "date"))},
    {"name": "p", "type": _may(_CENTS)},
    {"name": "x", "type": "float"},
    {"name": "small", "type": _may("int")},
    {"name": "ns", "type": {"type": "array", "items": "long"}},
    {"name": "m", "type": {"type": "map", "values": "long"}},
    {"name": "place", "type": _may(_PLACE)},
]
#: A later schema: wider numbers, one column less, one more, in another order.
_NEW: Final = [
    {"name": "more", "type": _may("boolean"), "default": None},
    *({**one, "type": {"int": "long", "float": "double"}.get(str(one["type"]), one["type"])} for one in _OLD if one["name"] != "gone"),
]
_COLUMNS: Final = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("k", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("ms", tz="UTC"), nullable=False),
        ("exact", pa.timestamp("us", tz="UTC")),
        ("d", pa.date32()),
        ("p", pa.decimal128(12, 2)),
        ("x", pa.float64()),
        ("small", pa.int16()),
        ("ns", pa.list_(pa.int64())),
        ("m", pa.map_(pa.string(), pa.int64())),
        ("place", pa.struct([("n", pa.int64()), ("since", pa.timestamp("ms", tz="UTC"))])),
        ("more", pa.bool_()),
    ]
)
_OUT: Final = {
    "type": "record",
    "name": "Row",
    "namespace": "of.tests",
    "fields": [
        {"name": "k", "type": "string"},
        {"name": "missing", "type": _may("string"), "default": None},
        {"name": "id", "type": "long"},
        {"name": "at", "type": _MILLIS},
        {"name": "year", "type": _may("long")},
        {"name": "d", "type": _may(_logical("int", "date"))},
        {"name": "p", "type": _may(_logical("bytes", "decimal", precision=14, scale=3))},
        {"name": "x", "type": "double"},
        {"name": "small", "type": _may("int")},
        {"name": "ns", "type": {"type": "array", "items": "long"}},
        {"name": "m", "type": {"type": "map", "values": "long"}},
        {"name": "place", "type": _may(_PLACE)},
        {"name": "more", "type": _may("boolean")},
    ],
}
_SUMS: Final = {
    "type": "record",
    "name": "Sums",
    "fields": [{"name": "k", "type": "string"}, {"name": "n", "type": "long"}, {"name": "p", "type": _may({**_CENTS, "precision": 38})}],
}


def check_avro(gateway_url: str, broker: Broker, most: int = 200, parts: Sequence[str] = ("rows", "windows", "table", "bad")) -> int:
    """Compare streams, windows and tables of Avro from topic to topic; return how many rows the two have written."""
    with Registry() as registry:
        create_topic(broker.bootstrap, "avro-in", 3)
        produce(broker.bootstrap, "avro-in", _records(random.Random(11), registry, most))
        found = 0
        for name, build in _BUILDS.items():
            if name not in parts:
                continue
            written = []
            for side in ("here", "there"):
                out = create_topic(broker.bootstrap, f"avro-{name}-{side}", 2)
                topology = build(f"avro-{name}", out, broker, registry)
                if side == "here":
                    topology.run(Config(broker=broker.bootstrap, state_backend="memory"))
                else:
                    with Gateway(gateway_url) as gateway:
                        gateway.wait(gateway.submit(topology.to_flink()), timeout_s=180)
                written.append(_decoded(broker, registry, out, last=name == "table"))
            assert written[0], name
            alike(*written)
            found += len(written[0])
            ours, theirs = (_schemas(registry, f"avro-{name}-{side}-value") for side in ("here", "there"))
            assert ours == theirs and len(ours) == 1, "another schema"
        if "bad" in parts:
            _check_bad_value(gateway_url, broker, registry)
        return found


def _source(broker: Broker, registry: Registry, topic: str = "avro-in") -> Any:
    return kafka(topic, _COLUMNS, format="avro", registry=registry.url, broker=broker.bootstrap, until="latest", idle_timeout=None)


def _sink(broker: Broker, registry: Registry, topic: str, schema: Any, **more: Any) -> Any:
    described = json.dumps(schema)
    return kafka(topic, format="avro", registry=registry.url, subject_schema=described, broker=broker.bootstrap, **more)


def _rows(name: str, out: str, broker: Broker, registry: Registry) -> Topology:
    topology = Topology(name)
    rows = topology.stream(_source(broker, registry), name="rows", timestamp="at", errors="fail")
    made = rows.filter(col("id") % 5 != 0).with_columns(year=col("exact").cast(pa.timestamp("ms", tz="UTC")).dt.year())
    made.to(_sink(broker, registry, out, _OUT, key="k"), name="out")
    return topology


def _windows(name: str, out: str, broker: Broker, registry: Registry) -> Topology:
    topology = Topology(name)
    rows = topology.stream(_source(broker, registry), name="rows", timestamp="at", disorder="1d")
    sums = rows.key_by("k").window(tumbling("10s")).aggregate(n=count(), p=col("p").sum())
    sums.select("k", "n", "p").to(_sink(broker, registry, out, _SUMS), name="out")
    return topology


def _table(name: str, out: str, broker: Broker, registry: Registry) -> Topology:
    topology = Topology(name)
    table = topology.table(_source(broker, registry), key="id", name="rows", timestamp="at")
    few = table.filter(col("p") > 0).select("id", "k", "p")
    described = {**_SUMS, "fields": [{"name": "id", "type": "long"}, *_SUMS["fields"][::2]]}
    few.to(_sink(broker, registry, out, described), name="out")
    return topology


_BUILDS: Final = {"rows": _rows, "windows": _windows, "table": _table}


def _records(rnd: random.Random, registry: Registry, most: int) -> list[dict[str, Any]]:
    schemas = []
    for fields in (_OLD, _NEW):
        schema = {"type": "record", "name": "Order", "fields": fields}
        schemas.append((registry.register("avro-in-value", {"schema": json.dumps(schema)})["id"], fastavro.parse_schema(schema)))
    found: list[dict[str, Any]] = []
    for number in range(most):
        row = _row(rnd, number)
        identifier, schema = schemas[0] if number < most // 2 else schemas[1]
        found.append({"key": str(row["id"]), "value": _encoded(identifier, schema, row), "timestamp": int(_START.timestamp() * 1000)})
    return found


def _row(rnd: random.Random, number: int) -> dict[str, Any]:
    at = _START + datetime.timedelta(milliseconds=number * 317)
    old = datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC)
    return {
        "id": number % 70,
        "k": rnd.choice(["a", "ß", "東京", ""]),
        "at": at,
        "gone": "x",
        "exact": rnd.choice([None, at + datetime.timedelta(microseconds=number), old, old - datetime.timedelta(days=9_000)]),
        "d": rnd.choice([None, at.date(), datetime.date(1969, 12, 31)]),
        "p": rnd.choice([None, decimal.Decimal(rnd.randrange(-99_999, 99_999)) / 100, decimal.Decimal("9999999.99")]),
        "x": rnd.choice([0.0, -1.5, 1e6]),
        "small": rnd.choice([None, 7, -32_768]),
        "ns": [rnd.randrange(9) for _ in range(rnd.randrange(3))],
        "m": {"a": number} if number % 3 else {},
        "place": rnd.choice([None, {"n": number, "since": at}]),
        "more": rnd.choice([None, True, False]),
    }


def _encoded(identifier: int, schema: Any, row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    out.write(struct.pack(">bI", 0, identifier))
    fastavro.schemaless_writer(out, schema, row)
    return out.getvalue()


def _decoded(broker: Broker, registry: Registry, topic: str, last: bool) -> list[dict[str, Any]]:
    """Return the values of a topic by the schemas that they name; of a table, the last one of each key that is there."""
    values: list[tuple[bytes | None, dict[str, Any] | None]] = []
    for record in consume_all(broker.bootstrap, topic):
        value = None
        if record.value is not None:
            magic, identifier = struct.unpack(">bI", record.value[:5])
            assert magic == 0
            schema = fastavro.parse_schema(json.loads(registry.schemas[identifier - 1]["schema"]))
            read = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schema)
            assert isinstance(read, dict)
            value = {name: json.dumps(one, default=str) if isinstance(one, dict) else one for name, one in read.items()}
        values.append((record.key, value))
    kept = list({key: (key, value) for key, value in values}.values()) if last else values
    return [{**value, "key of it": key and key.decode()} for key, value in kept if value is not None]


def _schemas(registry: Registry, subject: str) -> list[Any]:
    return [json.loads(registry.schemas[number - 1]["schema"]) for number in registry.versions[subject]]


def _check_bad_value(gateway_url: str, broker: Broker, registry: Registry) -> None:
    """See a value that is no Avro end the job on both sides."""
    create_topic(broker.bootstrap, "avro-bad", 1)
    produce(broker.bootstrap, "avro-bad", [b"{}"])
    create_topic(broker.bootstrap, "avro-bad-out", 1)
    topology = Topology("avro-bad")
    rows = topology.stream(_source(broker, registry, "avro-bad"), name="rows", errors="fail").select("id", "k", "p")
    described = {**_SUMS, "fields": [{"name": "id", "type": "long"}, *_SUMS["fields"][::2]]}
    rows.to(_sink(broker, registry, "avro-bad-out", described, timestamps="arrival"), name="out")
    for run in (
        lambda: topology.run(Config(broker=broker.bootstrap, state_backend="memory")),
        lambda: _submitted(gateway_url, topology),
    ):
        try:
            run()
        except (ConnectorError, StreamError) as error:
            assert "avro" in str(error).lower() or "magic" in str(error).lower(), error
        else:
            raise AssertionError("a value that is no Avro did not end the job")


def _submitted(gateway_url: str, topology: Topology) -> None:
    with Gateway(gateway_url) as gateway:
        gateway.wait(gateway.submit(topology.to_flink()), timeout_s=120)
