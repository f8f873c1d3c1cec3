"""Families of joins, tables that change, deduplication and calls that are under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from streamdsl import Topology, TwoInputProcessor, col, count, dead_letter, memory, tumbling
from tests.simulation.family import SCHEMA, Expected, Family, Inputs, Out, Record, by_key, null_keys, stream, watermarks

BOTH = ("left", "right")
HOWS = ("inner", "left", "right", "outer")


def two_streams(topology: Topology) -> tuple[Any, Any]:
    """Return the streams of both sources, without names in common but the key's."""
    left = stream(topology, "left").select("key", "at", "n")
    return left, stream(topology, "right").select("key", m=col("n"), bt=col("at"))


# Streams with streams ----------------------------------------------------------------------------------------------------

#: (before, after, grace); None: unbounded.
BOUNDS: Sequence[tuple[int, int, int] | None] = (
    (0, 0, 0),
    (20, 20, 0),
    (0, 30, 10),
    (30, 0, 0),
    (-5, 25, 0),
    (60, 15, 5),
    None,
    (25, -5, 0),
)


def paired(inputs: Inputs, how: str, bounds: tuple[int, int, int] | None) -> list[Out]:
    """Return all pairs and the rows that have no partner, by brute force."""
    out: list[Out] = []
    matched: tuple[set[int], set[int]] = (set(), set())
    before, after, _ = bounds or (1 << 60, 1 << 60, 0)
    for left in inputs["left"]:
        for right in inputs["right"]:
            assert left.at is not None and right.at is not None
            if left.key is not None and left.key == right.key and -before <= right.at - left.at <= after:
                out.append((max(left.at, right.at), (left.key, left.at, left.n, right.n, right.at)))
                matched[0].add(left.n)
                matched[1].add(right.n)
    if how in ("left", "outer"):
        out += [(row.at, (row.key, row.at, row.n, None, None)) for row in inputs["left"] if row.n not in matched[0]]
    if how in ("right", "outer"):
        out += [(row.at, (row.key, None, None, row.n, row.at)) for row in inputs["right"] if row.n not in matched[1]]
    return out


def _joined(left: Any, right: Any, how: str, bounds: tuple[int, int, int] | None) -> Any:
    if bounds is None:
        return left.join(right, on="key", how=how, within=None)
    return left.join(right, on="key", how=how, before=bounds[0], after=bounds[1], grace=bounds[2])


def interval(variant: int) -> Family:
    """Return two streams joined by key and time, in all ways."""
    how, bounds = HOWS[variant % 4], BOUNDS[(variant // 4 + 3 * (variant % 4)) % len(BOUNDS)]

    def build() -> Topology:
        topology = Topology("interval")
        _joined(*two_streams(topology), how, bounds).to(memory("out"))
        return topology

    return Family(
        f"interval {variant}",
        build,
        lambda inputs: {"out": Expected("P1", paired(inputs, how, bounds))},
        same_keys=True,
        sources=BOTH,
        features=frozenset(["join", how, *(["unbounded"] if bounds is None else [])]),
    )


def window_behind(variant: int) -> Family:
    """Return windows behind a join: none of its rows, unmatched ones too, is late there."""
    how, bounds = HOWS[variant % 4], ((20, 20, 0), (0, 30, 10), (60, 15, 5), (30, 0, 0))[variant % 4]

    def build() -> Topology:
        topology = Topology("window-behind")
        made = _joined(*two_streams(topology), how, bounds)
        made.key_by("key").window(tumbling(40)).aggregate(k=count(), n=col("n").sum(), m=col("m").sum()).to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        found: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        for at, row in paired(inputs, how, bounds):
            if row[0] is not None:
                found.setdefault((row[0], at // 40 * 40), []).append(row)  # type: ignore[operator]
        out: list[Out] = [
            (start + 39, (key, start, start + 40, len(rows), sum(row[2] or 0 for row in rows), sum(row[3] or 0 for row in rows)))
            for (key, start), rows in found.items()
        ]
        return {"out": Expected("P1", out)}

    return Family(f"window behind {variant}", build, oracle, same_keys=True, sources=BOTH, features=frozenset(["join", "windows"]))


def as_of(variant: int) -> Family:
    """Return the latest row of the other side at each row's time."""
    tolerance, exact = (None, 15, 40)[variant % 3], variant % 2 == 0
    how = ("left", "inner")[variant // 3 % 2]

    def build() -> Topology:
        topology = Topology("as-of")
        left, right = two_streams(topology)
        left.join_asof(right, by="key", how=how, tolerance=tolerance, allow_exact=exact).to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        there = by_key(inputs["right"])
        out: list[Out] = []
        for row in inputs["left"]:
            assert row.at is not None
            own = [one for one in there.get(row.key or "", []) if one.at < row.at + exact]  # type: ignore[operator]
            own = [one for one in own if tolerance is None or row.at - one.at <= tolerance]  # type: ignore[operator]
            # Of equal times the one that arrived last.
            best = max(own, key=lambda one: (one.at, one.n)) if own and row.key is not None else None
            if best is not None:
                out.append((row.at, (row.key, row.at, row.n, best.n, best.at)))
            elif how == "left":
                out.append((row.at, (row.key, row.at, row.n, None, None)))
        return {"out": Expected("P1", out)}

    return Family(f"as of {variant}", build, oracle, together=("key",), same_keys=True, sources=BOTH, features=frozenset(["join", "as of"]))


# Tables ------------------------------------------------------------------------------------------------------------------


def table_of(topology: Topology, name: str, key: str = "key", **options: Any) -> Any:
    """Return the table of a source: the last row of each key counts."""
    return topology.table(memory(name, schema=SCHEMA), key=key, timestamp="at", disorder="20ms", **options)


#: How a table is joined: as it is, read first, at every task, as of the record's time.
TABLES: Sequence[dict[str, Any]] = ({}, {"bootstrap": True}, {"broadcast": True}, {"versioned": "10s"})


def enriched(variant: int) -> Family:
    """Return a stream beside a table: how far the table has been read is chance, but never backwards, and no row is lost."""
    how, options = ("left", "inner")[variant % 2], TABLES[variant // 2]
    versioned = "versioned" in options

    def build() -> Topology:
        topology = Topology("enriched")
        left = stream(topology, "left").select("key", "at", "n")
        right = table_of(topology, "right", **options)
        if not versioned:
            left.join(right.select(m=col("n")), on="key", how=how).to(memory("out"))
        else:
            left.join(right, on="key", how=how, suffix="_2").select("key", "at", "n", m=col("n_2")).to(memory("out"))
        return topology

    def accounts(inputs: Inputs, found: Mapping[str, Sequence[Out]]) -> str | None:
        rows = found["out"]
        left = {row.n: row for row in inputs["left"]}
        there = {row.n: row.key for row in inputs["right"]}
        times = {row.n: row.at for row in inputs["right"]}
        if Counter(row[2] for _, row in rows) != Counter(left.keys()) and how == "left":
            return f"{len(left)} rows went in, {sorted(row[2] for _, row in rows)} came out"
        latest: dict[str, tuple[int, int]] = {}
        for at, (key, own, n, m) in rows:
            if (at, key, own) != (left[n].at, left[n].key, left[n].at):
                return f"row {n} was changed"
            if key is None and m is None and how == "left":
                continue
            if m is not None and (key is None or there[m] != key):
                return f"row {n} of {key} stands beside row {m} of {there[m]}"
            if m is None and how == "inner":
                return f"row {n} has no partner"
            if versioned:
                if m is not None and times[m] > own:  # type: ignore[operator]
                    return f"row {n} of time {own} stands beside row {m} of time {times[m]}"
                continue
            seen = n, -1 if m is None else m
            if key in latest and (seen[0] <= latest[key][0] or seen[1] < latest[key][1]):
                return f"{key}: row {n} stands beside row {m}, and came behind {latest[key]}"
            latest[key] = seen
        return None

    return Family(
        f"enriched {variant}",
        build,
        lambda inputs: {},
        together=("key",),
        same_keys=True,
        sources=BOTH,
        accounts=accounts,
        features=frozenset(["join", "stream-table", *options]),
    )


def last_rows(rows: Iterable[Record]) -> dict[str, Record]:
    """Return the last row of each key."""
    return {key: own[-1] for key, own in by_key(rows).items()}


def tables(variant: int) -> Family:
    """Return two tables joined, of which one loses rows again: each change fits what was said before."""
    how = HOWS[variant % 4]

    def build() -> Topology:
        topology = Topology("tables")
        left = table_of(topology, "left").filter(col("n") % 3 != 0).select("city", "n")
        right = table_of(topology, "right").select(m=col("n")).filter(col("m") % 4 != 1)
        left.join(right, how=how).to_stream().to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        left = {key: row for key, row in last_rows(inputs["left"]).items() if row.n % 3 != 0}
        right = {key: row for key, row in last_rows(inputs["right"]).items() if row.n % 4 != 1}
        keys = {"inner": left.keys() & right.keys(), "left": left.keys(), "right": right.keys(), "outer": left.keys() | right.keys()}
        out: list[Out] = []
        for key in sorted(keys[how]):
            a, b = left.get(key), right.get(key)
            out.append((None, (key, a and a.city, a and a.n, b and b.n)))
        return {"out": Expected("changes", out, (0,))}

    return Family(
        f"tables {variant}", build, oracle, together=("key",), same_keys=True, sources=BOTH, features=frozenset(["join", "tables"])
    )


def foreign_key(variant: int) -> Family:
    """Return a table beside another one whose keys it holds; both lose rows again, and rows name others as they change."""
    how = ("left", "inner")[variant % 2]

    def build() -> Topology:
        topology = Topology("foreign-key")
        left = table_of(topology, "left").filter(col("n") % 5 != 0).select("city", "n")
        right = table_of(topology, "right", key="city").select(m=col("n")).filter(col("m") % 4 != 1)
        left.join(right, on="city", how=how).to_stream().to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        left = {key: row for key, row in last_rows(inputs["left"]).items() if row.n % 5 != 0}
        right = {row.city: row for row in inputs["right"]}
        out: list[Out] = []
        for key, row in sorted(left.items()):
            other = right[row.city].n if row.city in right and right[row.city].n % 4 != 1 else None
            if other is not None or how == "left":
                out.append((None, (key, row.city, row.n, other)))
        return {"out": Expected("changes", out, (0,))}

    return Family(f"foreign key {variant}", build, oracle, alone=True, sources=BOTH, features=frozenset(["join", "tables", "foreign key"]))


class Numbered(TwoInputProcessor):
    """Numbers the rows of each side of a key, and counts both."""

    output: ClassVar[Any] = {"key": str, "side": str, "n": int, "own": int, "least": int}

    def open(self, ctx: Any) -> None:
        """Declare what is kept: how many rows of either side there were."""
        self.seen = ctx.state.value("seen", list[int])

    def _numbered(self, side: int, row: Any) -> dict[str, Any]:
        seen = [*self.seen.get([0, 0])]
        seen[side] += 1
        self.seen.set(seen)
        return {"key": row.key, "side": BOTH[side], "n": row.n, "own": seen[side], "least": min(seen)}

    def process_left(self, row: Any, ctx: Any) -> Any:
        """Number a row of the left side."""
        yield self._numbered(0, row)

    def process_right(self, row: Any, ctx: Any) -> Any:
        """Number a row of the right side."""
        yield self._numbered(1, row)


def connected(variant: int) -> Family:
    """Return two streams seen by one processor: the rows of either side keep their order, and one state counts both."""

    def build() -> Topology:
        topology = Topology("connected")
        made = stream(topology, "left").key_by("key").connect(stream(topology, "right").key_by("key")).process(Numbered, name="both")
        made.select("key", "side", "n", "own").to(memory("out"))
        made.select("key", "least").to(memory("least"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        out: list[Out] = [(row.at, (row.key, side, row.n, row.seq)) for side in BOTH for row in inputs[side] if row.key is not None]
        return {"out": Expected("P2", out, (0, 1))}

    def accounts(inputs: Inputs, found: Mapping[str, Sequence[Out]]) -> str | None:
        for key in {row[0] for _, row in found["least"]}:
            least = [row[1] for _, row in found["least"] if row[0] == key]
            if least != sorted(least) or least[-1] != min(sum(row.key == key for row in inputs[side]) for side in BOTH):
                return f"{key}: one state has counted both sides as {least}"
        return None

    return Family(
        f"connected {variant}",
        build,
        oracle,
        together=("key",),
        same_keys=True,
        sources=BOTH,
        accounts=accounts,
        features=frozenset(["join", "connect"]),
    )


def regrouped(variant: int) -> Family:
    """Return the rows of a table by another column: a row that changes leaves its old group."""
    filtered = variant % 2 == 1

    def build() -> Topology:
        topology = Topology("regrouped")
        table = table_of(topology, "in")
        if filtered:
            table = table.filter(col("n") % 3 != 0)
        table.group_by("city").aggregate(k=count(), total=col("n").sum()).to_stream().to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        groups: dict[str, list[int]] = {}
        for row in last_rows(inputs["in"]).values():
            if not filtered or row.n % 3 != 0:
                groups.setdefault(row.city, []).append(row.n)
        return {"out": Expected("changes", [(None, (city, len(ns), sum(ns))) for city, ns in groups.items()], (0,))}

    return Family(f"regrouped {variant}", build, oracle, together=("key",), idle=True, features=frozenset(["tables", "regrouped"]))


# The first of equal records; calls ---------------------------------------------------------------------------------------


def deduplicated(variant: int) -> Family:
    """Return the first of the rows of a key that are near one another in time."""
    within = (25, 60, 1, None)[variant % 4]

    def kept(inputs: Inputs) -> tuple[list[Out], list[Out]]:
        late = {row.n for row, w in watermarks(inputs["in"]) if within is not None and row.at <= w}  # type: ignore[operator]
        out: list[Out] = []
        for key, rows in by_key(row for row in inputs["in"] if row.n not in late).items():
            times: list[int] = []
            for row in rows:
                assert row.at is not None
                if not times if within is None else all(abs(row.at - time) >= within for time in times):
                    times.append(row.at)
                    out.append((row.at, (key, row.n)))
        return out, [(row.at, (row.n,)) for row in inputs["in"] if row.n in late and row.key is not None]

    def build() -> Topology:
        topology = Topology("deduplicated")
        made = stream(topology).select("key", "n").deduplicate(on="key", within=within)
        made.to(memory("out"))
        if within is not None:
            made.output("late").select("n").to(memory("late"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        out, late = kept(inputs)
        return {"out": Expected("P2", out, (0,)), **({} if within is None else {"late": Expected("P1", late)})}

    def counts(inputs: Inputs) -> dict[str, int]:
        out, late = kept(inputs)
        timed = sum(row.key is not None for row in inputs["in"])
        return {"null_keys": null_keys(inputs), "duplicates": timed - len(out) - len(late)}

    return Family(
        f"deduplicated {variant}",
        build,
        oracle,
        together=("key",),
        late=within is not None,
        idle=within is None,
        counts=counts,
        features=frozenset(["deduplicate", *(["late"] if within is not None else [])]),
    )


async def answered(row: Any) -> dict[str, Any]:
    """Refuse some rows."""
    if row.n % 7 == 3:
        raise ValueError("seven")
    return {"key": row.key, "n": row.n, "y": row.n * 2}


def calls(variant: int) -> Family:
    """Return calls that end in any order; windows behind them find no row late."""
    ordered = variant % 2 == 0

    def build() -> Topology:
        topology = Topology("calls")
        rows = stream(topology).select("key", "n")
        made = rows.map_async(
            answered,
            schema={"key": "string | None", "n": int, "y": int},
            capacity=(2, 5)[variant // 2 % 2],
            retry=0,
            ordered=ordered,
            errors=dead_letter(memory("bad")),
        )
        made.to(memory("out"))
        made.key_by("key").window(tumbling(40)).aggregate(k=count()).to(memory("windows"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        good = [row for row in inputs["in"] if row.n % 7 != 3]
        windows: Counter[tuple[str, int]] = Counter((row.key, row.at // 40 * 40) for row in good if row.key is not None)  # type: ignore[operator,misc]
        return {
            "out": Expected("P1", [(row.at, (row.key, row.n, row.n * 2)) for row in good]),
            "bad": Expected("P1", [(None, ("ValueError: seven",)) for row in inputs["in"] if row.n % 7 == 3], only=("error",)),
            "windows": Expected("P1", [(start + 39, (key, start, start + 40, k)) for (key, start), k in windows.items()]),
        }

    return Family(f"calls {variant}", build, oracle, calls=True, features=frozenset(["calls", "windows"]))


FAMILIES: tuple[tuple[Family, ...], ...] = (
    tuple(interval(i) for i in range(32)),
    tuple(window_behind(i) for i in range(4)),
    tuple(as_of(i) for i in range(6)),
    (*(enriched(i) for i in range(8)), *(connected(i) for i in range(1))),
    (*(tables(i) for i in range(4)), *(foreign_key(i) for i in range(2))),
    tuple(regrouped(i) for i in range(2)),
    tuple(deduplicated(i) for i in range(4)),
    tuple(calls(i) for i in range(4)),
)
