"""The physical plan: what runs. Frozen values only; `runtime.deploy` turns them into tasks.

A plan is a list of stages. A stage is a chain of operators that call one another directly; it runs as
`parallelism` identical tasks. Stages are joined by edges, which become channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import pyarrow as pa

from streamdsl.logical.source import EventTime
from streamdsl.schema import Schema

#: What a column is at run time (see `_native/flow/batch.pxd`).
Kind = Literal["bool", "i64", "u64", "f64", "str", "dec"]
ErrorPolicy = Literal["fail", "skip", "dead_letter"]

MAIN = ""
LATE = "late"
DEAD_LETTER = "dead_letter"
NULL = "null"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One node of an expression, in post-order: its arguments stand before it.

    `args` are indices of earlier instructions, `params` plain constants (see `_native/expr/program.pyx`).
    """

    op: str
    kind: Kind
    args: tuple[int, ...] = ()
    params: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """Expressions over the columns of one batch; `outputs` are indices of instructions."""

    instructions: tuple[Instruction, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """Which earlier records of its key an aggregate sees."""

    kind: Literal["rolling", "expanding"]
    size_ms: int = 0
    exclude_current: bool = False


@dataclass(frozen=True, slots=True)
class AggregateSpec:
    """One aggregate: `kind` over the column `argument` of the operator's argument program.

    kind: count sum min max mean std var first last to_list n_unique max_by min_by top_k lag custom.
    `by` is the ordering column of max_by, min_by and top_k, `then_by` those that tell ties apart.
    `where` is a bool column: only rows where it is true count. `retracts`: rows may be withdrawn, so values must leave again.
    `never_null`: no value of the argument is. `row`: the argument is a whole row, of these output columns, with kind and field.
    """

    name: str
    kind: str
    input_kind: Kind | None
    output_kind: Kind
    output_type: pa.DataType
    argument: int = -1
    by: int = -1
    by_kind: Kind | None = None
    then_by: tuple[int, ...] = ()
    then_kinds: tuple[Kind, ...] = ()
    where: int = -1
    params: tuple[tuple[str, Any], ...] = ()
    frame: FrameSpec | None = None
    custom: Any = None
    input_type: pa.DataType | None = None
    by_type: pa.DataType | None = None
    retracts: bool = False
    never_null: bool = False
    row: tuple[tuple[int, Kind, pa.Field], ...] = ()


@dataclass(frozen=True, slots=True)
class Input:
    """Where an operator's rows come from: an operator of the same stage, or (operator = -1) one of the stage's edges."""

    operator: int
    edge: int = 0
    tag: str = MAIN


@dataclass(frozen=True, slots=True)
class Edge:
    """Rows that leave an operator of another stage. `hash` sends a row to the owner of its key's shard, `broadcast` to every task."""

    stage: int
    operator: int
    tag: str
    partition: Literal["forward", "hash", "gather", "rebalance", "broadcast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalOperator:
    """What every operator has. `schema` describes the main output, `tags` the others."""

    name: str
    inputs: tuple[Input, ...]
    schema: Schema
    tags: tuple[tuple[str, Schema], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalSource(PhysicalOperator):
    """Head of a source stage (inputs is empty). `columns`: the columns to decode, in output order.

    `times` is the event-time column, None for the record's own (the source's) time; `timestamp` its index, -1 if its values have
    to be converted first. `partitioned_by` is that of the column whose hash is the number of a row's split, -1: there is none;
    `splits` are known once the job is opened. `rank`: its place among the sources as they were declared.
    `bootstrap`: others wait until it has been read to its end.
    """

    source: Any
    columns: tuple[str, ...]
    timestamp: int
    disorder_ms: int
    idle_timeout_ms: int | None
    max_ahead_ms: int | None
    max_drift_ms: int | None
    rank: int
    external_watermarks: bool
    bootstrap: bool = False
    errors: ErrorPolicy = "fail"
    times: EventTime | None = None
    partitioned_by: int = -1
    splits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalFilter(PhysicalOperator):
    """Keeps the rows for which the program's one output is true."""

    predicate: ProgramSpec
    input_schema: Schema
    errors: ErrorPolicy = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalExplode(PhysicalOperator):
    """A row for each item of the list in `column`, where the item's text is then; with `index` its place is the last column."""

    column: int
    empty_as_null: bool
    keep_nulls: bool
    index: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalProject(PhysicalOperator):
    """New columns. `columns[i]` is an input column to pass through, or -1: the next output of the program."""

    columns: tuple[int, ...]
    program: ProgramSpec
    input_schema: Schema
    errors: ErrorPolicy = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalPython(PhysicalOperator):
    """A Python function: mode map (row → row), flat_map (row → rows), filter (row → bool), peek, batches (RecordBatch → RecordBatch),
    test (row → bool, as a new last column)."""

    mode: Literal["map", "flat_map", "filter", "peek", "batches", "test"]
    function: Any
    input_schema: Schema
    errors: ErrorPolicy = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalMapAsync(PhysicalOperator):
    """An asynchronous Python function of a row, which returns a row. `capacity` calls at most are under way in a task.

    `timeout_ms` is of one attempt, `retry` how many follow the first. Without `ordered`, rows are emitted as calls end, but none
    passes a watermark.
    """

    function: Any
    capacity: int
    timeout_ms: int
    retry: int
    ordered: bool
    input_schema: Schema
    errors: ErrorPolicy = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalCounter(PhysicalOperator):
    """Passes rows on and counts, under `metric`, those for which the predicate is true."""

    metric: str
    predicate: ProgramSpec
    input_schema: Schema
    errors: ErrorPolicy = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalKeyEncode(PhysicalOperator):
    """Sets the system column KEY from the columns `keys` (indices). `partitioned`: no exchange follows, the task owns its splits' keys."""

    keys: tuple[int, ...]
    partitioned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalKeyLookup(PhysicalOperator):
    """Turns KEY into SLOT for all keyed operators behind it; drops and counts rows with a null key.

    `key_schema` names and types the key's components. `shares`: the lookup whose table it uses, -1: it has one of its own. Where
    there is the tag NULL, rows with a null key leave by it instead.
    """

    key_schema: Schema
    shares: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalDeduplicate(PhysicalOperator):
    """Drops a row if one of its key that was kept lies less than `within_ms` away. State: one field under `name` behind `lookup`.

    With `within_ms`, a row that is late leaves by the tag `late` (or is dropped) and is counted.
    """

    lookup: int
    key_schema: Schema
    within_ms: int | None

    @property
    def input_schema(self) -> Schema:
        """Columns of the rows, which pass as they are."""
        return self.schema


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalFrame(PhysicalOperator):
    """Appends one column an aggregate to each row. State: one field under `name` behind the lookup `lookup`.

    A row that is late for a rolling frame leaves by the tag `late` (or is dropped) and is counted.
    """

    lookup: int
    key_schema: Schema
    arguments: ProgramSpec
    aggregates: tuple[AggregateSpec, ...]
    input_schema: Schema
    errors: ErrorPolicy = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalAggregate(PhysicalOperator):
    """Running aggregates by key, without a window: a changed row per record.

    Output: key columns, the aggregates, then the hidden column `op` ("add", "replace", "withdraw"). `sign` is an output of
    `arguments`: -1 withdraws the row, 1 adds it; without one (-1) all rows are added. `emit`: a row for each record, for each
    batch and key, or for each key that has changed once in `throttle_ms` of the wall clock.
    """

    lookup: int
    key_schema: Schema
    arguments: ProgramSpec
    aggregates: tuple[AggregateSpec, ...]
    input_schema: Schema
    errors: ErrorPolicy = "fail"
    sign: int = -1
    emit: Literal["update", "batch", "throttle"] = "update"
    throttle_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalReduce(PhysicalOperator):
    """Running (or, with `window`, windowed) reduce by key with a Python function of two rows. `emit` as in PhysicalAggregate."""

    lookup: int
    key_schema: Schema
    function: Any
    input_schema: Schema
    errors: ErrorPolicy = "fail"
    window: WindowSpec | None = None
    emit: Literal["update", "batch"] = "update"


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Windows of a key. `size_ms` is the gap of a session and the records of a count window, `every_ms` the records between two.

    `transitions` of a time zone ("days"): the moments in ms from which an offset in ms holds.
    """

    kind: Literal["tumbling", "hopping", "days", "session", "sliding", "count"]
    size_ms: int
    every_ms: int
    offset_ms: int
    grace_ms: int
    emit: Literal["close", "update", "on_time", "throttle"]
    throttle_ms: int = 0
    transitions: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalWindowAggregate(PhysicalOperator):
    """Output: key columns, window_start, window_end (timestamps), the aggregates. Late rows leave by the tag `late`."""

    lookup: int
    key_schema: Schema
    window: WindowSpec
    arguments: ProgramSpec
    aggregates: tuple[AggregateSpec, ...]
    input_schema: Schema
    errors: ErrorPolicy = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalProcess(PhysicalOperator):
    """A user's `Processor` (class or instance, copied per task); with `window`, its `process_window`."""

    lookup: int
    key_schema: Schema
    processor: Any
    input_schema: Schema
    window: WindowSpec | None = None
    errors: ErrorPolicy = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalNative(PhysicalOperator):
    """A user's own Cython operator: `factory()` returns an `_native.operators.base.Operator`."""

    lookup: int
    factory: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalTable(PhysicalOperator):
    """Keeps the last row of each key (by arrival) and emits changes; adds the hidden column `op`.

    `retracts`: a row that replaces another is told as two changes, the old one withdrawn, the new one added. `numbered`: rows have
    the number of their arrival. Columns of the input, -1: there is none: `removed` says whether a row takes the key's row away,
    `version` which of two rows of a key is the later one; `by_time`: their event times say so.
    """

    lookup: int
    key_schema: Schema
    retracts: bool = False
    numbered: bool = False
    removed: int = -1
    version: int = -1
    by_time: bool = False


@dataclass(frozen=True, slots=True)
class JoinSide:
    """One side of a join: its input's rows, the places there of the columns that are kept, and these in words."""

    schema: Schema
    columns: tuple[int, ...]
    kinds: tuple[Kind, ...]
    layout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalJoin(PhysicalOperator):
    """Base of joins. `lookup` is that of the left side; the right one shares its table.

    `columns`: for each output column its place among the kept ones of the left side and of the right one, -1: it is not there.
    `ports`: for each input its side (0: left, 1: right), and whether its rows are those with a null key.
    """

    lookup: int
    key_schema: Schema
    sides: tuple[JoinSide, JoinSide]
    columns: tuple[tuple[int, int], ...]
    ports: tuple[tuple[int, bool], ...]
    how: Literal["inner", "left", "right", "outer"]

    #: Whether the order in which rows of the two sides come matters.
    ordered: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalIntervalJoin(PhysicalJoin):
    """Pairs with -before <= right's time - left's time <= after; None: whatever the times.

    With `window_ms` pairs in one of the windows of that size, which begin at `offset_ms` behind the epoch.
    """

    before_ms: int | None
    after_ms: int | None
    grace_ms: int
    window_ms: int = 0
    offset_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalAsOfJoin(PhysicalJoin):
    """Each left row beside the latest right one at its time, at most `tolerance_ms` earlier (None: however much)."""

    tolerance_ms: int | None
    allow_exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalTableJoin(PhysicalJoin):
    """Each left row beside the row that a table has for its key.

    `removed`: the column of the right input that says whether a row takes the key's row away, -1: none.
    """

    removed: int

    ordered: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalVersionedJoin(PhysicalTableJoin):
    """The same, with the row that the table had at the time of the left one; rows that were replaced are kept for `keep_ms`."""

    keep_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalBroadcastJoin(PhysicalTableJoin):
    """The same, where every task has the whole table. There is no lookup: `lookup` is -1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalConnect(PhysicalJoin):
    """A user's `TwoInputProcessor`, which has a method for the rows of each side."""

    processor: Any
    input_schema: Schema
    errors: ErrorPolicy = "fail"

    ordered: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalTablesJoin(PhysicalJoin):
    """The rows of two tables of one key, and the hidden column `op` behind them.

    `removed`: by side, as that of `PhysicalTableJoin`. `others`: by side, the places among the kept columns of those that are no key.
    """

    removed: tuple[int, int]
    others: tuple[tuple[int, ...], tuple[int, ...]]

    ordered: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalForeignKeyJoin(PhysicalTablesJoin):
    """The same of the rows of the left table that hold a key of the right one.

    `version` is the column of the left row's version, `n_keys` how many of the kept left columns, the first ones, are the left key.
    """

    version: int
    n_keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalMerge(PhysicalOperator):
    """Unites branches of one task: the rows come out in the record's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalSink(PhysicalOperator):
    """End of a chain. `columns`: which input columns are written; `keys`: the key's columns when the rows are upserts."""

    sink: Any
    columns: tuple[int, ...]
    input_schema: Schema
    keys: tuple[str, ...] = ()
    errors: ErrorPolicy = "fail"


@dataclass(frozen=True, slots=True)
class Stage:
    """One task's work. `operators` are in topological order; an operator's inputs stand before it."""

    id: int
    parallelism: int
    edges: tuple[Edge, ...]
    operators: tuple[PhysicalOperator, ...]


@dataclass(frozen=True, slots=True)
class PhysicalPlan:
    """`shards` is S of the keyed exchange, or the least that it may become when the job is opened (`runtime.sharding`).

    `state_names` are the operators that keep state. `meanings`: what each source and each of these declares, by name (see
    `logical.meaning`).
    """

    name: str
    parallelism: int
    shards: int
    stages: tuple[Stage, ...]
    state_names: tuple[str, ...]
    meanings: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)


def with_connectors(plan: PhysicalPlan, change: Callable[[Any], Any]) -> PhysicalPlan:
    """Return the plan with `change(source)` in place of each source and `change(sink)` of each sink; equal ones stay one."""
    changed: dict[int, Any] = {}

    def other(connector: Any) -> Any:
        return changed.setdefault(id(connector), change(connector))

    def rebuilt(operator: PhysicalOperator) -> PhysicalOperator:
        if isinstance(operator, PhysicalSource):
            return replace(operator, source=other(operator.source))
        if isinstance(operator, PhysicalSink):
            return replace(operator, sink=other(operator.sink))
        return operator

    stages = tuple(replace(stage, operators=tuple(map(rebuilt, stage.operators))) for stage in plan.stages)
    return replace(plan, stages=stages)
