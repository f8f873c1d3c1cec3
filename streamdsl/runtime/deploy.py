"""A physical plan to tasks: channels, operator chains, sources and sinks, connected."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from streamdsl._native.event_time.bootstrap import Bootstrap
from streamdsl._native.event_time.clock import Clock
from streamdsl._native.event_time.peer_time import PeerTime
from streamdsl._native.flow.channel import Channel
from streamdsl._native.flow.pace import Pace
from streamdsl._native.includes.faults import planted
from streamdsl._native.operators.base import Operator
from streamdsl._native.operators.broadcast_join import BroadcastJoinOperator
from streamdsl._native.operators.discard import Discard
from streamdsl._native.operators.fork import Fork
from streamdsl._native.operators.key_lookup import KeyLookup
from streamdsl._native.operators.map_async import MapAsyncOperator
from streamdsl._native.operators.merge import MergeOperator
from streamdsl._native.operators.output import Output
from streamdsl._native.operators.process import ProcessOperator
from streamdsl._native.operators.refusals import Refusals
from streamdsl._native.operators.sink import SinkOperator
from streamdsl._native.operators.window import WindowOperator
from streamdsl._native.task.ordered_source import OrderedSourceTask
from streamdsl._native.task.source_task import SourceTask
from streamdsl._native.task.split import Split
from streamdsl._native.task.task import Task, close_all
from streamdsl.checkpoint.meanings import LOOKUP
from streamdsl.config import Config
from streamdsl.connectors.transaction import Transaction
from streamdsl.errors import InternalError, StateError
from streamdsl.physical import node
from streamdsl.runtime.chain import Chain
from streamdsl.runtime.event_order import EventOrder
from streamdsl.runtime.event_times import times_of
from streamdsl.runtime.failures import as_connector_errors
from streamdsl.runtime.operators import build_operator, canonical_schema
from streamdsl.runtime.rejects import RejectPolicy
from streamdsl.runtime.sharding import keeps_keys, own_splits, owned_shards

#: Batches that may wait in a channel. Small: what waits is latency, and what a barrier has to walk behind.
CHANNEL_BATCHES = 8
#: Rows that a reader is asked for at a time.
CHUNK_ROWS = 1 << 16
#: Rows that the splits of a task may hold together, while each waits for its turn in event time: many files are read in small pieces.
HELD_ROWS = 1 << 20
LEAST_CHUNK_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a deployment is given instead of reaching for it: clock, state, what was restored, who listens."""

    config: Config
    clock: Clock
    listener: Any
    new_store: Callable[[str, list[int], int], Any]  # (task id, owned shards, S) -> StateStore
    transaction: Transaction | None = None
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # split states by source
    operators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # {operator: {task index: state}}
    shard_watermarks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    arrivals: int = 0  # arrival numbers go on from here
    behind: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # inputs that woke behind a task's watermark, by stage
    seed: int | None = None  # chooses which input is read next; None: in turn
    channel_batches: int = CHANNEL_BATCHES


@dataclass(frozen=True, slots=True)
class Deployment:
    """The tasks of a job. `chains` are kept for their tables (restoring) and for tests."""

    tasks: tuple[Task, ...]
    chains: tuple[Chain, ...]
    sources: tuple[SourceTask, ...]

    def meanings(self, plan: node.PhysicalPlan) -> dict[str, dict[str, str | int]]:
        """Return what sources and operators declare (see `logical.meaning`), the states of Processors and the key lookups among it."""
        found = {name: dict(parts) for name, parts in plan.meanings.items()}
        for lookup, names in lookups(plan).items():
            for name in names:
                found.setdefault(name, {})[LOOKUP] = lookup
        for chain in self.chains:
            for operator in chain.operators:
                if isinstance(operator, (ProcessOperator, WindowOperator)):
                    found.setdefault(operator.name, {}).update(operator.declared_states())
        return found

    def open_sinks(self) -> None:
        """Open the writers: last of all, because it cuts off what no checkpoint covers."""
        for chain in self.chains:
            for operator in chain.operators:
                operator.start()


def lookups(plan: node.PhysicalPlan) -> dict[str, list[str]]:
    """Return the names of the operators behind each key lookup, by its name."""
    return {
        operator.name: [other.name for other in stage.operators if getattr(other, "lookup", -1) == at]
        for stage in plan.stages
        for at, operator in enumerate(stage.operators)
        if isinstance(operator, node.PhysicalKeyLookup)
    }


def deploy(plan: node.PhysicalPlan, environment: Environment) -> Deployment:
    """Return the tasks of `plan`, ready to be stepped; state has yet to be loaded into their stores."""
    channels = {
        (stage.id, k): _channels(stage, k, plan.stages[edge.stage].parallelism, environment.channel_batches)
        for stage in plan.stages
        for k, edge in enumerate(stage.edges)
    }
    tasks: list[Task] = []
    chains: list[Chain] = []
    order = EventOrder(plan)
    silent: set[str] = set()
    splits: dict[str, list[str]] = {}
    try:
        for stage in plan.stages:
            peers = PeerTime(stage.parallelism) if keeps_keys(stage) else None
            for index in range(stage.parallelism):
                builder = _TaskBuilder(plan, stage, index, channels, environment, silent, peers, splits, order)
                chains.append(builder.chain)
                tasks.append(builder.build())
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell of
            close_all([thing for chain in chains for thing in [*chain.operators, *chain.readers] if hasattr(thing, "close")])
        raise
    order.settle()
    _bootstrap(tasks, plan)
    if environment.clock.runs():
        _set_paces(plan, tasks)
    return Deployment(tuple(tasks), tuple(chains), tuple(task for task in tasks if isinstance(task, SourceTask)))


def _bootstrap(tasks: Sequence[Task], plan: node.PhysicalPlan) -> None:
    """Let sources wait for those that are to be read first."""
    heads = {stage.id: stage.operators[0] for stage in plan.stages}
    first = {stage for stage, head in heads.items() if isinstance(head, node.PhysicalSource) and head.bootstrap}
    if not first:
        return
    bootstrap = Bootstrap()
    for task in tasks:
        if isinstance(task, SourceTask):
            task.begin_behind(bootstrap, int(task.id.partition(".")[0]) in first)


def _set_paces(plan: node.PhysicalPlan, tasks: Sequence[Task]) -> None:
    """Let each source know of the user code behind it: slow functions get few rows at a time."""
    paces = {stage.id: Pace() for stage in plan.stages if isinstance(stage.operators[0], node.PhysicalSource)}
    sources: dict[int, set[int]] = {}
    for stage in plan.stages:
        own = {stage.id} if stage.id in paces else set()
        sources[stage.id] = own.union(*(sources[edge.stage] for edge in stage.edges))
    for task in tasks:
        task.keep_pace([paces[source] for source in sorted(sources[int(task.id.partition(".")[0])])])
    for task in tasks:
        if isinstance(task, SourceTask):
            task.set_pace(paces[int(task.id.partition(".")[0])])


def _channels(stage: node.Stage, k: int, producers: int, batches: int) -> list[list[Channel]]:
    """Return channel[producer][consumer] of edge `k`; a forward edge has the diagonal only (others stay unused)."""
    return [[Channel(f"{stage.id}.{k}:{i}>{j}", batches) for j in range(stage.parallelism)] for i in range(producers)]


class _TaskBuilder:
    """Builds one task: operators in order, then what connects them."""

    def __init__(
        self,
        plan: node.PhysicalPlan,
        stage: node.Stage,
        index: int,
        channels: dict[tuple[int, int], list[list[Channel]]],
        environment: Environment,
        silent: set[str],
        peers: PeerTime | None,
        splits: dict[str, list[str]],
        order: EventOrder,
    ) -> None:
        self.splits = splits  # of each source: they are asked for once, and all tasks share them
        self.order = order
        self.peers = peers  # how far the tasks of the stage are in time, where one may need it of another
        # Tasks that will never send a record: no splits, or all of them read. They must not hold back anybody's watermark
        # until their END happens to be read, or which records are late would depend on the schedule.
        self.silent = silent
        self.brings_rows = False  # beside those that it reads
        self.plan, self.stage, self.index, self.channels, self.environment = plan, stage, index, channels, environment
        self.id = f"{stage.id}.{index}"
        owned = owned_shards(plan, stage, index)
        if planted("shard-owned-twice"):
            owned = [shard for shard in range(plan.shards) if shard % stage.parallelism >= index]
        new_store = functools.partial(environment.new_store, self.id, owned, plan.shards)
        self.chain = Chain(plan.shards, owned, new_store, environment.clock)
        self.merges_inside = any(isinstance(op, node.PhysicalMerge) and op.inputs[0].operator >= 0 for op in stage.operators)
        # (operator, tag) or (-1, edge) -> what reads it
        self.readers: dict[tuple[int, Any], list[Operator]] = {}

    def build(self) -> Task:
        for at, spec in enumerate(self.stage.operators):
            operator = self._make(at, spec)
            self.chain.built.append(operator)
            if operator is not None:
                lookup = getattr(spec, "lookup", -1)
                self.chain.add(operator, spec.name, self.chain.built[lookup] if lookup >= 0 else None)
                self._restore(operator, spec)
            self._note_inputs(spec, operator)
        self._make_outputs()
        for at, operator in enumerate(self.chain.built):
            if operator is not None:
                if not isinstance(operator, SinkOperator):
                    operator.connect(self._target((at, node.MAIN)))
                for tag, _ in self.stage.operators[at].tags:
                    if (at, tag) in self.readers:
                        operator.connect(self._target((at, tag)), tag)
        return self._make_task()

    def _make(self, at: int, spec: node.PhysicalOperator) -> Operator | None:
        if isinstance(spec, node.PhysicalSource):
            return None
        if isinstance(spec, node.PhysicalSink):
            return self._sink(spec)
        if isinstance(spec, node.PhysicalMerge):
            return self._merge(spec)
        operator = build_operator(spec, self.chain)
        if isinstance(operator, KeyLookup):
            operator.restore_shards(dict(self.environment.shard_watermarks.get(spec.name, {})))
            operator.go_on_from(self.environment.arrivals)
        return operator

    def _restore(self, operator: Operator, spec: node.PhysicalOperator) -> None:
        """Give back what the tasks of this operator left beside keyed state; with fewer tasks than before, one gets what several left."""
        states = sorted(self.environment.operators.get(spec.name, {}).items())
        if isinstance(operator, BroadcastJoinOperator):
            # What one task has left is what each of them had.
            operator.keep_state(self.index == 0)
            for _, state in states:
                operator.restore(state)
            return
        for task, state in states:
            if int(task.split(".")[1]) % self.stage.parallelism == self.index:
                operator.restore(state)
                # Calls that are made again bring rows, whether the task has anything to read or not.
                self.brings_rows |= isinstance(operator, MapAsyncOperator)

    def _brings_rows(self) -> bool:
        """Whether rows come of a task that has nothing to read any more: of windows and timers that were restored, or of calls."""
        keyed = any(isinstance(one, node.PhysicalKeyLookup) for one in self.stage.operators)
        return self.brings_rows or (keyed and not planted("rows-of-ended-tasks-late"))

    def _merge(self, spec: node.PhysicalMerge) -> Operator:
        inside = [source.operator >= 0 for source in spec.inputs]
        if not any(inside):
            operator = Operator()  # rows of several edges: they pass on as they come
            return operator
        if not all(inside):
            raise InternalError(f"{spec.name}: a merge has inputs inside and outside of its stage")
        return MergeOperator(spec.name, len(spec.inputs))

    def _sink(self, spec: node.PhysicalSink) -> Operator:
        schema = spec.schema
        # Snapshots are filed under task ids ("stage.index"); a sink goes on with what the task of its index left.
        states = {task.split(".")[1]: state for task, state in self.environment.operators.get(spec.name, {}).items()}
        state = states.get(str(self.index))
        canonical = canonical_schema(schema, tuple(range(len(spec.columns))))
        arrow = pa.schema([pa.field(f.name, f.type, f.nullable) for f in schema.fields])
        refusals = None if spec.errors == "fail" else Refusals(spec)
        # Of the builder it holds only what it needs: the builder has the chain, which holds this.
        transaction, index, parallelism = self.environment.transaction, self.index, self.stage.parallelism

        def open_writer() -> Any:
            with as_connector_errors(f"the sink {spec.name!r} cannot be opened"):
                if spec.sink.transactional:
                    return spec.sink.open_in(transaction, schema, spec.keys, index)
                return spec.sink.open_writer(schema, spec.keys, index, parallelism, state)

        return SinkOperator(spec.name, list(spec.columns), canonical, arrow, self.environment.clock, open_writer, refusals)

    def _note_inputs(self, spec: node.PhysicalOperator, operator: Operator | None) -> None:
        for i, source in enumerate(spec.inputs):
            if operator is None:
                raise InternalError(f"{spec.name}: a source has an input")
            origin = (-1, source.edge) if source.operator < 0 else (source.operator, source.tag)
            self.readers.setdefault(origin, []).append(operator.port(i))

    def _make_outputs(self) -> None:
        for stage in self.plan.stages:
            for k, edge in enumerate(stage.edges):
                if edge.stage != self.stage.id:
                    continue
                targets = self.channels[stage.id, k][self.index]
                if edge.partition == "forward":
                    targets = [targets[self.index]]
                placed = self.order.in_rounds(self.stage.id)
                output = Output(f"{self.id}>{stage.id}.{k}", targets, edge.partition == "hash", self.plan.shards, placed)
                if edge.partition == "broadcast":
                    output.to_all()
                self.chain.outputs.append(output)
                self.readers.setdefault((edge.operator, edge.tag), []).append(output)

    def _target(self, origin: tuple[int, Any]) -> Operator:
        readers = self.readers.get(origin, [])
        if not readers:
            return Discard()
        return readers[0] if len(readers) == 1 else Fork(readers, self.merges_inside)

    def _make_task(self) -> Task:
        first = self.stage.operators[0]
        title = self._title()
        environment = self.environment
        if isinstance(first, node.PhysicalSource):
            self.chain.heads.append(self._target((0, node.MAIN)))
            if (0, node.DEAD_LETTER) in self.readers:
                self.chain.dead_letters = self._target((0, node.DEAD_LETTER))
                # Time passes down this edge too, or the stage behind it would wait for ever.
                self.chain.heads.append(self.chain.dead_letters)
            made = OrderedSourceTask if first.source.bounded else SourceTask
            task = made(self.id, title, self.chain, None, environment.clock, environment.listener)
            self._open_source(task, first)
            return task
        inputs: list[Channel] = []
        ended: list[int] = []
        ports_of_edges, interleaved = _ports(self.stage)
        producers: list[tuple[int, int]] = []
        ports: list[int] = []
        names: list[tuple[str, int, int]] = []
        for k, edge in enumerate(self.stage.edges):
            head = self._target((-1, k))
            for i, row in enumerate(self.channels[self.stage.id, k]):
                if edge.partition != "forward" or i == self.index:
                    if f"{edge.stage}.{i}" in self.silent:
                        ended.append(len(inputs))
                    inputs.append(row[self.index])
                    producers.append((edge.stage, i))
                    ports.append(ports_of_edges[k])
                    emitting = self.plan.stages[edge.stage]
                    names.append((emitting.operators[edge.operator].name, i, emitting.parallelism))
                    self.chain.heads.append(head)
        seed = None if environment.seed is None else environment.seed * 1009 + hash_of(self.id)
        gate = self.order.gate(self.stage.id, inputs, producers, ports, seed, interleaved=interleaved)
        reader = Task(self.id, title, self.chain, gate, environment.clock, environment.listener)
        self.order.joined_by(reader, self.stage.id, self.index)
        reader.expect_nothing(ended)
        reader.name_inputs(first.name, names)
        self._restore_inputs(reader, first.name, names)
        if len(ended) == len(inputs) and not self._brings_rows():
            self.silent.add(self.id)
        return reader

    def _restore_inputs(self, reader: Task, stage: str, names: list[tuple[str, int, int]]) -> None:
        """Leave out of the task's time what was behind it. At another parallelism: an emitting operator of which no task was timely."""
        found = self.environment.behind.get(stage, {})
        if not found:
            return
        tasks = [found[self.id]] if self.id in found else list(found.values())
        kept = {tuple(named) for task in tasks for named in task["inputs"]}
        late = {named[0] for task in found.values() for named in task["inputs"]}
        late -= {name for task in found.values() for name in task["timely"]}
        behind = {i for i, named in enumerate(names) if named in kept or named[0] in late}
        if behind:
            reader.restore_inputs(min(task["watermark"] for task in tasks), behind)

    def _open_source(self, task: SourceTask, spec: node.PhysicalSource) -> None:
        source, config = spec.source, self.environment.config
        with as_connector_errors(f"the source {spec.name!r} cannot be opened"):
            names = self.splits.get(spec.name) or list(spec.splits or source.splits())
        self.splits[spec.name] = names
        if len(set(names)) != len(names):
            raise InternalError(f"source {spec.name!r} has two splits of one name")
        states = self.environment.sources.get(spec.name, {})
        gone = [name for name, state in states.items() if name not in names and not state["ended"]]
        if gone:
            raise StateError(
                f"source {spec.name!r} no longer has {', '.join(map(repr, sorted(gone)))}, which the checkpoint has read only in part",
                remedy="bring the input back, or start with another state directory",
            )
        if spec.partitioned_by >= 0 and states and set(states) != set(names):
            raise StateError(
                f"source {spec.name!r} has {len(names)} splits, the checkpoint {len(states)}: keys are bound to other splits now",
                remedy="leave partitioned_by= out: rows then change tasks by key, the new splits are read too, and the state goes on",
            )
        own = own_splits(names, self.stage.parallelism, self.index)
        with as_connector_errors(f"the source {spec.name!r} cannot be opened"):
            positions = {
                name: states[name]["position"] if name in states else source.position_of_added(name) if states else None for name in own
            }
            readers = source.open_splits(positions, spec.columns, own_time=spec.times is None)
            self.chain.readers.extend(readers.values())
            # One that has grown since it ended goes on.
            states = {
                name: {key: value for key, value in {**state, "ended": False}.items() if key != "reached"}
                if state["ended"] and name in positions and source.has_more(name, state["position"])
                else state
                for name, state in states.items()
            }
        for name in own:
            if name in states and states[name]["ended"]:
                readers[name].had_ended()
        numbers = {name: number for number, name in enumerate(names)}
        splits = [
            Split(name, i, numbers[name], readers[name], spec.disorder_ms, spec.external_watermarks, states.get(name))
            for i, name in enumerate(own)
        ]
        if all(split.ended for split in splits) and not (self._brings_rows() if splits else self.brings_rows):
            self.silent.add(self.id)
        types = [_declared_type(source, name) for name in spec.columns]
        policy = RejectPolicy(spec, self.chain.dead_letters, self.environment.clock)
        rate = 0.0 if source.rate is None or not names else source.rate * len(own) / len(names)
        chunk_rows = max(min(CHUNK_ROWS, HELD_ROWS // max(len(own), 1)), LEAST_CHUNK_ROWS)
        task.open(spec, splits, types, times_of(spec), policy, rate, config.batch_rows, chunk_rows)
        self.order.read_by(task, self.stage.id, self.index)
        if spec.partitioned_by >= 0:
            task.expect_keys_of_splits(len(names), self.peers)

    def _title(self) -> str:
        names = [op.name for op in self.stage.operators if not isinstance(op, node.PhysicalKeyEncode | node.PhysicalKeyLookup)]
        return " → ".join(dict.fromkeys(names[:1] + names[-1:])) + (f" [{self.index}]" if self.stage.parallelism > 1 else "")


def _ports(stage: node.Stage) -> tuple[list[int], bool]:
    """Return a number for each edge, the same where the rows are read as one, and whether their order matters all the same."""
    joins = [operator for operator in stage.operators if isinstance(operator, node.PhysicalJoin)]
    if not joins:
        return [0] * len(stage.edges), False
    return list(range(len(stage.edges))), any(join.ordered for join in joins)


def hash_of(text: str) -> int:
    """Return a small number that is the same in every process (unlike `hash`)."""
    return sum((i + 1) * ord(character) for i, character in enumerate(text))


def _declared_type(source: Any, name: str) -> pa.DataType:
    from streamdsl.connectors.base import METADATA_COLUMNS

    return source.schema.field(name).type if name in source.schema or name not in METADATA_COLUMNS else METADATA_COLUMNS[name]
