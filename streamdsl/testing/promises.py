"""Which promise the rows of each sink deserve, read off the plan in front of it (see "What results depend on" in the guide)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import pyarrow as pa

from streamdsl.errors import TopologyError
from streamdsl.logical.aggregate import WINDOW_FIELDS, AggregateNode, ReduceNode
from streamdsl.logical.deduplicate import DeduplicateNode
from streamdsl.logical.expression import TypedAggregate
from streamdsl.logical.frame import FrameNode
from streamdsl.logical.join import AsOfJoinNode, ConnectNode, JoinNode, TableJoinNode
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node, StatefulNode
from streamdsl.logical.output import OutputNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.process import NativeNode, ProcessNode
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode
from streamdsl.logical.table import TableNode
from streamdsl.logical.window_aggregate import WindowAggregateNode
from streamdsl.processor import Processor
from streamdsl.schema import Schema
from streamdsl.testing.data import SourceRows
from streamdsl.windows import Throttle

__all__ = ["Judgement", "Judgements", "Promise", "judge"]

Kind = Literal["P1", "P2", "P3"]
_WINDOW_COLUMNS: Final = tuple(field.name for field in WINDOW_FIELDS)


@dataclass(frozen=True, slots=True)
class Promise:
    """What may not differ between two runs over the same rows.

    Parameters
    ----------
    kind : "P1" | "P2" | "P3"
        P1: the same rows, in any order. P2: the same rows, those of each key in the same order. P3: the last row of each key.
    by : tuple of str
        The columns of the key; P1 has none.

    Examples
    --------
    >>> print(Promise("P2", by=("account",)))
    P2, the rows of each account in their order
    """

    kind: Kind
    by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("P1", "P2", "P3"):
            raise TopologyError(f"there is no promise {self.kind!r}", remedy='use "P1", "P2" or "P3"')
        if self.kind == "P1" and self.by:
            raise TopologyError("P1 compares whole rows, by no columns", remedy="leave by= out, or use P2 or P3")

    def __str__(self) -> str:
        each = f" of each {', '.join(self.by)}" if self.by else ""
        rows = {"P1": "the same rows in any order", "P2": f"the rows{each} in their order", "P3": f"the last row{each}"}
        return f"{self.kind}, {rows[self.kind]}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a sink deserves; `reason` says why it deserves nothing.

    `carried`: the columns of the key, if its rows have them. `hints`: what in front of it may break a promise.
    """

    promise: Promise | None
    reason: str = ""
    carried: tuple[str, ...] | None = None
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgements:
    """What the sinks of a plan deserve, if the rows are dealt out as `together` and `alone` say.

    Rows of a source that agree in the columns of one of `together` must be in one split; the sources in `alone` have one.
    `keys`: the columns of each source that are part of a key somewhere.
    """

    sinks: Mapping[str, Judgement]
    together: Mapping[str, Sequence[tuple[str, ...]]]
    alone: frozenset[str]
    keys: Mapping[str, frozenset[str]]


def judge(plan: LogicalPlan, rows: Mapping[str, SourceRows]) -> Judgements:
    """Judge the sinks of an optimised plan over these rows."""
    walk = _Walk(plan, rows)
    sinks = {sink.name: walk.judged(sink) for sink in plan.sinks}
    together = {name: list(dict.fromkeys(found)) for name, found in walk.together.items()}
    return Judgements(sinks, together, frozenset(walk.alone), {name: frozenset(found) for name, found in walk.keys.items()})


@dataclass(frozen=True)
class _Way:
    """How the rows of one source come to a place.

    `trace`: the source's column that a column is, unchanged. `through`: the keys of the exchanges on the way, by the names
    they have here; None if they are gone. Rows of one key keep their order if no exchange could part them.
    `source` is None behind a window: there it is the window that orders the rows.
    """

    source: str | None
    trace: Mapping[str, str] = field(default_factory=dict)
    through: tuple[frozenset[str] | None, ...] = ()

    def renamed(self, names: Mapping[str, str]) -> _Way:
        """Return the way behind a projection; `names`: new name by old name, of the columns that are still there."""
        through = tuple(
            None if keys is None or not keys <= names.keys() else frozenset(names[key] for key in keys) for keys in self.through
        )
        return _Way(self.source, {new: self.trace[old] for old, new in names.items() if old in self.trace}, through)


@dataclass(frozen=True)
class _Flow:
    """What is known of the rows that leave a node.

    stage : the task's chain they are in
    united : the keys of several ways were found to be different ones
    disorder : why the order of a key's rows is chance; None if it is not
    reason : why the rows themselves are no function of the input; None if they are
    changes : columns by which update rows replace one another; None if they are no update rows
    timed : the watermark brings rows forth, not a record
    sees_order : something in front looks at the order of arrival
    """

    stage: int
    ways: tuple[_Way, ...]
    sources: frozenset[str]
    united: bool = False
    disorder: str | None = None
    reason: str | None = None
    changes: tuple[str, ...] | None = None
    timed: bool = False
    sees_order: bool = False


class _Walk:
    """Goes through a plan from the sources to the sinks."""

    def __init__(self, plan: LogicalPlan, rows: Mapping[str, SourceRows]) -> None:
        self.rows = rows
        self.together: dict[str, list[tuple[str, ...]]] = {}
        self.alone: set[str] = set()
        self.keys: dict[str, set[str]] = {}
        self.stages = 0
        self.flows: dict[int, _Flow] = {}
        #: How rows reach a node that keeps state: what leaves it by the tag "late" flows on like this.
        self.reached: dict[int, _Flow] = {}
        for node in plan.nodes:
            self.flows[id(node)] = self._flow(node)

    def judged(self, sink: SinkNode) -> Judgement:
        """Return what a sink deserves."""
        flow = self.flows[id(sink.inputs[0])]
        hints = tuple(dict.fromkeys(_hints(sink)))
        carried = _order_columns(flow) if flow.changes is None else flow.changes
        if carried is not None and not set(carried) <= set(sink.inputs[0].schema.visible().names):
            carried = None
        if flow.reason is not None:
            return Judgement(None, flow.reason, carried, hints)
        if flow.changes is not None:
            assert carried is not None, "update rows that have lost their key have a reason"
            return Judgement(Promise("P3", carried), "", carried, hints)
        settled = flow.disorder is None and not flow.timed and (len(flow.ways) == 1 or flow.united)
        ordered = flow.sees_order and settled and carried is not None
        return Judgement(Promise("P2", carried or ()) if ordered else Promise("P1"), "", carried, hints)

    # One node ----------------------------------------------------------------------------------------------------

    def _new_stage(self) -> int:
        self.stages += 1
        return self.stages

    def _flow(self, node: Node) -> _Flow:
        if isinstance(node, SourceNode):
            way = _Way(node.name, {name: name for name in node.declared.names})
            return _Flow(self._new_stage(), (way,), frozenset([node.name]))
        if isinstance(node, MergeNode):
            return self._merge(node, [self.flows[id(source)] for source in node.inputs])
        if isinstance(node, JoinNode):
            return self._join(node, [self.flows[id(source)] for source in node.inputs])
        flow = self.flows[id(node.inputs[0])]
        if isinstance(node, OutputNode):
            return self._output(node, flow)
        if isinstance(node, KeyByNode):
            keys = frozenset(node.keys)
            for way in flow.ways:
                if way.source is not None:
                    self.keys.setdefault(way.source, set()).update(way.trace[key] for key in node.keys if key in way.trace)
            return replace(flow, stage=self._new_stage(), ways=tuple(replace(w, through=(*w.through, keys)) for w in flow.ways))
        if isinstance(node, ProjectNode):
            return _projected(flow, node)
        if isinstance(node, PythonFunctionNode) and node.output is not None:
            found = _opaque(flow, node)
            if node.calls is not None and not node.calls.ordered:
                return replace(found, disorder=f"{node.name} emits rows as calls end (ordered=False)")
            return found
        if isinstance(node, StatefulNode):
            return self._stateful(node, flow)
        return flow

    def _merge(self, node: Node, flows: Sequence[_Flow]) -> _Flow:
        reason = next((flow.reason for flow in flows if flow.reason), None)
        if reason is None and any(flow.changes is not None for flow in flows):
            reason = "a merge unites update rows with others: which one comes last is chance (P3 is by table)"
        disorder = next((flow.disorder for flow in flows if flow.disorder), None)
        merged = _Flow(
            stage=flows[0].stage,
            ways=flows[0].ways,
            sources=frozenset().union(*(flow.sources for flow in flows)),
            united=all(flow.united for flow in flows),
            disorder=disorder,
            reason=reason,
            timed=any(flow.timed for flow in flows),
            sees_order=any(flow.sees_order for flow in flows),
        )
        origins = {tuple(way.source for way in flow.ways) for flow in flows}
        if len({flow.stage for flow in flows}) == 1 and len(origins) == 1:
            if merged.timed and disorder is None:
                merged = replace(merged, disorder="a merge unites rows of windows or timers with others, in an order that is chance")
            return replace(merged, ways=tuple(_common(ways) for ways in zip(*(flow.ways for flow in flows), strict=True)))
        ways = tuple(way for flow in flows for way in flow.ways)
        names = [way.source for way in ways]
        if disorder is None and (None in names or len(set(names)) < len(names)):
            disorder = "a merge unites rows that reach it by different ways, in an order that is chance"
        return replace(merged, stage=self._new_stage(), ways=ways, united=False, disorder=disorder)

    def _join(self, node: JoinNode, flows: Sequence[_Flow]) -> _Flow:
        reason = next((flow.reason for flow in flows if flow.reason), None)
        if reason is None and any(flow.changes is not None for flow in flows):
            reason = f"{node.name} works on update rows, whose number may differ (P3)"
        late = sorted({way.source for flow in flows for way in flow.ways if way.source is not None and self.rows[way.source].late})
        if reason is None and late:
            reason = f"rows of {late[0]!r} are late, and whether {node.name} still takes them depends on how far the other side has come"
        if reason is None and isinstance(node, ConnectNode):
            reason = f"{node.name} sees the rows of both sides as they come, which depends on how far either has been read (P2)"
        if reason is None and isinstance(node, TableJoinNode):
            reason = f"{node.name} joins with the table as it is then, which depends on how far either side has been read (P2)"
        if reason is None and isinstance(node, AsOfJoinNode) and self._ties(flows[1], node.sides[1].keys):
            # Of right rows of one time the last to arrive counts.
            reason = self._disorder(node, flows[1], node.sides[1].keys)
        sources = frozenset().union(*(flow.sources for flow in flows))
        seen = any(flow.sees_order for flow in flows)
        return _Flow(self._new_stage(), (_Way(None, {}, (None,)),), sources, reason=reason, timed=True, sees_order=seen)

    def _output(self, node: OutputNode, flow: _Flow) -> _Flow:
        operator = node.inputs[0]
        if node.tag == "dead_letter":
            return _opaque(replace(flow, changes=None), node)
        if isinstance(operator, ProcessNode | NativeNode) and node.tag in dict(operator.outputs):
            return _processed(self.flows[id(key_of(operator))], operator, node.schema, flow)
        reached = self.reached[id(operator)]
        return replace(reached, reason=reached.reason or self._late(operator, reached))

    def _stateful(self, node: StatefulNode, flow: _Flow) -> _Flow:
        self.reached[id(node)] = flow
        reason = flow.reason
        if reason is None and flow.changes is not None:
            reason = f"{node.name} works on update rows, whose number may differ (P3)"
        window = getattr(node, "window", None)
        looks = not isinstance(node, WindowAggregateNode | AggregateNode) or not all(map(_order_free, node.aggregates))
        looks = looks or (window is not None and window.kind == "count")
        keyed = self.flows[id(key_of(node))]
        if looks:
            reason = reason or self._disorder(node, keyed, key_of(node).keys)
        reason = reason or self._late(node, flow)
        after = replace(flow, reason=reason, sees_order=flow.sees_order or looks, united=flow.united or looks, changes=None)
        keys = tuple(node.key_schema.names)
        if isinstance(node, FrameNode | DeduplicateNode):
            return after
        if isinstance(node, ProcessNode | NativeNode):
            return _processed(keyed, node, node.schema, after)
        if window is not None:
            after = replace(after, timed=True, disorder=None, united=False, ways=(_Way(None, {}, (frozenset(keys),)),))
            if isinstance(window.emit, Throttle):
                return replace(after, reason=after.reason or f"{node.name} shows its windows by the wall clock (P6)")
            if window.withdraws:
                return replace(after, reason=after.reason or f"{node.name} takes rows back: they count only once all have been applied")
            return replace(after, changes=(*keys, *_WINDOW_COLUMNS)) if window.emit == "update" else after
        if isinstance(node, AggregateNode) and isinstance(node.emit, Throttle):
            return replace(after, reason=after.reason or f"{node.name} shows its rows by the wall clock (P6)")
        # Of the columns in front, only those of the key are known to be in the rows of a table.
        names = {key: key for key in keys}
        return replace(after, changes=keys, ways=tuple(way.renamed(names) for way in keyed.ways))

    # What an operator asks of the rows that reach it ---------------------------------------------------------------

    def _ties(self, flow: _Flow, keys: Sequence[str]) -> bool:
        """Whether two rows of one key may have the same time."""
        seen: set[tuple[int | None, tuple[Any, ...]]] = set()
        for way in flow.ways:
            if way.source is None or not all(key in way.trace for key in keys):
                return True
            rows = self.rows[way.source]
            values = rows.values([way.trace[key] for key in keys]) if keys else [()] * rows.batch.num_rows
            for place in zip(rows.times, values, strict=True):
                if place in seen and None not in place[1]:
                    return True
                seen.add(place)
        return False

    def _disorder(self, node: StatefulNode | JoinNode, flow: _Flow, keys: Sequence[str]) -> str | None:
        """Return why the rows of one key do not reach the node in a known order; else see that their splits allow it."""
        if flow.disorder is not None:
            return f"{node.name} looks at the order of arrival: {flow.disorder}"
        wanted = frozenset(keys)
        if any(passed is None or not passed <= wanted for way in flow.ways for passed in way.through):
            return f"{node.name} looks at the order of arrival, and rows of one key reach it from several tasks"
        clash = self._clash(flow, keys)
        if clash is not None:
            return f"{node.name} looks at the order of arrival, and {clash}"
        for way in flow.ways:
            if way.source is None:
                continue
            columns = tuple(way.trace[key] for key in keys if key in way.trace)
            if columns:
                self.together.setdefault(way.source, []).append(columns)
            else:
                self.alone.add(way.source)
        return None

    def _clash(self, flow: _Flow, keys: Sequence[str]) -> str | None:
        """Return why rows of one key may come from several sources; None if the data say that they do not."""
        seen: dict[Any, str] = {}
        if all(self._by_time(way) for way in flow.ways):
            return None
        for way in flow.ways if len(flow.ways) > 1 else ():
            if way.source is None or not all(key in way.trace for key in keys):
                return "it cannot be seen that each key comes from one source only"
            for value in sorted(self._values(way, keys), key=repr):
                other = seen.setdefault(value, way.source)
                if other != way.source:
                    shown = ", ".join(f"{key}={part!r}" for key, part in zip(keys, value, strict=True)) or "everything"
                    return f"{shown} comes from {other!r} and from {way.source!r}: which row is first is chance"
        return None

    def _by_time(self, way: _Way) -> bool:
        """Whether the order of the way's rows among those of other sources is that of their times."""
        rows = None if way.source is None else self.rows[way.source]
        return rows is not None and rows.read_by_time and rows.in_time_order

    def _values(self, way: _Way, keys: Sequence[str]) -> set[tuple[Any, ...]]:
        """Return the keys that come this way; one with a null component is none: its rows are dropped."""
        rows = self.rows[way.source or ""]
        if not keys:
            return {()} if rows.batch.num_rows else set()
        return {value for value in rows.values([way.trace[key] for key in keys]) if None not in value}

    def _late(self, node: Node, flow: _Flow) -> str | None:
        """Return why it is chance which rows the node takes for late; else see that the late ones' source has one split."""
        rolling = isinstance(node, FrameNode) and any(one.frame is not None and one.frame.kind == "rolling" for one in node.aggregates)
        rolling = rolling or (isinstance(node, DeduplicateNode) and node.within_ms is not None)
        if getattr(node, "window", None) is None and not rolling and not _sets_timers(node):
            return None
        late = sorted({way.source for way in flow.ways if way.source is not None and self.rows[way.source].late})
        if late and _sets_timers(node):
            return f"rows of {late[0]!r} are late, and no timer of {getattr(node, 'name', node.verb)} waits for them (P4)"
        if late and (len(flow.ways) > 1 or len(flow.ways[0].through) > 1):
            # One exchange keeps watermarks and rows of a split in their order; where several ways meet, others hold time back.
            rest = "other tasks" if len(flow.sources) == 1 else ", ".join(repr(name) for name in sorted(flow.sources - {late[0]}))
            name = getattr(node, "name", node.verb)
            return f"rows of {late[0]!r} are late, and whether {name} still takes them depends on how far {rest} have come"
        self.alone.update(late)
        return None


# How rows change on their way --------------------------------------------------------------------------------------


def _projected(flow: _Flow, node: ProjectNode) -> _Flow:
    names = {output.value.column: output.name for output in node.outputs if output.value.is_column}
    changes, reason = flow.changes, flow.reason
    if changes is not None and all(name in names for name in changes):
        changes = tuple(names[name] for name in changes)
    elif changes is not None:
        lost = ", ".join(name for name in changes if name not in names)
        reason = reason or f"its rows are updates that have lost {lost}, by which they replace others (P3)"
    return replace(flow, ways=tuple(way.renamed(names) for way in flow.ways), changes=changes, reason=reason)


def _opaque(flow: _Flow, node: Node) -> _Flow:
    """Return the rows that something unknown made of each row: none of their columns is known."""
    reason = flow.reason
    if flow.changes is not None:
        reason = reason or f"{getattr(node, 'name', node.verb)} works on update rows, whose number may differ (P3)"
    return replace(flow, ways=tuple(way.renamed({}) for way in flow.ways), changes=None, reason=reason)


def _processed(keyed: _Flow, node: ProcessNode | NativeNode, output: Schema, after: _Flow) -> _Flow:
    """Return the rows of a processor: a column that is called like a column of the key is taken for it."""
    keys = node.key_schema
    same = {f.name: f.name for f in keys.fields if f.name in output and output.field(f.name).type == f.type}
    if isinstance(node, ProcessNode) and node.window is not None:
        reason = after.reason
        if node.window.emit not in ("close", "on_time"):
            reason = reason or f"{node.name} updates its windows, and nothing says which row replaces which"
        way = _Way(None, {}, (frozenset(keys.names) if len(same) == len(keys) else None,))
        return replace(after, reason=reason, timed=True, disorder=None, united=False, ways=(way,))
    disorder = after.disorder
    if _sets_timers(node):
        disorder = disorder or f"the timers of {node.name} may fire before or after later records (P4)"
    return replace(after, ways=tuple(way.renamed(same) for way in keyed.ways), disorder=disorder, timed=after.timed or _sets_timers(node))


def _common(ways: Sequence[_Way]) -> _Way:
    """Return what ways of the same source have in common."""
    trace = {new: old for new, old in ways[0].trace.items() if all(way.trace.get(new) == old for way in ways)}
    through = zip(*(way.through for way in ways), strict=True)
    return _Way(ways[0].source, trace, tuple(alike[0] if len(set(alike)) == 1 else None for alike in through))


def _order_columns(flow: _Flow) -> tuple[str, ...] | None:
    """Return the columns such that rows which agree in them keep their order; None if they are not known."""
    found: set[frozenset[str] | None] = set()
    for way in flow.ways:
        known = [keys for keys in way.through if keys is not None]
        found.add(frozenset().union(*known) if known and len(known) == len(way.through) else None)
    only = found.pop() if len(found) == 1 else None
    return None if only is None else tuple(sorted(only))


def _order_free(aggregate: TypedAggregate) -> bool:
    """Tell whether an aggregate is exact and the same in any order."""
    if aggregate.kind == "sum":
        return aggregate.argument is not None and not pa.types.is_floating(aggregate.argument.type)
    return aggregate.kind in ("count", "n_unique", "min", "max")


def _sets_timers(node: Node) -> bool:
    return isinstance(node, ProcessNode) and node.window is None and _overrides(node, "on_timer")


def _overrides(node: ProcessNode, method: str) -> bool:
    return getattr(_class_of(node), method, None) is not getattr(Processor, method)


def _class_of(node: ProcessNode) -> Any:
    return node.processor if isinstance(node.processor, type) else type(node.processor)


# What may be behind a difference -----------------------------------------------------------------------------------


def _hints(sink: SinkNode) -> Iterable[str]:
    """Say of the user's own code in front of a sink what it must not do, nearest first."""
    waiting, seen = list(sink.inputs), set[int]()
    while waiting:
        node = waiting.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        waiting.extend(node.inputs)
        yield from _hint(node)


def _hint(node: Node) -> Iterable[str]:
    if isinstance(node, ProcessNode):
        yield f"{node.name}: what {_class_of(node).__name__} keeps outside ctx.state is lost at a crash, and every task has its own"
        if _sets_timers(node):
            yield f"{node.name}: a timer at T may fire after records later than T; it must go by what is at or before T (P4)"
        if _overrides(node, "process_batch"):
            yield f"{node.name}: process_batch sees batches, and where a batch ends is chance"
    elif isinstance(node, PythonFunctionNode):
        if node.mode == "batches":
            yield f"{node.name}: map_batches sees batches, and where a batch ends is chance; a row may depend on itself alone"
        else:
            yield f"{node.name}: the function may depend on its row alone, not on what it saw before"
    elif isinstance(node, ReduceNode):
        yield f"{node.name}: the function may depend on its two rows alone"
    elif isinstance(node, NativeNode):
        yield f"{node.name}: a native operator must keep its state in the key's row"
    elif isinstance(node, AggregateNode | FrameNode | WindowAggregateNode) and any(one.kind == "custom" for one in node.aggregates):
        yield f"{node.name}: add and merge of an own Aggregate must be functions of their arguments"
    elif isinstance(node, TableNode):
        yield f"{node.name}: the last row of a key by arrival counts"
    elif isinstance(node, SourceNode) and node.most_ahead_ms is not None:
        yield f"{node.name}: max_ahead goes by the wall clock (P6)"
