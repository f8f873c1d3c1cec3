"""Topics with Protobuf that this library and Flink both read and write, with schemas of a registry."""

from __future__ import annotations

import importlib
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from streamdsl import Config, ConnectorError
from streamdsl.cli.target import located
from streamdsl.flink.gateway import Gateway
from streamdsl.flink.job import FlinkJob, Statement
from streamdsl.flink.project import write_project
from tests.flink.cluster import Cluster
from tests.flink.compare import alike
from tests.flink.pyflink import pyflink
from tests.kafka.broker import Broker
from tests.kafka.registry import Registry
from tests.kafka.topics import consume_all, create_topic, produce

__all__ = ["check_protobuf"]

_START: Final = 1_700_000_000_000
_NO_FORMAT: Final = {"use.deprecated.format": False}
#: Mistakes of a translation, by the topic that shows them: the statement, what stands in it, and what is planted in its place.
PLANTED: Final = {
    "rows": ("rows_typed", "TO_TIMESTAMP_LTZ(S.`_row`.`moment`, 3)", "TO_TIMESTAMP_LTZ(S.`_row`.`at`, 3)"),
    "windows": ("rows", ".`at`, 3),\n  WATERMARK", ".`id` * 1000, 3),\n  WATERMARK"),
    "mixed": ("mixed_typed", "WHERE S.`_row` IS NOT NULL", "WHERE S.`_row`.`k` IS NOT NULL"),
    "own": ("own_typed", "FROM `own` AS S", "FROM (SELECT * FROM `own` WHERE `_offset` > 9) AS S"),
    "last": ("table_last", "ORDER BY `_time` DESC", "ORDER BY `_time` ASC"),
}
_FAILING: Final = """
from streamdsl import Topology, kafka
from tests.flink.protobuf_app import GIVEN, MESSAGES
topology = Topology("failing")
given = {{"format": "protobuf", "registry": GIVEN["registry"], "broker": GIVEN["broker"], "message": MESSAGES["Row"]}}
rows = topology.stream(kafka("protobuf-failing-in", {{"id": int, "at": int}}, until="latest", **given), timestamp={time!r}, errors="fail")
rows.to(kafka("protobuf-failing", timestamps="arrival", **given))
"""


def check_protobuf(directory: Path, most: int = 300) -> None:
    """Compare streams, windows, a table and bad records from topic to topic; see mistakes found, and the error of a bad record."""
    with Registry() as registry, Broker() as broker:
        os.environ["STREAMDSL_PROTOBUF_APP"] = json.dumps({"broker": broker.bootstrap, "registry": registry.url})
        app = importlib.reload(importlib.import_module("tests.flink.protobuf_app"))
        _produce(app, broker, registry, most)
        for side in ("here", "there", "planted"):
            for name in app.OUTPUTS:
                create_topic(broker.bootstrap, f"protobuf-{name}-{side}", 2)
        app.build(broker.bootstrap, registry.url, "here").run(Config(broker=broker.bootstrap, state_backend="memory"))
        here = {name: _written(app, broker, registry, name, "here") for name in app.OUTPUTS}
        with Cluster(python=pyflink()) as flink:
            job = app.topology.to_flink()
            write_project(job, directory / "protobuf", app)
            _run(flink, job, directory / "protobuf")
            for name in app.OUTPUTS:
                assert here[name], name
                alike(here[name], _written(app, broker, registry, name, "there"))
                print(f"protobuf {name}: {len(here[name])} rows alike", flush=True)
                ours, theirs = (registry.versions[f"protobuf-{name}-{side}-value"] for side in ("here", "there"))
                assert ours == theirs and len(ours) == 1, "another schema"
            _check_planted(app, broker, registry, flink, directory, here)
            for topic in ("protobuf-failing-in", "protobuf-failing"):
                create_topic(broker.bootstrap, topic, 1)
            (good,) = (record.value for record in consume_all(broker.bootstrap, "protobuf-in")[:1])
            produce(broker.bootstrap, "protobuf-failing-in", [good, good, b"no Protobuf"])
            for time in ("at", None):
                _check_bad_value(flink, directory, time)


def _run(flink: Cluster, job: FlinkJob, project: Path, parallelism: int = 3) -> None:
    with Gateway(flink.gateway) as gateway:
        for option, value in (("parallelism.default", parallelism), ("restart-strategy.type", "none")):
            gateway.run(Statement("set", option, f"SET '{option}' = '{value}'"))
        gateway.wait(gateway.submit(job, python_files=str(project / "python")), timeout_s=300)


def _check_planted(app: Any, broker: Broker, registry: Registry, flink: Cluster, directory: Path, here: dict[str, Any]) -> None:
    """See each planted mistake found: all of them in one job, each in the rows of another topic."""
    statements = []
    left = dict(PLANTED)
    for one in app.topology.to_flink().statements:
        text = one.text.replace("-there'", "-planted'")
        for name, (statement, right, wrong) in PLANTED.items():
            if one.name.startswith(statement) and right in text:
                text = text.replace(right, wrong)
                left.pop(name, None)
        statements.append(replace(one, text=text))
    assert not left, f"the statements have nothing of {left}"
    _run(flink, replace(app.topology.to_flink(), statements=tuple(statements)), directory / "protobuf")
    for name in PLANTED:
        # The time of a record shows mistakes of others.
        ours, theirs = (_timeless(rows) for rows in (here[name], _written(app, broker, registry, name, "planted")))
        try:
            alike(ours, theirs)
        except AssertionError:
            print(f"planted protobuf {name}: found", flush=True)
        else:
            raise AssertionError(f"the mistake in {name} was not found")


def _timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "time"} for row in rows]


def _check_bad_value(flink: Cluster, directory: Path, time: str | None) -> None:
    """See a value that is no Protobuf end the job, with its place."""
    name = f"failing_by_{time or 'record'}"
    (directory / f"{name}.py").write_text(_FAILING.format(time=time))
    topology, module, attribute = located(f"{directory / f'{name}.py'}:topology")
    job = topology.to_flink()
    write_project(job, directory / name, module, attribute)
    try:
        _run(flink, job, directory / name, parallelism=1)
    except ConnectorError as error:
        for wanted in ("a record cannot be read: 'no Protobuf'", "topic=protobuf-failing-in, partition=0, offset=2"):
            assert wanted in error.message, error.message
        print(f"protobuf: the error of a bad record names its place ({name})", flush=True)
    else:
        raise AssertionError("a value that is no Protobuf did not end the job")


def _produce(app: Any, broker: Broker, registry: Registry, most: int) -> None:
    rnd = random.Random(12)
    serialize = ProtobufSerializer(app.MESSAGES["Row"], SchemaRegistryClient({"url": registry.url}), _NO_FORMAT)
    for topic in ("protobuf-in", "protobuf-bad"):
        create_topic(broker.bootstrap, topic, 3)
        context = SerializationContext(topic, MessageField.VALUE)
        values = [(row, serialize(app.MESSAGES["Row"](**row), context)) for row in (_row(rnd, number) for number in range(most))]
        records = [
            {"key": str(row["id"]), "value": value, "partition": row["id"] % 3, "timestamp": row["at"] + 500} for row, value in values
        ]
        if topic == "protobuf-bad":
            bad = [b"no Protobuf", None, b"", b"\0\0\0", *(value[:-1] for _, value in values[:9]), b"\0\0\0\0\1\0" + b"\xff" * 9]
            for place, value in enumerate(bad):
                records.insert(9 + 7 * place, {"value": value, "partition": place % 3, "timestamp": _START + 500 + (9 + 6 * place) * 317})
        produce(broker.bootstrap, topic, records)


def _row(rnd: random.Random, number: int) -> dict[str, Any]:
    found = {
        "id": number % 97,
        "k": rnd.choice([None, "a", "ß", "東京", ""]),
        "at": _START + number * 317 + rnd.randrange(900),
        "x": rnd.choice([None, 0.0, -1.5, 1e300, float("nan"), float("-inf")]),
        "n": rnd.choice([None, 0, 7, -32_768]),
        "u": rnd.choice([0, 2**64 - 1]),
        "ok": rnd.random() < 0.5,
        "b": rnd.choice([None, b"", b"\0\xff"]),
        "ns": [rnd.randrange(-9, 9) for _ in range(rnd.randrange(3))],
        "names": rnd.choice([[], ["", "ä"]]),
        "day": rnd.choice([None, 0, -1, 19_000]),
        "moment": rnd.choice([None, 0, -1, _START + number]),
        "m": {"a": number} if number % 3 else {},
    }
    return {name: value for name, value in found.items() if value is not None}


def _written(app: Any, broker: Broker, registry: Registry, name: str, side: str) -> list[dict[str, Any]]:
    """Return the rows of a topic, with their keys and times; of the table, the last one of each key that is there."""
    message, topic = app.MESSAGES[app.OUTPUTS[name]], f"protobuf-{name}-{side}"
    read = ProtobufDeserializer(message, _NO_FORMAT, SchemaRegistryClient({"url": registry.url}))
    records = consume_all(broker.bootstrap, topic)
    kept = list({record.key: record for record in records}.values()) if name == "last" else records
    found = []
    for record in kept:
        if record.value is None:
            continue
        value = read(record.value, SerializationContext(topic, MessageField.VALUE))
        row = {field.name: _plain(value, field) for field in message.DESCRIPTOR.fields}
        timed = {"time": record.timestamp_ms} if name in ("rows", "windows") else {}
        # Without a key a record may lie anywhere.
        place = {} if record.key is None else {"key of it": record.key.decode(), "partition": record.partition}
        found.append({**row, **place, **timed})
    return found


def _plain(message: Any, field: Any) -> Any:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if field.name == "m":
        return json.dumps(dict(value))
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if field.name in ("ns", "names") else value
