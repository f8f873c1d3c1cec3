"""What a family of topologies is, the rows that it reads, and the rules of time that its oracle goes by.

An oracle says in plain Python what must come out. It shares nothing with the library: no window, frame, watermark or key of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from streamdsl import Topology, memory

DISORDER_MS = 20
#: Before the first watermark.
NEVER = -(1 << 63)


class Record(NamedTuple):
    """A row of a source. `n` is its number there, `seq` the number of its key's row there, from 1."""

    key: str | None
    city: str
    at: int | None
    x: float | None
    n: int
    seq: int


SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("city", pa.string()),
        ("at", pa.int64()),
        ("x", pa.float64()),
        ("n", pa.int64()),
        ("seq", pa.int64()),
    ]
)

#: (event time, row) as it is compared.
Out = tuple[int | None, tuple[Any, ...]]
Inputs = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class Expected:
    """What a sink must hold, by one of the promises.

    `kind`: P1, the rows in any order; P2, those of each key in order; P3, the last row of each key, without its time, and `grows`
    (a column, or None) never falls; "changes", the rows that are left once all changes have been applied in order, each of which
    fits what is there (the column `op` says what it does). `key` are the columns of the key; `only`: columns that are compared
    (None: all). `among`: rows that were true at some time; no other may be shown (None: any may). `by_key`: a withdrawal names the key,
    and need not have the values that were shown last.
    """

    kind: Literal["P1", "P2", "P3", "changes"]
    rows: Sequence[Out]
    key: tuple[int, ...] = ()
    only: tuple[str, ...] | None = None
    grows: int | None = None
    among: Collection[tuple[Any, ...]] | None = None
    by_key: bool = False


@dataclass(frozen=True)
class Family:
    """One topology of a family.

    Parameters
    ----------
    name : str
        Family and variant.
    build : callable
        () -> Topology.
    oracle : callable
        Rows of each source in order -> what each sink must hold.
    together : tuple of str
        Rows that agree in these columns must be in one split; empty: any split.
    alone : bool
        The source must have one split.
    late : bool
        Rows may be late; then the source has one split, too.
    idle : bool
        Splits may become idle: nothing asks the time.
    external : bool
        Watermarks stand in the splits.
    bad_times : bool
        Rows may have no time.
    same_keys : bool
        Both sources may have rows of one key.
    calls : bool
        Calls are under way: they end in any order, whenever it is drawn.
    accounts : callable, optional
        (inputs, rows of each sink) -> what is wrong with them, or None: where what comes out is chance, every row is accounted for.
    counts : callable, optional
        Inputs -> {(operator metric): total} that a run without restarts must show.
    """

    name: str
    build: Callable[[], Topology]
    oracle: Callable[[Inputs], dict[str, Expected]]
    together: tuple[str, ...] = ()
    alone: bool = False
    late: bool = False
    idle: bool = False
    external: bool = False
    bad_times: bool = False
    same_keys: bool = False
    calls: bool = False
    sources: tuple[str, ...] = ("in",)
    accounts: Callable[[Inputs, Mapping[str, Sequence[Out]]], str | None] | None = None
    counts: Callable[[Inputs], dict[str, int]] | None = None
    features: frozenset[str] = field(default_factory=frozenset)


def stream(topology: Topology, name: str = "in", **options: Any) -> Any:
    """Return the stream of a source."""
    return topology.stream(memory(name, schema=SCHEMA), **{"timestamp": "at", "disorder": f"{DISORDER_MS}ms", **options})


def drawn_rows(draw: random.Random, n: int, *, prefix: str, late_ms: int, nulls: bool, bad_times: bool) -> list[Record]:
    """Draw the rows of a source: times mostly within the disorder, a few keys, some null."""
    random_, keys = draw.random, draw.choice((1, 2, 3, 5, 8))
    steps = draw.choice(((0, 1, 3, 10, 40), (0, 0, 1), (5, 25, 200), (1, 300)))
    now, rows, seqs = draw.choice((-500, 0, 1_000)), [], dict[str | None, int]()
    for i in range(n):
        now += steps[int(random_() * len(steps))]
        at: int | None = now - int(random_() * (DISORDER_MS + 1))
        if late_ms and random_() < 0.15:
            at = now - DISORDER_MS - int(random_() * late_ms)
        if bad_times and random_() < 0.1:
            at = None
        key = None if nulls and random_() < 0.06 else f"{prefix}{int(random_() * keys)}"
        seqs[key] = seq = seqs.get(key, 0) + 1
        x = None if random_() < 0.1 else int(random_() * 60 - 10) / 4
        rows.append(Record(key, ("Lima", "Cusco", "Tacna")[int(random_() * 3)], at, x, i, seq))
    return rows


# Rules of time and arithmetic, as semantics have them ------------------------------------------------------------------


def watermarks(rows: Iterable[Record]) -> Iterable[tuple[Record, int]]:
    """Yield each row with a time, and the watermark before it."""
    latest = NEVER
    for row in rows:
        if row.at is not None:
            yield row, NEVER if latest == NEVER else latest - DISORDER_MS - 1
            latest = max(latest, row.at)


def by_key(rows: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the rows of each key in order; those without a key or a time are dropped."""
    found: dict[str, list[Record]] = {}
    for row in rows:
        if row.key is not None and row.at is not None:
            found.setdefault(row.key, []).append(row)
    return found


def total(values: Iterable[float | None]) -> Any:
    """Return the sum of those that are not null."""
    return sum((value for value in values if value is not None), 0.0)


def best(choose: Callable[[Any], Any], values: Iterable[Any]) -> Any:
    """Return the least or greatest of those that are not null."""
    there = [value for value in values if value is not None]
    return choose(there) if there else None


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of those that are not null: their sum, in order, divided by their number."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def null_keys(inputs: Inputs) -> int:
    """Return how many rows have no key."""
    return sum(row.key is None and row.at is not None for rows in inputs.values() for row in rows)
