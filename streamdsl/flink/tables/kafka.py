"""Topics as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from streamdsl.flink.quoting import quoted, text
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import TIME
from streamdsl.flink.tables import avro, protobuf
from streamdsl.flink.tables.declared import Declared, DeclaredSink, SinkColumn
from streamdsl.flink.translation import Translation
from streamdsl.flink.types import flink_type
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode
from streamdsl.logical.types import is_decimal, is_integer, is_string, is_text, is_time
from streamdsl.schema import Field, Schema

__all__ = ["sink", "source"]

_CONNECTOR: Final = "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2"
_DEFAULT_BROKER: Final = "localhost:9092"
_AVRO: Final = "org.apache.flink:flink-sql-avro-confluent-registry:2.2.0"

#: What Flink can tell of a record beside its value.
_METADATA: Final = {
    "_topic": "`_topic` STRING METADATA FROM 'topic' VIRTUAL",
    "_partition": "`_partition` BIGINT METADATA FROM 'partition' VIRTUAL",
    "_offset": "`_offset` BIGINT METADATA FROM 'offset' VIRTUAL",
    "_timestamp": "`_timestamp` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL",
    "_key": "`_key` BYTES",
    "_deleted": "`_deleted` AS FALSE",
}


def source(made: Translation, node: SourceNode, topic: Any, skips: bool) -> Declared:
    """Describe a topic that is read."""
    asked = [name for name in node.columns if name not in node.declared and name != "_deleted"]
    for name in asked:
        if name not in _METADATA:
            raise Refused(f"the column {name} of the topic {topic.topic!r}", "Flink has headers as a map of bytes: leave it out")
    given = {"connector": "kafka", "topic": topic.topic, **_clients(made, topic)}
    given["properties.group.id"] = f"{made.plan.name}-flink"
    given["properties.isolation.level"] = "read_committed"
    given |= _start(topic, made.offsets.get(node.name))
    if topic.until is not None:
        given["scan.bounded.mode"] = "latest-offset"
    given |= _value_format(made, topic, "value.", skips)
    if "_key" in asked:
        given |= {"key.format": "raw", "key.fields": "_key", "value.fields-include": "EXCEPT_KEY"}
    own_time = "TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL"
    declared = Declared(given, _METADATA, own_time=own_time)
    if topic.format == "protobuf":
        return protobuf.source(made, node, topic, declared, skips)
    return _avro_source(made, node, declared) if topic.format == "avro" else declared


def _avro_source(made: Translation, node: SourceNode, declared: Declared) -> Declared:
    fields = {field.name: field for field in node.declared.fields if not field.hidden}

    def typed(field: Field) -> str:
        found = avro.read_column(field.name, field.type) if field.name in fields else quoted(field.name)
        return found if found == quoted(field.name) else f"{found} AS {quoted(field.name)}"

    types = [field.type for field in fields.values()]
    if any(map(is_decimal, types)):
        made.differs(f"Decimals in the Avro of {node.name!r} are read with the digits of the column, whatever its writer's schema says.")
    if any(map(is_time, types)):
        made.differs(
            f"Times in the Avro of {node.name!r} are counted in the unit of the column, whatever its writer's schema says: declare a "
            "timestamp-micros as pa.timestamp('us', tz='UTC')."
        )
    made.differs(f"Enums, fixed and unions of several types in the Avro of {node.name!r} end a Flink job.")
    changed = any(typed(field) != quoted(field.name) for field in fields.values())
    return replace(
        declared,
        read_type=lambda field: avro.read_type(field.name, field.type),
        typed_column=typed if changed else None,
        typed_text=avro.read_column,
    )


def _clients(made: Translation, topic: Any) -> dict[str, str]:
    made.needs(_CONNECTOR)
    if topic.options:
        names = ", ".join(sorted(topic.options))
        made.differs(f"Options of librdkafka for {topic.topic!r} ({names}) are not carried over: give Java's as 'properties.…'.")
    broker = topic.broker or (topic.config.broker if topic.config is not None else None) or _DEFAULT_BROKER
    return {"properties.bootstrap.servers": broker}


def _start(topic: Any, offsets: Mapping[int, int] | None) -> dict[str, str]:
    if offsets is not None:
        places = ";".join(f"partition:{number},offset:{offset}" for number, offset in sorted(offsets.items()))
        return {"scan.startup.mode": "specific-offsets", "scan.startup.specific-offsets": places}
    if isinstance(topic.start, int):
        return {"scan.startup.mode": "timestamp", "scan.startup.timestamp-millis": str(topic.start)}
    return {"scan.startup.mode": f"{topic.start}-offset"}


def _value_format(made: Translation, topic: Any, prefix: str, skips: bool = False) -> dict[str, str]:
    kind = topic.format
    if kind == "json":
        found = {f"{prefix}format": "json", f"{prefix}json.timestamp-format.standard": "ISO-8601"}
        return found | ({f"{prefix}json.ignore-parse-errors": "true"} if skips else {})
    if kind == "debezium-json":
        found = {f"{prefix}format": kind, f"{prefix}{kind}.timestamp-format.standard": "ISO-8601"}
        return found | ({f"{prefix}{kind}.ignore-parse-errors": "true"} if skips else {})
    if kind in ("raw", "protobuf"):
        return {f"{prefix}format": "raw"}
    if skips:
        raise Refused(f'errors="skip" of {kind} records', 'errors="fail"')
    if kind == "avro":
        made.needs(_AVRO)
        return {f"{prefix}format": "avro-confluent", f"{prefix}avro-confluent.url": _registry(made, topic)}
    raise Refused(f"the format {kind!r} of the topic {topic.topic!r}", "write JSON, Avro or files of Parquet")


def _registry(made: Translation, topic: Any) -> str:
    given = dict(topic.registry or {})
    url = given.pop("url", None)
    if given:
        names = ", ".join(sorted(given))
        made.differs(
            f"Options of the registry of {topic.topic!r} ({names}) are not carried over: give Flink's as 'value.avro-confluent.…'."
        )
    if not isinstance(url, str):
        raise Refused(f"the topic {topic.topic!r} has Avro without the URL of a registry", 'kafka(..., registry="http://host:8081")')
    return url


def sink(made: Translation, node: SinkNode, topic: Any, fields: Sequence[Field]) -> DeclaredSink:
    """Describe a topic that is written; `fields` are the columns of its values."""
    if node.changes and (topic.headers or topic.topic_from):
        raise Refused(f"headers= and topic_from= of a table, written to {topic.topic!r}", "write the columns in the value")
    place = {"topic-pattern": ".*"} if topic.topic_from else {"topic": topic.topic}
    given = {"connector": "upsert-kafka" if node.changes else "kafka", **place, **_clients(made, topic)}
    constraints: list[str] = []
    schema = node.inputs[0].schema.visible()
    keys = node.keys if node.changes else topic.key
    if node.changes:
        if not keys:
            raise Refused(f"the table of everything, written to {topic.topic!r}", "give it a key: key_by(...) a constant column")
        constraints.append(f"PRIMARY KEY ({', '.join(map(quoted, keys))}) NOT ENFORCED")
    elif keys:
        given["key.fields"] = ";".join(keys)
    if keys:
        given |= _key_format(made, topic, [schema.field(name) for name in keys])
    given |= _value_format(made, topic, "value.")
    columns = None
    if topic.format == "avro":
        columns, more = _avro_sink(topic, fields, keys, node.changes)
        given |= more
    if topic.format == "protobuf":
        columns = protobuf.written(made, node, topic, fields, [schema.field(name) for name in keys])
        given |= {"value.fields-include": "EXCEPT_KEY"} if keys else {}
    if topic.delivery == "exactly_once":
        given |= {"sink.delivery-guarantee": "exactly-once", "sink.transactional-id-prefix": f"{made.plan.name}-{node.name}"}
        given["properties.transaction.timeout.ms"] = "900000"
        made.differs("Exactly once needs checkpoints: set execution.checkpointing.interval, which is also how long results take.")
    else:
        given["sink.delivery-guarantee"] = "at-least-once"
    timed = made.of(node.inputs[0]).time is not None and topic.timestamps == "event" and not node.changes
    extra = [("`_timestamp` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'", quoted(TIME))] if timed else []
    return DeclaredSink(given, columns, constraints, [*extra, *_apart(made, topic, schema)])


def _avro_sink(topic: Any, fields: Sequence[Field], keys: Sequence[str], changes: bool) -> tuple[list[SinkColumn], dict[str, str]]:
    """Return the columns of a topic that is written with a schema of Avro, those of its key among them, and more options."""
    if topic.topic_from:
        raise Refused(f"topic_from= of {topic.topic!r} with Avro", "write to one topic: Flink has one schema for all")
    columns = avro.written(topic, fields)
    options = {"value.avro-confluent.schema": topic.subject_schema}
    told = {column.name: column for column in columns}
    for name in keys if changes else ():
        if name in told and not told[name].type.endswith(" NOT NULL"):
            raise Refused(f"the key {name!r}, which may be null in the Avro schema of {topic.topic!r}", "give it a type that is never null")
    outside = [field for field in fields if field.name in keys and field.name not in told]
    if outside and len(outside) < len(keys):
        raise Refused(f"keys of {topic.topic!r}, of which the Avro schema has only some", "put all of them into the schema, or none")
    if outside:
        options["value.fields-include"] = "EXCEPT_KEY"
        primary = " NOT NULL" if changes else ""
        columns = [*(SinkColumn(one.name, f"{flink_type(one.type)}{primary}", quoted(one.name)) for one in outside), *columns]
    return columns, options


def _apart(made: Translation, topic: Any, schema: Schema) -> list[tuple[str, str]]:
    """Return the metadata of a record that columns give: its headers and its topic."""
    found = []
    if topic.headers:
        if any(schema.field(name).nullable for name in topic.headers):
            made.differs(f"Headers of {topic.topic!r} without a value are left out.")
        pairs = ", ".join(f"{text(name)}, {_header(topic, schema.field(name))}" for name in topic.headers)
        found.append(("`_headers` MAP<STRING, BYTES> METADATA FROM 'headers'", f"MAP[{pairs}]"))
    if topic.topic_from:
        made.differs(f"topic_from={topic.topic_from!r}: Flink writes to any topic that a row names, where the cluster lets it.")
        found.append(("`_topic` STRING METADATA FROM 'topic'", f"COALESCE({quoted(topic.topic_from)}, {text(topic.topic)})"))
    return found


def _header(topic: Any, field: Field) -> str:
    if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
        return quoted(field.name)
    if is_string(field.type):
        return f"CAST({quoted(field.name)} AS BYTES)"
    if is_integer(field.type):
        return f"CAST(CAST({quoted(field.name)} AS STRING) AS BYTES)"
    raise Refused(f"the header {field.name!r} ({field.type}) of the topic {topic.topic!r}", "make headers of texts, whole numbers or bytes")


def _key_format(made: Translation, topic: Any, fields: Sequence[Field]) -> dict[str, str]:
    """Describe keys: a column of text or bytes as it is, a number by its digits, all else as JSON."""
    plain = [is_text(field.type) or is_integer(field.type) or pa.types.is_boolean(field.type) for field in fields]
    if len(fields) == 1 and is_text(fields[0].type):
        return {"key.format": "raw"}
    if len(fields) == 1 and plain[0]:
        if fields[0].nullable:
            made.differs(f"A record of {topic.topic!r} without a key has an empty one.")
        return {"key.format": "csv"}
    if not all(plain):
        listed = ", ".join(f"{field.name} ({field.type})" for field in fields)
        made.differs(f"Keys of {topic.topic!r} have other bytes than here: Flink writes {listed} as JSON in its own way, as an object.")
    return {"key.format": "json", "key.json.timestamp-format.standard": "ISO-8601"}
