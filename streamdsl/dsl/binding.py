"""`bind`: other sources and sinks behind the names of a topology."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from streamdsl.connectors.base import METADATA_COLUMNS, Sink, Source
from streamdsl.errors import TopologyError
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode, readable
from streamdsl.policies import checked_policy
from streamdsl.schema import Schema, nearest

__all__ = ["bound_sink", "changes_of_a_table", "check_bindings", "check_columns", "check_kind", "check_partitioned", "with_sources"]


def changes_of_a_table(verb: str, source: Source) -> TopologyError:
    """Return what is said of a source of changes that is read as a stream."""
    return TopologyError(
        f"{verb}: the records of {source.name!r} are changes of a table, not rows",
        remedy="read it with topology.table(source, key=...); .to_stream() gives the changes",
    )


def check_kind(verb: str, sink: Sink, *, withdraws: bool) -> None:
    """Refuse a table whose rows may go, where nothing can be taken away; rows that are only replaced stand there one behind the other."""
    if withdraws and not sink.upserts:
        raise TopologyError(
            f"{verb}: {sink.name!r} only grows, and rows of the table may be withdrawn",
            remedy="write its changes: table.to_stream().to(...), where the column op says what each does;"
            " or its rows to a sink with upserts: kafka(...), postgres(...), redis(...)",
        )


def check_bindings(bind: Mapping[str, Any], sources: Collection[str], sinks: Collection[str]) -> None:
    """Raise if a name is unknown or what is behind it is of the wrong sort."""
    for name, value in bind.items():
        if name not in sources and name not in sinks:
            known = sorted({*sources, *sinks})
            near = nearest(name, known)
            raise TopologyError(
                f"bind: there is no source or sink {name!r}",
                remedy=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(known)}",
            )
        if (isinstance(value, Source) and name in sources) or (isinstance(value, Sink) and name in sinks):
            continue
        wanted = "a source" if name in sources else "a sink"
        raise TopologyError(f"bind: {name!r} is {wanted}, and {value!r} is not")


def bound_sink(sink: SinkNode, bind: Mapping[str, Any]) -> SinkNode:
    """Return the sink with what is bound to its name."""
    other = bind.get(sink.name)
    if not isinstance(other, Sink):
        return sink
    check_kind("bind", other, withdraws=sink.withdraws)
    other.check(sink.inputs[0].schema.visible(), sink.keys)
    return dataclasses.replace(sink, sink=other)


def with_sources(plan: LogicalPlan, bind: Mapping[str, Any]) -> LogicalPlan:
    """Return the plan reading the bound sources, as the declared columns."""

    def change(node: Node) -> Node:
        if not isinstance(node, SourceNode):
            return node
        other = bind.get(node.name)
        if not isinstance(other, Source):
            return node
        # Columns that nobody declared are those of the topology.
        if other.schema is None or not Schema.of(other.schema).fields or getattr(other, "inferred", False):
            adapt = getattr(other, "with_schema", None)
            if adapt is None:
                raise TopologyError(f"bind: the source for {node.name!r} has no schema", remedy="give it schema=")
            other = adapt(node.declared)
        other = _without_data_for_metadata(other, node)
        check_partitioned(other, node.declared, "bind")
        if other.changes and node.table_keys is None:
            raise changes_of_a_table("bind", other)
        checked_policy(other.errors, f"bind: the source for {node.name!r}")
        return dataclasses.replace(node, source=other)

    return plan.rewritten(change)


def _without_data_for_metadata(source: Source, node: SourceNode) -> Source:
    """Return the source without columns called like metadata that the topology has not declared: there the metadata is meant."""
    offered = Schema.of(source.schema)
    clash = [name for name in offered.names if name in METADATA_COLUMNS and name not in node.declared]
    if not clash:
        return source
    adapt = getattr(source, "with_schema", None)
    if adapt is None:
        raise TopologyError(
            f"bind: the source for {node.name!r} declares {clash[0]!r} as data, the topology reads it as metadata",
            remedy="declare the column in the topology too, or leave it out of the schema of the bound source",
        )
    bound: Source = adapt(offered.drop(clash))
    return bound


def check_partitioned(source: Source, declared: Schema, verb: str) -> None:
    """Raise if a source says that it is partitioned by a column that is not read, or whose bytes are not a record key."""
    name = source.partitioned_by
    if name is None:
        return
    told = f"{verb}: {source.name!r} is partitioned_by={name!r}"
    try:
        type_ = readable(declared).field(name).type
    except TopologyError as error:
        raise TopologyError(f"{told}: {error.message}", remedy=error.remedy) from None
    if (name in METADATA_COLUMNS and name != "_key" and name not in declared) or not (
        pa.types.is_string(type_) or pa.types.is_binary(type_)
    ):
        raise TopologyError(
            f"{told}, which is {type_}: only a column of text or bytes is a record key as it is",
            remedy='use partitioned_by="_key" and key_by("_key"), the record key itself, or declare the column as text',
        )


def check_columns(plan: LogicalPlan) -> None:
    """Raise if a source lacks a column that the plan reads, or has it with another type."""
    for node in plan.sources:
        offered = Schema.of(node.source.schema)
        for name in node.columns:
            wanted = node.schema.field(name)
            if wanted.hidden and name in METADATA_COLUMNS:
                continue
            if name not in offered:
                near = nearest(name, offered.names)
                raise TopologyError(
                    f"bind: the source for {node.name!r} has no column {name!r}, which the topology reads",
                    remedy=(f"did you mean {near!r}? " if near else "") + f"it has: {', '.join(offered.names)}",
                )
            found = offered.field(name).type
            if found != wanted.type:
                raise TopologyError(
                    f"bind: column {name!r} of the source for {node.name!r} is {found}, declared is {wanted.type}",
                    remedy="declare the same type, or leave the schema of the bound source out",
                )
