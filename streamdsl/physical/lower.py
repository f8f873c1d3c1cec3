"""Lowering: what a topology means becomes how it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from streamdsl.errors import InternalError, TopologyError
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
    JoinNode,
    TableJoinNode,
    TablesJoinNode,
    VersionedJoinNode,
)
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.meaning import meanings
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
from streamdsl.physical import node as physical
from streamdsl.physical.chain import Place, Stages
from streamdsl.physical.kinds import kind_of
from streamdsl.physical.lower_expr import lower_aggregates, lower_expressions, lower_group
from streamdsl.physical.names import lookup_names
from streamdsl.physical.zones import transitions
from streamdsl.policies import DeadLetter, ErrorPolicy
from streamdsl.schema import Schema
from streamdsl.windows import Throttle, Window

__all__ = ["SHARDS", "lower"]

#: S of the keyed exchange, at least. State is stored by shard, so the number is part of every checkpoint.
SHARDS: Final = 128

_Common = dict[str, Any]


def lower(plan: LogicalPlan, parallelism: int = 1) -> physical.PhysicalPlan:
    """Return the physical plan.

    An operator runs in the task of what it reads, unless rows must change tasks: in front of a keyed operator
    (parallelism > 1, unless the source is partitioned by the key), between streams of different sources, and in front of a
    sink that gathers.
    """
    if not 1 <= parallelism <= SHARDS:
        raise TopologyError(f"parallelism={parallelism} must be from 1 to {SHARDS}")
    return _Lowering(plan, parallelism).lower()


class _Lowering:
    def __init__(self, plan: LogicalPlan, parallelism: int) -> None:
        self.plan = plan
        self.parallelism = parallelism
        self.stages = Stages()
        self.places: dict[int, Place] = {}
        self.lookups: dict[int, Place] = {}
        self.lookup_names = lookup_names(plan)

    def lower(self) -> physical.PhysicalPlan:
        for node in self.plan.nodes:
            self.places[id(node)] = self._place(node)
        name, states = self.plan.name, self.plan.state_names
        return physical.PhysicalPlan(name, self.parallelism, SHARDS, self.stages.built(), states, meanings(self.plan))

    def _place(self, node: Node) -> Place:
        if isinstance(node, SourceNode):
            return self.stages.new(self.parallelism).add(_source(node))
        if isinstance(node, MergeNode):
            return self._merge(node)
        if isinstance(node, JoinNode):
            return self._join(node)
        place = self.places[id(node.inputs[0])]
        if isinstance(node, OutputNode):
            return place.tagged(_physical_tag(node.inputs[0], node.tag))
        if isinstance(node, KeyByNode):
            return self._key_by(node, place)
        if isinstance(node, SinkNode):
            return self._sink(node, place)
        stage = self.stages.of(place)
        common = {"inputs": (stage.reads(place),), "schema": node.schema, "tags": _tags(node)}
        if isinstance(node, StatefulNode):
            lookup = self.lookups[id(key_of(node))]
            if lookup.stage != place.stage:
                raise InternalError(f"{node.name}: its keys are looked up in another stage")
            common.update(name=node.name, lookup=lookup.operator)
        else:
            common.update(name=self._name(node))
        return stage.add(_BUILDERS[type(node)](node, node.inputs[0].schema, common))

    def _name(self, node: Node) -> str:
        if isinstance(node, CounterNode):
            return f"counter.{node.metric}.{self.plan.numbers[id(node)]}"
        if isinstance(node, PythonFunctionNode) and node.calls is not None:
            return node.calls.name
        label = node.name if isinstance(node, PythonFunctionNode) else node.verb
        return f"{label}.{self.plan.numbers[id(node)]}"

    def _merge(self, node: MergeNode) -> Place:
        name = self._name(node)
        groups = self.stages.by_stage([self.places[id(source)] for source in node.inputs])
        # Branches of one task are united there: only there is the order of their records known.
        united = []
        for number, places in enumerate(groups.values()):
            if len(places) == 1:
                united.append(places[0])
                continue
            stage = self.stages.of(places[0])
            inputs = tuple(stage.reads(place) for place in places)
            own = name if len(groups) == 1 else f"{name}.{number}"
            united.append(stage.add(physical.PhysicalMerge(name=own, inputs=inputs, schema=node.schema)))
        if len(united) == 1:
            return united[0]
        # Dead letters of a sink that gathers come from one task, those of others from many.
        widths = {self.stages.of(place).parallelism for place in united}
        stage = self.stages.new(self.parallelism if len(widths) == 1 else 1)
        inputs = tuple(stage.reads(place, "forward" if len(widths) == 1 else "gather") for place in united)
        return stage.add(physical.PhysicalMerge(name=name, inputs=inputs, schema=node.schema))

    def _key_by(self, node: KeyByNode, place: Place) -> Place:
        upstream = self.stages.of(place)
        schema = node.schema
        number = self.plan.numbers[id(node)]
        keys = tuple(schema.index(key) for key in node.keys)
        encoded = upstream.add(
            physical.PhysicalKeyEncode(
                name=f"key_encode.{number}",
                inputs=(upstream.reads(place),),
                schema=schema,
                keys=keys,
                partitioned=node.partitioned,
            )
        )
        if node.joins:
            return encoded  # each join looks its keys up beside those of the other side
        stage = upstream if self.parallelism == 1 or node.partitioned else self.stages.new(self.parallelism)
        lookup = stage.add(
            physical.PhysicalKeyLookup(
                name=self.lookup_names[id(node)],
                inputs=(stage.reads(encoded, "hash"),),
                schema=schema,
                key_schema=node.key_schema,
            )
        )
        self.lookups[id(node)] = lookup
        return lookup

    def _join(self, node: JoinNode) -> Place:
        """The join of the two sides, in a stage of its own; of a stream with itself, in that of the stream if it is one task."""
        encoded = [self.places[id(one)] for one in node.inputs]
        if isinstance(node, BroadcastJoinNode):
            return self._broadcast_join(node, *encoded)
        alone = encoded[0] == encoded[1] and self.parallelism == 1
        stage = self.stages.of(encoded[0]) if alone else self.stages.new(self.parallelism)
        lookups: list[Place] = []
        ports: list[tuple[int, bool]] = []
        inputs: list[physical.Input] = []
        for side, one in enumerate(node.sides):
            if side == 1 and encoded[0] == encoded[1]:
                lookups.append(lookups[0])
                continue
            # The tag is that of the side's own null keys; of a stream with itself, it serves both.
            null = node.keeps_null(side) or (encoded[0] == encoded[1] and node.keeps_null(1))
            lookups.append(
                stage.add(
                    physical.PhysicalKeyLookup(
                        name=f"keys.{node.name}{'.right' if side else ''}",
                        inputs=(stage.reads(encoded[side], "forward" if one.in_place else "hash"),),
                        schema=one.schema,
                        key_schema=one.key_schema,
                        shares=lookups[0].operator if side else -1,
                        tags=((physical.NULL, one.schema),) if null else (),
                    )
                )
            )
        for side in range(2):
            inputs.append(stage.reads(lookups[side]))
            ports.append((side, False))
            if node.keeps_null(side):
                inputs.append(stage.reads(lookups[side].tagged(physical.NULL)))
                ports.append((side, True))
        return stage.add(_JOINS[type(node)](node, self._common(node, inputs, ports, lookups[0].operator)))

    def _broadcast_join(self, node: BroadcastJoinNode, left: Place, right: Place) -> Place:
        """The join in the tasks that have the stream's rows. One task puts the table's rows in the order that all of them see."""
        if self.stages.of(right).parallelism > 1:
            gathered = self.stages.new(1)
            inputs = (gathered.reads(right, "gather"),)
            right = gathered.add(physical.PhysicalMerge(name=f"{node.name}.table", inputs=inputs, schema=node.inputs[1].schema))
        stage = self.stages.new(self.stages.of(left).parallelism)
        ports = [(0, False), (1, False)]
        return stage.add(_table_join(node, self._common(node, [stage.reads(left), stage.reads(right, "broadcast")], ports, -1)))

    def _common(self, node: JoinNode, inputs: Sequence[physical.Input], ports: Sequence[tuple[int, bool]], lookup: int) -> _Common:
        return {
            "name": node.name,
            "inputs": tuple(inputs),
            "schema": node.schema,
            "tags": _tags(node),
            "lookup": lookup,
            "key_schema": node.key_schema,
            "sides": (_side(node, 0), _side(node, 1)),
            "columns": tuple(
                (node.kept(0).index(column.left) if column.left else -1, node.kept(1).index(column.right) if column.right else -1)
                for column in node.columns
            ),
            "ports": tuple(ports),
            "how": node.how,
        }

    def _sink(self, node: SinkNode, place: Place) -> Place:
        rows = node.inputs[0].schema
        columns = tuple(position for position, field in enumerate(rows.fields) if not field.hidden)
        gathers = self.parallelism > 1 and node.sink.gathers
        stage = self.stages.new(1) if gathers else self.stages.of(place)
        return stage.add(
            physical.PhysicalSink(
                name=node.name,
                inputs=(stage.reads(place, "gather" if gathers else "forward"),),
                schema=rows.visible(),
                sink=node.sink,
                columns=columns,
                tags=_tags(node),
                input_schema=rows,
                keys=node.keys,
                errors=_policy(node.errors),
            )
        )


def _policy(policy: ErrorPolicy | None) -> physical.ErrorPolicy:
    if policy is None:
        return "fail"
    return "dead_letter" if isinstance(policy, DeadLetter) else policy


def _physical_tag(node: Node, tag: str) -> str:
    window: Window | None = getattr(node, "window", None)
    return physical.LATE if window is not None and tag == window.late else tag


def _tags(node: Node) -> tuple[tuple[str, Schema], ...]:
    return tuple((_physical_tag(node, tag), schema) for tag, schema in node.tags.items())


def _window(window: Window | None) -> physical.WindowSpec | None:
    if window is None:
        return None
    return physical.WindowSpec(
        kind=window.kind if window.tz is None else "days",
        size_ms=window.size_ms,
        every_ms=window.every_ms,
        offset_ms=window.offset_ms,
        grace_ms=window.grace_ms,
        emit="throttle" if isinstance(window.emit, Throttle) else window.emit,
        throttle_ms=window.emit.every_ms if isinstance(window.emit, Throttle) else 0,
        transitions=() if window.tz is None else transitions(window.tz),
    )


def _of_table(node: SourceNode) -> Any:
    assert node.table_keys is not None
    return node.source.of_table(node.table_keys, None if node.timestamp is None else node.timestamp.column)


def _source(node: SourceNode) -> physical.PhysicalSource:
    return physical.PhysicalSource(
        name=node.name,
        inputs=(),
        schema=node.schema,
        tags=_tags(node),
        source=node.source if node.table_keys is None else _of_table(node),
        columns=node.schema.names,
        timestamp=-1 if node.timestamp is None or not node.timestamp.as_it_is else node.schema.index(node.timestamp.column),
        times=node.timestamp,
        disorder_ms=node.disorder_ms,
        idle_timeout_ms=node.idle_after_ms,
        max_ahead_ms=node.most_ahead_ms,
        max_drift_ms=node.max_drift_ms,
        rank=node.rank,
        external_watermarks=node.external_watermarks,
        bootstrap=node.bootstrap,
        errors=_policy(node.errors),
        partitioned_by=-1 if node.source.partitioned_by is None else node.schema.index(node.source.partitioned_by),
    )


def _refusing(node: Any, rows: Schema, common: _Common) -> _Common:
    """Return what an operator of expressions needs to refuse a record."""
    return {**common, "input_schema": rows, "errors": _policy(node.errors)}


def _filter(node: FilterNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    return physical.PhysicalFilter(**_refusing(node, rows, common), predicate=lower_expressions([node.predicate], rows))


def _counter(node: CounterNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    predicate = lower_expressions([node.predicate], rows)
    return physical.PhysicalCounter(**_refusing(node, rows, common), metric=node.metric, predicate=predicate)


def _explode(node: ExplodeNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    column = rows.index(node.column)
    return physical.PhysicalExplode(
        **common, column=column, empty_as_null=node.empty_as_null, keep_nulls=node.keep_nulls, index=node.index is not None
    )


def _project(node: ProjectNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    columns = tuple(rows.index(made.value.column) if made.value.is_column else -1 for made in node.outputs)
    computed = [made.value for made in node.outputs if not made.value.is_column]
    return physical.PhysicalProject(**_refusing(node, rows, common), columns=columns, program=lower_expressions(computed, rows))


def _python(node: PythonFunctionNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    if node.mode == "async":
        calls = node.calls
        assert calls is not None
        return physical.PhysicalMapAsync(
            **_refusing(node, rows, common),
            function=node.function,
            capacity=calls.capacity,
            timeout_ms=calls.timeout_ms,
            retry=calls.retry,
            ordered=calls.ordered,
        )
    return physical.PhysicalPython(**_refusing(node, rows, common), mode=node.mode, function=node.function)


def _frame(node: FrameNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    arguments, aggregates = lower_aggregates(node.aggregates, rows)
    common = {**_refusing(node, rows, common), "key_schema": node.key_schema}
    return physical.PhysicalFrame(**common, arguments=arguments, aggregates=aggregates)


def _deduplicate(node: DeduplicateNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    return physical.PhysicalDeduplicate(**common, key_schema=node.key_schema, within_ms=node.within_ms)


def _aggregate(node: AggregateNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    common = {**_refusing(node, rows, common), "key_schema": node.key_schema}
    if node.sign is not None:
        arguments, aggregates, sign = lower_group(node.aggregates, node.sign, rows)
        common = {**common, "emit": node.emit}
        return physical.PhysicalAggregate(**common, arguments=arguments, aggregates=aggregates, sign=sign)
    arguments, aggregates = lower_aggregates(node.aggregates, rows)
    if isinstance(node.emit, Throttle):
        common = {**common, "emit": "throttle", "throttle_ms": node.emit.every_ms}
    else:
        common = {**common, "emit": node.emit}
    return physical.PhysicalAggregate(**common, arguments=arguments, aggregates=aggregates)


def _window_aggregate(node: WindowAggregateNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    arguments, aggregates = lower_aggregates(node.aggregates, rows)
    window = _window(node.window)
    assert window is not None
    common = {**_refusing(node, rows, common), "key_schema": node.key_schema}
    return physical.PhysicalWindowAggregate(**common, window=window, arguments=arguments, aggregates=aggregates)


def _reduce(node: ReduceNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    return physical.PhysicalReduce(
        **_refusing(node, rows, common),
        key_schema=node.key_schema,
        function=node.function,
        window=_window(node.window),
        emit="batch" if node.emit == "batch" else "update",
    )


def _process(node: ProcessNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    return physical.PhysicalProcess(
        **_refusing(node, rows, common),
        key_schema=node.key_schema,
        processor=node.processor,
        window=_window(node.window),
    )


def _native(node: NativeNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    return physical.PhysicalNative(**common, factory=node.factory)


def _table(node: TableNode, rows: Schema, common: _Common) -> physical.PhysicalOperator:
    return physical.PhysicalTable(
        **common,
        key_schema=node.key_schema,
        retracts=node.retracts,
        numbered=node.numbered,
        removed=_index(rows, node.removed),
        version=_index(rows, node.version),
        by_time=node.by_time,
    )


def _index(rows: Schema, name: str | None) -> int:
    return -1 if name is None else rows.index(name)


def _side(node: JoinNode, side: int) -> physical.JoinSide:
    schema, names = node.inputs[side].schema, node.kept(side)
    fields = [schema.field(name) for name in names]
    return physical.JoinSide(
        schema,
        tuple(schema.index(name) for name in names),
        tuple(kind_of(field.type) for field in fields),
        ",".join(f"{field.name}:{field.type}" for field in fields),
    )


def _interval_join(node: IntervalJoinNode, common: _Common) -> physical.PhysicalOperator:
    return physical.PhysicalIntervalJoin(
        **common,
        before_ms=node.before_ms,
        after_ms=node.after_ms,
        grace_ms=node.grace_ms,
        window_ms=node.window_ms,
        offset_ms=node.offset_ms,
    )


def _asof_join(node: AsOfJoinNode, common: _Common) -> physical.PhysicalOperator:
    return physical.PhysicalAsOfJoin(**common, tolerance_ms=node.tolerance_ms, allow_exact=node.allow_exact)


def _table_join(node: TableJoinNode, common: _Common) -> physical.PhysicalOperator:
    common = {**common, "removed": _index(node.inputs[1].schema, node.removed)}
    if isinstance(node, VersionedJoinNode):
        return physical.PhysicalVersionedJoin(**common, keep_ms=node.keep_ms)
    made = physical.PhysicalBroadcastJoin if isinstance(node, BroadcastJoinNode) else physical.PhysicalTableJoin
    return made(**common)


def _connect(node: ConnectNode, common: _Common) -> physical.PhysicalOperator:
    rows = node.inputs[0].schema
    return physical.PhysicalConnect(**common, processor=node.processor, input_schema=rows, errors=_policy(node.errors))


def _of_tables(node: TablesJoinNode, common: _Common) -> _Common:
    def others(side: int) -> tuple[int, ...]:
        return tuple(place for place, name in enumerate(node.kept(side)) if name not in node.sides[side].keys)

    removed = tuple(_index(one.schema, name) for one, name in zip(node.inputs, node.removed, strict=True))
    return {**common, "removed": removed, "others": (others(0), others(1))}


def _tables_join(node: TablesJoinNode, common: _Common) -> physical.PhysicalOperator:
    return physical.PhysicalTablesJoin(**_of_tables(node, common))


def _foreign_key_join(node: ForeignKeyJoinNode, common: _Common) -> physical.PhysicalOperator:
    version = node.inputs[0].schema.index(node.version)
    return physical.PhysicalForeignKeyJoin(**_of_tables(node, common), version=version, n_keys=len(node.left_keys))


_JOINS: Final[dict[type[Node], Callable[[Any, _Common], physical.PhysicalOperator]]] = {
    IntervalJoinNode: _interval_join,
    AsOfJoinNode: _asof_join,
    TableJoinNode: _table_join,
    VersionedJoinNode: _table_join,
    ConnectNode: _connect,
    TablesJoinNode: _tables_join,
    ForeignKeyJoinNode: _foreign_key_join,
}

_BUILDERS: Final[dict[type[Node], Callable[[Any, Schema, _Common], physical.PhysicalOperator]]] = {
    FilterNode: _filter,
    ProjectNode: _project,
    PythonFunctionNode: _python,
    CounterNode: _counter,
    ExplodeNode: _explode,
    FrameNode: _frame,
    DeduplicateNode: _deduplicate,
    AggregateNode: _aggregate,
    ReduceNode: _reduce,
    WindowAggregateNode: _window_aggregate,
    ProcessNode: _process,
    NativeNode: _native,
    TableNode: _table,
}
