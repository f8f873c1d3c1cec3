"""Physical operators to native ones: with `deploy`, the only place that names operator classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from streamdsl._native.expr.program import Program
from streamdsl._native.flow.convert import canonical_type
from streamdsl._native.operators.aggregate import AggregateOperator
from streamdsl._native.operators.asof_join import AsOfJoinOperator
from streamdsl._native.operators.base import Operator
from streamdsl._native.operators.broadcast_join import BroadcastJoinOperator
from streamdsl._native.operators.counter import CounterOperator
from streamdsl._native.operators.deduplicate import DeduplicateOperator
from streamdsl._native.operators.explode import ExplodeOperator
from streamdsl._native.operators.filter import FilterOperator
from streamdsl._native.operators.foreign_key_join import ForeignKeyJoinOperator
from streamdsl._native.operators.frame import FrameOperator
from streamdsl._native.operators.group import GroupOperator
from streamdsl._native.operators.interval_join import IntervalJoinOperator
from streamdsl._native.operators.key_encode import KeyEncodeOperator
from streamdsl._native.operators.key_lookup import KeyDecoder, KeyLookup
from streamdsl._native.operators.map_async import MapAsyncOperator
from streamdsl._native.operators.pane_window import PaneWindowOperator
from streamdsl._native.operators.process import ProcessOperator
from streamdsl._native.operators.project import ProjectOperator
from streamdsl._native.operators.python_function import PythonFunctionOperator
from streamdsl._native.operators.reduce import ReduceOperator
from streamdsl._native.operators.table import TableOperator
from streamdsl._native.operators.table_join import TableJoinOperator
from streamdsl._native.operators.tables_join import TablesJoinOperator
from streamdsl._native.operators.throttled_aggregate import ThrottledAggregateOperator
from streamdsl._native.operators.versioned_join import VersionedJoinOperator
from streamdsl._native.operators.window import WindowOperator
from streamdsl._native.windows.panes import takes_panes
from streamdsl.errors import InternalError, TopologyError
from streamdsl.physical import node
from streamdsl.physical.kinds import kind_of
from streamdsl.runtime.chain import Chain
from streamdsl.schema import Schema

Build = Callable[[Any, Chain], Operator]


def canonical_schema(schema: Schema, columns: tuple[int, ...]) -> pa.Schema:
    """Return the run-time Arrow schema of some columns."""
    return pa.schema([pa.field(schema.fields[i].name, canonical_type(schema.fields[i].type)) for i in columns])


def _program(spec: node.ProgramSpec) -> Program | None:
    return Program(spec) if spec.outputs else None


def _lookup(spec: node.PhysicalKeyLookup, chain: Chain) -> Operator:
    kinds = [kind_of(field.type) for field in spec.key_schema.fields]
    shared = spec.shares >= 0
    table = chain.built[spec.shares].table if shared else chain.new_table("rows", spec.name, ",".join(kinds))
    return KeyLookup(spec.name, table, KeyDecoder(kinds))


def _frame(spec: node.PhysicalFrame, chain: Chain) -> Operator:
    return FrameOperator(spec, chain.built[spec.lookup], Program(spec.arguments))


def _deduplicate(spec: node.PhysicalDeduplicate, chain: Chain) -> Operator:
    return DeduplicateOperator(spec, chain.built[spec.lookup])


def _aggregate(spec: node.PhysicalAggregate, chain: Chain) -> Operator:
    factory = GroupOperator if spec.sign >= 0 else ThrottledAggregateOperator if spec.emit == "throttle" else AggregateOperator
    return factory(spec, chain.built[spec.lookup], Program(spec.arguments))


def _reduce(spec: node.PhysicalReduce, chain: Chain) -> Operator:
    made = ReduceOperator if spec.window is None else WindowOperator
    return made(spec, chain.built[spec.lookup])


def _table(spec: node.PhysicalTable, chain: Chain) -> Operator:
    return TableOperator(spec, chain.built[spec.lookup])


def _window_aggregate(spec: node.PhysicalWindowAggregate, chain: Chain) -> Operator:
    factory = PaneWindowOperator if takes_panes(spec) else WindowOperator
    return factory(spec, chain.built[spec.lookup], Program(spec.arguments))


def _process(spec: node.PhysicalProcess, chain: Chain) -> Operator:
    made = ProcessOperator if spec.window is None else WindowOperator
    return made(spec, chain.built[spec.lookup])


def _native(spec: node.PhysicalNative, chain: Chain) -> Operator:
    operator = spec.factory()
    if not isinstance(operator, Operator):
        raise TopologyError(
            f"{spec.name}: native() got {type(operator).__name__!r} from its factory, not an operator",
            remedy="return an instance of a cdef class that extends streamdsl._native.operators.base.Operator",
        )
    operator.named(spec.name)
    return operator


BUILDERS: dict[type, Build] = {
    node.PhysicalFilter: lambda spec, chain: FilterOperator(spec, Program(spec.predicate)),
    node.PhysicalExplode: lambda spec, chain: ExplodeOperator(spec.name, spec.column, spec.empty_as_null, spec.keep_nulls, spec.index),
    node.PhysicalProject: lambda spec, chain: ProjectOperator(spec, _program(spec.program)),
    node.PhysicalPython: lambda spec, chain: PythonFunctionOperator(spec),
    node.PhysicalMapAsync: lambda spec, chain: MapAsyncOperator(spec),
    node.PhysicalCounter: lambda spec, chain: CounterOperator(spec, Program(spec.predicate)),
    node.PhysicalKeyLookup: _lookup,
    node.PhysicalFrame: _frame,
    node.PhysicalDeduplicate: _deduplicate,
    node.PhysicalAggregate: _aggregate,
    node.PhysicalReduce: _reduce,
    node.PhysicalTable: _table,
    node.PhysicalWindowAggregate: _window_aggregate,
    node.PhysicalProcess: _process,
    node.PhysicalNative: _native,
    node.PhysicalIntervalJoin: lambda spec, chain: IntervalJoinOperator(spec, chain.built[spec.lookup]),
    node.PhysicalAsOfJoin: lambda spec, chain: AsOfJoinOperator(spec, chain.built[spec.lookup]),
    node.PhysicalTablesJoin: lambda spec, chain: TablesJoinOperator(spec, chain.built[spec.lookup]),
    node.PhysicalForeignKeyJoin: lambda spec, chain: ForeignKeyJoinOperator(spec, chain.built[spec.lookup]),
    node.PhysicalVersionedJoin: lambda spec, chain: VersionedJoinOperator(spec, chain.built[spec.lookup]),
    node.PhysicalBroadcastJoin: lambda spec, chain: BroadcastJoinOperator(spec),
    node.PhysicalConnect: lambda spec, chain: ProcessOperator(spec, chain.built[spec.lookup]),
    node.PhysicalTableJoin: lambda spec, chain: TableJoinOperator(spec, chain.built[spec.lookup]),
}


def build_operator(spec: node.PhysicalOperator, chain: Chain) -> Operator:
    """Return the native operator for `spec`; what it needs of state is made in `chain`."""
    if isinstance(spec, node.PhysicalKeyEncode):
        return KeyEncodeOperator(spec.name, spec.keys, _plain_key(spec))
    build = BUILDERS.get(type(spec))
    if build is None:
        raise InternalError(f"{spec.name}: no operator for {type(spec).__name__}")
    return build(spec, chain)


def _plain_key(spec: node.PhysicalKeyEncode) -> bool:
    """Whether the key is one string column, which encodes as its bytes."""
    return len(spec.keys) == 1 and kind_of(spec.schema.fields[spec.keys[0]].type) == "str"
