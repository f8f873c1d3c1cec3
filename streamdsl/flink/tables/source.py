"""CREATE TABLE of a source, with its event time and watermark."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from streamdsl.connectors.base import METADATA_COLUMNS
from streamdsl.flink.quoting import interval, options, quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import TIME, Relation
from streamdsl.flink.tables import files, kafka
from streamdsl.flink.tables.declared import Declared
from streamdsl.flink.translation import Translation, comment, select
from streamdsl.flink.values import Value, as_type
from streamdsl.logical.source import EventTime, SourceNode
from streamdsl.logical.types import INT, TIMESTAMP, is_integer, is_time
from streamdsl.policies import DeadLetter

__all__ = ["write_source"]


def write_source(made: Translation, node: SourceNode) -> Relation:
    """Declare the table that a source reads."""
    source = node.source
    if len(source.parts()) != 1:
        raise Refused(f"{node.name!r} reads one source after another", "bind one of them: topology.to_flink(bind={...})")
    if isinstance(source.errors, DeadLetter) or isinstance(node.errors, DeadLetter):
        raise Refused("dead letters of records that cannot be decoded", 'errors="fail", or errors="skip"')
    skips = "skip" in (source.errors, node.errors)
    declared = _described(made, node, skips)
    fields = [field for field in node.declared.fields if not field.hidden]
    lines = [declared.column(field) for field in fields] if declared.lines is None else [*declared.lines]
    # What a record without values means, a table says itself.
    asked = [name for name in node.columns if name in METADATA_COLUMNS and name not in node.declared and name != "_deleted"]
    lines += [declared.metadata[name] for name in asked]
    time = _event_time(node, declared)
    if time is not None:
        lines += [time, _watermark(made, node)]
    if source.changes:
        lines.append(f"PRIMARY KEY ({', '.join(map(quoted, node.table_keys or ()))}) NOT ENFORCED")
        _tell_changes(made, node)
    given = dict(declared.options)
    if node.idle_after_ms and time is not None:
        _tell_idleness(made, node, declared, given)
    _tell(made, node, time is not None)
    name = made.name_of(node, node.name)
    body = ",\n".join(f"  {line}" for line in lines)
    made.table(name, f"CREATE TEMPORARY TABLE {quoted(name)} (\n{body}\n) {options(given)}", comment(node))
    relation = Relation(name, time="rowtime" if time is not None else None, changes=source.changes)
    if declared.typed_column is None:
        return relation
    typed = [declared.typed_column(field) for field in node.schema.fields if field.name != "_deleted" or field.name in node.declared]
    query = select([*typed, *relation.time_columns()], f"{quoted(name)}{declared.joined}", declared.where)
    return made.view(node, query, like=relation, name=f"{node.name}_typed", nan=declared.nan)


def _described(made: Translation, node: SourceNode, skips: bool) -> Declared:
    source, kind = node.source, type(node.source).__name__
    if kind == "Kafka":
        return kafka.source(made, node, source, skips)
    if kind == "Files":
        return files.source(made, node, source, skips)
    raise Refused(
        f"the source {node.name!r} is {kind.lower()}(...), which Flink cannot read",
        f"bind a topic or files in its place: topology.to_flink(bind={{{node.name!r}: kafka(...)}})",
    )


def _event_time(node: SourceNode, declared: Declared) -> str | None:
    if node.timestamp is None:
        if declared.own_time is None:
            return None
        return f"{quoted(TIME)} {declared.own_time}"
    made_of = _computed(node, node.timestamp, declared)
    # A row that the view leaves out has to have some time: one so early moves no watermark.
    return f"{quoted(TIME)} AS {f'COALESCE({made_of}, TO_TIMESTAMP_LTZ(0, 3))' if declared.may_lack_time else made_of}"


def _computed(node: SourceNode, time: EventTime, declared: Declared) -> str:
    column = Value(declared.typed(time.column, time.type), time.type)
    if is_time(time.type) and time.tz is None:
        return column.text if time.type.unit == "ms" else f"CAST({column.text} AS TIMESTAMP_LTZ(3))"
    if is_integer(time.type):
        whole = as_type(column, INT)
        ms = {"s": f"{whole.inner} * 1000", "us": f"{whole.inner} / 1000", "ns": f"{whole.inner} / 1000000"}
        return as_type(Value(ms.get(time.unit or "ms", whole.text), INT), TIMESTAMP).text
    if pa.types.is_floating(time.type):
        per_ms = {"s": "* 1E3", "ms": "", "us": "/ 1E3", "ns": "/ 1E6"}[time.unit or "ms"]
        return f"TO_TIMESTAMP_LTZ(CAST(FLOOR({column.inner} {per_ms}) AS BIGINT), 3)"
    raise Refused(
        f"the event time {time.column!r} of {node.name!r} is {time.type}" + (f" in the zone {time.tz}" if time.tz else ""),
        "declare the column as a timestamp or as int milliseconds, which Flink reads as well",
    )


def _watermark(made: Translation, node: SourceNode) -> str:
    if node.external_watermarks:
        raise Refused('watermarks="external"', "Flink makes them from the event time: give disorder=")
    # A watermark of t is "nothing at or below t follows": a millisecond less than the latest time that may still come.
    made.differs(
        "Watermarks come every pipeline.auto-watermark-interval, 200 ms of the clock: until then Flink takes rows that are late here. With "
        "0 ms each row brings its own, as here."
    )
    wait = made.waits[id(node)]
    if wait:
        made.differs(
            f"grace= is a watermark of {node.name!r} that comes {wait} ms later: all that reads it waits as long, and takes rows that are "
            "late here."
        )
    return f"WATERMARK FOR {quoted(TIME)} AS {quoted(TIME)} - {interval(node.disorder_ms + wait + 1)}"


def _tell_idleness(made: Translation, node: SourceNode, declared: Declared, given: dict[str, str]) -> None:
    if declared.pushed:
        given["scan.watermark.idle-timeout"] = f"{node.idle_after_ms} ms"
        return
    option = "table.exec.source.idle-timeout"
    known = int(made.settings.get(option, "0 ms").removesuffix(" ms"))
    made.set(option, f"{max(known, node.idle_after_ms or 0)} ms")
    made.differs(f"idle_timeout of {node.name!r} is {option}, which holds for all sources without one of their own.")


def _tell_changes(made: Translation, node: SourceNode) -> None:
    # An event that comes again changes nothing here.
    made.set("table.exec.source.cdc-events-duplicate", "true")
    made.differs(
        f"Change events of {node.name!r} are bare, as Debezium writes them with schemas.enable=false; in an envelope with their schema "
        "Flink reads them with 'value.debezium-json.schema-include' = 'true'."
    )
    made.differs(
        f"Change events of {node.name!r} name the row before: PostgreSQL writes it for tables with REPLICA IDENTITY FULL; without it "
        "Flink fails, where the key is enough here."
    )


def _tell(made: Translation, node: SourceNode, timed: bool) -> None:
    if node.most_ahead_ms is not None and timed:
        made.differs(f"max_ahead of {node.name!r} is not kept: a record with a time far ahead makes all others late.")
    if node.bootstrap:
        made.differs(
            f"{node.name!r} is not read before the others: a row meets what Flink knows at its time, once the watermarks have come."
        )
    if node.max_drift_ms is not None:
        made.differs(f"max_drift of {node.name!r} is not kept; Flink's own is the table option scan.watermark.alignment.max-drift.")
    if node.source.rate is not None:
        made.differs(f"rate of {node.name!r} is not kept: Flink reads as fast as it can.")
    if any(is_time(field.type) for field in node.declared.fields) and getattr(node.source, "format", "") == "json":
        made.differs(f"Times in the JSON of {node.name!r} are texts such as 2024-01-31T12:00:00.123Z: Flink reads no other form.")
    required: Sequence[str] = [field.name for field in node.declared.fields if not field.nullable and not field.hidden]
    if required and getattr(node.source, "format", "") != "protobuf":
        made.differs(f"Columns of {node.name!r} that must not be null: a record without them is an error here; Flink goes on with nulls.")
