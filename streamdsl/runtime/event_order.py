"""Which tasks of a plan keep to event-time order, and where rows of several sources are put in order."""

from __future__ import annotations

from collections.abc import Sequence

from streamdsl._native.event_time.read_order import ReadOrder
from streamdsl._native.flow.channel import Channel
from streamdsl._native.flow.input_gate import InputGate
from streamdsl._native.task.ordered_gate import OrderedGate
from streamdsl._native.task.ordered_source import OrderedSourceTask
from streamdsl._native.task.source_task import SourceTask
from streamdsl._native.task.task import Task
from streamdsl._native.task.timed_gate import TimedGate
from streamdsl.physical import node

__all__ = ["EventOrder"]


class EventOrder:
    """The order in which the sources of one job are read (see `_native/event_time/read_order.pxd`).

    Bounded sources are read in rounds. Where rows of several of them meet, all tasks behind bounded sources pass the rounds on,
    and what reads several inputs puts the rows of a round in event-time order. Live sources take part if one of them has
    `max_drift`.
    """

    def __init__(self, plan: node.PhysicalPlan) -> None:
        self._first: dict[int, int] = {}  # number of the first task of a stage
        self._ranks: dict[int, frozenset[int]] = {}  # bounded sources in front of a stage
        tasks = 0
        sources = []
        for stage in plan.stages:
            self._first[stage.id] = tasks
            tasks += stage.parallelism
            above = frozenset[int]().union(*(self._ranks[edge.stage] for edge in stage.edges))
            head = stage.operators[0]
            if isinstance(head, node.PhysicalSource):
                sources.append(head)
                above |= {head.rank} if head.source.bounded else set()
            self._ranks[stage.id] = above
        self._exact = any(len(ranks) > 1 for ranks in self._ranks.values())
        self._bootstraps = any(source.bootstrap for source in sources)
        self._drift = any(source.max_drift_ms is not None for source in sources)
        self._order = ReadOrder(tasks)
        self._readers: list[OrderedSourceTask] = []

    def gate(
        self,
        stage: int,
        inputs: list[Channel],
        producers: Sequence[tuple[int, int]],
        ports: list[int],
        seed: int | None,
        *,
        interleaved: bool,
    ) -> InputGate:
        """Return the gate of a task that reads `inputs`, written by the tasks `producers` (stage, index).

        Rows of one of the `ports` come together; `interleaved`: rows of all of them come in event-time order, of bounded sources
        exactly, of live ones among what is waiting.
        """
        if not self.in_rounds(stage):
            if not interleaved:
                return InputGate(inputs, seed)
            timed = TimedGate(inputs, seed)
            timed.order(ports, self._bootstraps)
            return timed
        gate = OrderedGate(inputs, seed)
        gate.follow(self._order, [self._number(*producer) for producer in producers], ports, interleaved)
        return gate

    def joined_by(self, task: Task, stage: int, index: int) -> None:
        """Have a task that reads others pass the rounds on."""
        if self.in_rounds(stage):
            task.read_in_order(self._order, self._number(stage, index))
        else:
            self._order.passes_by(self._number(stage, index))

    def read_by(self, task: SourceTask, stage: int, index: int) -> None:
        """Have a source task take part, once it knows its splits."""
        if isinstance(task, OrderedSourceTask):
            task.join_order(self._order, self._number(stage, index), self._exact)
            self._readers.append(task)
            return
        self._order.passes_by(self._number(stage, index))
        if self._drift:
            task.take_part(self._order)

    def settle(self) -> None:
        """All tasks are there: number their splits. A single one has nobody to wait for, unless its rows have to keep their order."""
        self._order.number_splits()
        if self._order.n_splits < 2 and not self._exact:
            for reader in self._readers:
                reader.leave_order()

    def in_rounds(self, stage: int) -> bool:
        """Whether the tasks of the stage pass rounds on, and rows with their places."""
        return self._exact and bool(self._ranks[stage])

    def _number(self, stage: int, index: int) -> int:
        return self._first[stage] + index
