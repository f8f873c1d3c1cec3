"""A logical plan as Flink SQL: each node by the translation of its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from streamdsl.errors import TopologyError
from streamdsl.flink.job import FlinkJob, Statement
from streamdsl.flink.nodes import aggregate, deduplicate, frame, join, process, python_function, rows, table, window_aggregate
from streamdsl.flink.quoting import text
from streamdsl.flink.refusing import Refused, refusal
from streamdsl.flink.relation import Relation
from streamdsl.flink.tables.sink import write_sink
from streamdsl.flink.tables.source import write_source
from streamdsl.flink.translation import Translation
from streamdsl.logical.aggregate import AggregateNode, ReduceNode
from streamdsl.logical.counter import CounterNode
from streamdsl.logical.deduplicate import DeduplicateNode
from streamdsl.logical.explode import ExplodeNode
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.frame import FrameNode
from streamdsl.logical.join import (
    AsOfJoinNode,
    BroadcastJoinNode,
    ConnectNode,
    ForeignKeyJoinNode,
    IntervalJoinNode,
    TableJoinNode,
    TablesJoinNode,
    VersionedJoinNode,
)
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.output import OutputNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.process import NativeNode, ProcessNode
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode
from streamdsl.logical.table import TableNode
from streamdsl.logical.window_aggregate import WindowAggregateNode

__all__ = ["translate"]

_TRANSLATIONS: Final[dict[type[Node], Callable[[Translation, Any], Relation]]] = {
    SourceNode: write_source,
    ProjectNode: rows.project,
    FilterNode: rows.filter,
    CounterNode: rows.counter,
    KeyByNode: rows.key_by,
    MergeNode: rows.merge,
    ExplodeNode: rows.explode,
    OutputNode: rows.output,
    PythonFunctionNode: python_function.python_function,
    ProcessNode: process.process,
    NativeNode: rows.native,
    ReduceNode: rows.reduce,
    FrameNode: frame.frame,
    AggregateNode: aggregate.aggregate,
    WindowAggregateNode: window_aggregate.window_aggregate,
    DeduplicateNode: deduplicate.deduplicate,
    IntervalJoinNode: join.interval_join,
    AsOfJoinNode: join.as_of,
    TableJoinNode: join.with_table,
    VersionedJoinNode: join.with_table,
    BroadcastJoinNode: join.with_table,
    ConnectNode: rows.connect,
    TablesJoinNode: join.of_tables,
    ForeignKeyJoinNode: join.of_tables,
    TableNode: table.table,
}


def translate(plan: LogicalPlan, offsets: Mapping[str, Mapping[int, int]] | None = None) -> FlinkJob:
    """Return a plan as statements of Flink SQL.

    Parameters
    ----------
    plan : LogicalPlan
    offsets : mapping, optional
        Where sources of topics begin: by name of the source and number of the partition, the next offset.

    Raises
    ------
    TopologyError
        Something in it has no equal in Flink SQL: the error names all such things, and what to do.
    """
    _check_offsets(plan, offsets or {})
    translation = Translation(plan, offsets)
    for node in plan.nodes:
        try:
            _one(translation, node)
        except Refused as refused:
            place = f" ({node.where})" if node.where else ""
            name = getattr(node, "name", "")
            shown = f"{node.verb}{f' {name!r}' if name else ''}{place}: {refused.message}"
            translation.refused.append(Refused(shown, refused.remedy))
            # What reads it is looked at all the same: all that is refused is told at once.
            translation.relations[id(node)] = Relation("refused", time="rowtime")
    if translation.refused:
        raise refusal(plan.name, translation.refused)
    return FlinkJob(
        name=plan.name,
        statements=(*_settings(plan.name, translation.settings), *translation.statements, *_inserts(translation)),
        differences=tuple(translation.differences),
        connectors=tuple(translation.connectors),
        functions=tuple(translation.functions),
        processes=tuple(translation.processes),
        inserts=tuple(translation.inserts),
    )


def _one(translation: Translation, node: Node) -> None:
    _check_errors(node)
    if isinstance(node, SinkNode):
        write_sink(translation, node)
        return
    found = _TRANSLATIONS.get(type(node))
    if found is None:
        raise Refused(f"{node.verb} is not known to the translation", "say it with other verbs")
    translation.relations[id(node)] = found(translation, node)


def _check_errors(node: Node) -> None:
    """A record that fails ends a job of Flink: it can neither be skipped nor written elsewhere."""
    errors = getattr(node, "errors", None)
    if isinstance(node, PythonFunctionNode) and errors == "skip":
        return
    if isinstance(node, (SourceNode, SinkNode)) or errors in (None, "fail") or not node.refuses:
        return
    raise Refused(
        f"errors={errors if isinstance(errors, str) else 'dead_letter(...)'}: a record that fails ends a Flink job",
        'filter such records out before, or cast with strict=False; errors="fail" is the same in both',
    )


def _check_offsets(plan: LogicalPlan, offsets: Mapping[str, Mapping[int, int]]) -> None:
    topics = {node.name for node in plan.nodes if isinstance(node, SourceNode) and type(node.source).__name__ == "Kafka"}
    for name in offsets:
        if name not in topics:
            known = ", ".join(map(repr, sorted(topics))) or "none"
            raise TopologyError(f"to_flink(offsets=): {name!r} is no source of a topic", remedy=f"those are {known}")


def _settings(name: str, more: Mapping[str, str]) -> tuple[Statement, ...]:
    given = {
        "pipeline.name": name,
        "execution.runtime-mode": "streaming",
        # Clocks of UTC: what a time shows is then the same as here.
        "table.local-time-zone": "UTC",
        "table.exec.sink.not-null-enforcer": "ERROR",
        **more,
    }
    return tuple(Statement("set", key, f"SET {text(key)} = {text(value)}") for key, value in given.items())


def _inserts(translation: Translation) -> tuple[Statement, ...]:
    if len(translation.inserts) == 1:
        return tuple(translation.inserts)
    body = "\n".join(str(one) for one in translation.inserts)
    names = ", ".join(one.name for one in translation.inserts)
    return (Statement("insert", names, f"EXECUTE STATEMENT SET\nBEGIN\n{body}\nEND"),)
