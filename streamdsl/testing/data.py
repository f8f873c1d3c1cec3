"""The rows that a test gives to the sources of a topology: typed, timed, and dealt out to splits."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import pyarrow as pa

from streamdsl._native.flow.convert import python_values
from streamdsl.dsl.topology import Topology
from streamdsl.errors import TopologyError
from streamdsl.formats.times import EventTimes
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.source import SourceNode
from streamdsl.schema import Schema, nearest
from streamdsl.testing.endpoints import DriverSource, Entry, rows_of

__all__ = ["Data", "SourceRows", "TopologyLike", "built", "plain", "source_rows"]

#: Rows (dicts, dataclasses, named tuples, a RecordBatch or a Table) by the name of the source that reads them.
Data = Mapping[str, Union[Sequence[Any], pa.RecordBatch, pa.Table]]
#: A topology, or a function that builds it anew for each run.
TopologyLike = Union[Topology, Callable[[], Topology]]

_PER_MS = {"us": 1_000, "ns": 1_000_000}


def built(topology: TopologyLike) -> Topology:
    """Return the topology itself, or what the function builds."""
    made = topology if isinstance(topology, Topology) else topology()
    if not isinstance(made, Topology):
        raise TopologyError(f"{topology!r} built {made!r}, not a topology", remedy="return the Topology")
    return made


@dataclass(frozen=True, slots=True)
class SourceRows:
    """All rows of one source in the order in which they were given.

    `times` are their event times (ms; None where the column is null); `given_times` tells that the source has no
    timestamp column, so that the times are the rows' positions.
    """

    node: SourceNode
    batch: pa.RecordBatch
    times: tuple[int | None, ...]
    given_times: bool

    @property
    def read_by_time(self) -> bool:
        """Whether it is read together with other sources in event-time order: it ends, and its rows have times of their own."""
        return self.node.source.bounded and not self.given_times

    @property
    def in_time_order(self) -> bool:
        """Whether no row is earlier than the one before it."""
        times = [time for time in self.times if time is not None]
        return all(a <= b for a, b in itertools.pairwise(times))

    @property
    def late(self) -> bool:
        """Whether a row comes at or below the watermark that the rows before it have made."""
        if self.node.external_watermarks:
            return False
        latest: int | None = None
        for time in self.times:
            if time is None:
                continue
            if latest is not None and time < latest - self.node.disorder_ms:
                return True
            latest = time if latest is None else max(latest, time)
        return False

    def values(self, columns: Sequence[str]) -> list[tuple[Hashable, ...]]:
        """Return what each row has in some columns, in a form that can be compared and hashed."""
        lists = [[plain(value) for value in python_values(self.batch.column(name))] for name in columns]
        return list(zip(*lists, strict=True))

    def driver(self, splits: int) -> DriverSource:
        """Return a source with empty logs that stands in for the real one."""
        return DriverSource(self.node.name, self.node.declared, splits, self.node.source.errors, bounded=self.read_by_time)

    def entry(self, rows: Sequence[int]) -> Entry:
        """Return a batch of these rows; they keep the positions that they have in the whole."""
        taken = self.batch.take(pa.array(rows, pa.int64()))
        times = pa.array([self.times[row] for row in rows], pa.int64()) if self.given_times else None
        return Entry(rows=taken, timestamps=times, offsets=pa.array(rows, pa.int64()))

    def dealt(self, groups: Collection[Sequence[str]], splits: int, draw: random.Random) -> list[list[int]]:
        """Return the rows of each split, in order; rows that agree in the columns of a group go to the same one."""
        find = _together(self.batch.num_rows, [self.values(columns) for columns in groups])
        chosen: dict[int, int] = {}
        dealt: list[list[int]] = [[] for _ in range(splits)]
        for row in range(self.batch.num_rows):
            leader = find(row)
            if leader not in chosen:
                chosen[leader] = draw.randrange(splits)
            dealt[chosen[leader]].append(row)
        return dealt


def source_rows(plan: LogicalPlan, data: Data) -> dict[str, SourceRows]:
    """Return the rows of every source that the plan reads.

    Raises
    ------
    TopologyError
        A source has no rows, or there are rows for a source that does not exist.
    DataError
        A row does not fit its source's schema.
    """
    nodes = {node.name: node for node in plan.sources}
    for name in data:
        if name not in nodes:
            near = nearest(name, nodes)
            raise TopologyError(
                f"there are rows for {name!r}, and no source of that name",
                remedy=(f"did you mean {near!r}? " if near else "") + f"the topology reads: {', '.join(nodes)}",
            )
    missing = [name for name in nodes if name not in data]
    if missing:
        raise TopologyError(f"there are no rows for the source {missing[0]!r}", remedy=f"give data={{{missing[0]!r}: [...]}}")
    return {name: _source_rows(node, data[name]) for name, node in nodes.items()}


def _source_rows(node: SourceNode, given: Any) -> SourceRows:
    batch = DriverSource(node.name, Schema.of(node.declared), 1, node.source.errors).batch_of(rows_of(given))
    if node.timestamp is None:
        return SourceRows(node, batch, tuple(range(batch.num_rows)), True)
    how, column = node.timestamp, batch.column(node.timestamp.column)
    if how.as_it_is:
        return SourceRows(node, batch, tuple(_milliseconds(column)), False)
    times = EventTimes(node.name, how.column, how.type, how.unit, how.format, how.tz).of(column)
    return SourceRows(node, batch, tuple(times.to_pylist()), False)


def _milliseconds(column: pa.Array) -> Iterable[int | None]:
    if not pa.types.is_timestamp(column.type):
        found: list[int | None] = column.to_pylist()
        return found
    unit = column.type.unit
    values = column.cast(pa.int64()).to_pylist()
    if unit == "s":
        return [None if value is None else value * 1_000 for value in values]
    return [None if value is None else value // _PER_MS.get(unit, 1) for value in values]


def plain(value: Any) -> Hashable:
    """Return a value so that equal ones are equal in Python: NaN is one value, -0.0 is 0.0, lists and dicts can be hashed."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value + 0.0
    if isinstance(value, dict):
        return tuple((key, plain(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value  # type: ignore[no-any-return]


def _together(n: int, values: Sequence[Sequence[Hashable]]) -> Callable[[int], int]:
    """Return a function from a row to the first row that it is tied to, directly or through others."""
    leaders = list(range(n))

    def find(row: int) -> int:
        while leaders[row] != row:
            leaders[row] = leaders[leaders[row]]
            row = leaders[row]
        return row

    for column in values:
        first: dict[Hashable, int] = {}
        for row, value in enumerate(column):
            a, b = find(first.setdefault(value, row)), find(row)
            leaders[max(a, b)] = min(a, b)
    return find
