"""Families that do not ask the time, or ask it of each record alone: chains, functions, frames, rules, tables, two exchanges."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

from streamdsl import Topology, col, count, dead_letter, expanding, lit, memory, rolling
from tests.simulation.family import (
    Expected,
    Family,
    Inputs,
    Out,
    Record,
    best,
    by_key,
    mean,
    null_keys,
    stream,
    total,
    watermarks,
)

# Stateless -------------------------------------------------------------------------------------------------------------

#: (what is done to a stream of key, at, n, y; the same to a row as a dict, which may give several rows)
Step = tuple[Callable[[Any], Any], Callable[[dict[str, Any]], list[dict[str, Any]]]]


def _branched(rows: Any) -> Any:
    parts = rows.branch(low=col("y") < 20, odd=col("n") % 2 == 1)
    return parts["odd"].with_columns(y=-col("y")).merge(parts["low"], parts["other"].filter(col("n") % 4 == 0))


def _branch(row: dict[str, Any]) -> list[dict[str, Any]]:
    if row["y"] < 20:
        return [row]
    if row["n"] % 2 == 1:
        return [{**row, "y": -row["y"]}]
    return [row] if row["n"] % 4 == 0 else []


STEPS: Sequence[Step] = (
    (lambda rows: rows.filter(col("n") % 3 != 0), lambda row: [row] * (row["n"] % 3 != 0)),
    (lambda rows: rows.with_columns(y=col("y") * 2 + 1), lambda row: [{**row, "y": row["y"] * 2 + 1}]),
    (lambda rows: rows.merge(rows.filter(col("n") % 5 == 0)), lambda row: [row] * (1 + (row["n"] % 5 == 0))),
    (_branched, _branch),
    (lambda rows: rows.filter(lambda row: row.n % 7 != 2), lambda row: [row] * (row["n"] % 7 != 2)),
    (
        lambda rows: rows.flat_map(
            lambda row: [{"key": row.key, "at": row.at, "n": row.n, "y": row.y + i} for i in range(row.n % 3)],
            schema={"key": "string | None", "at": int, "n": int, "y": int},
        ),
        lambda row: [{**row, "y": row["y"] + i} for i in range(row["n"] % 3)],
    ),
)


def chain(variant: int) -> Family:
    """Return a chain of stateless steps."""
    steps = random.Random(variant).sample(STEPS, 1 + variant % 4)

    def build() -> Topology:
        topology = Topology("chain")
        rows = stream(topology).select("key", "at", "n", y=col("n") * 1)
        for verb, _ in steps:
            rows = verb(rows)
        rows.to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        out: list[Out] = []
        for record in inputs["in"]:
            rows = [{"key": record.key, "at": record.at, "n": record.n, "y": record.n}]
            for _, apply in steps:
                rows = [made for row in rows for made in apply(row)]
            out += [(record.at, tuple(row.values())) for row in rows]
        return {"out": Expected("P1", out)}

    return Family(f"chain {variant}", build, oracle, idle=True, features=frozenset(["stateless"]))


def letters(variant: int) -> Family:
    """Return a function that refuses rows, and a source some of whose rows have no time: both send dead letters."""
    keyed = variant % 2 == 1

    def strict(row: Any) -> dict[str, Any]:
        if row.n % 7 == 3:
            raise ValueError("seven")
        return {"key": row.key, "n": row.n}

    def build() -> Topology:
        topology = Topology("letters")
        rows = stream(topology, errors=dead_letter(memory("timeless")))
        rows = rows.map(strict, schema={"key": "string | None", "n": int}, errors=dead_letter(memory("bad")))
        if keyed:
            rows = rows.key_by("key").with_columns(k=count().over(expanding()))
        rows.to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        timed = [row for row in inputs["in"] if row.at is not None]
        bad: list[Out] = [(None, ("ValueError: seven",)) for row in timed if row.n % 7 == 3]
        timeless: list[Out] = [(None, ("the record has no event time",)) for row in inputs["in"] if row.at is None]
        good = [row for row in timed if row.n % 7 != 3]
        if keyed:
            out: list[Out] = [(row.at, (key, row.n, k + 1)) for key, own in by_key(good).items() for k, row in enumerate(own)]
        else:
            out = [(row.at, (row.key, row.n)) for row in good]
        return {
            "out": Expected("P2" if keyed else "P1", out, (0,) if keyed else ()),
            "bad": Expected("P1", bad, only=("error",)),
            "timeless": Expected("P1", timeless, only=("error",)),
        }

    return Family(
        f"letters {variant}", build, oracle, together=("key",) if keyed else (), bad_times=True, features=frozenset(["dead letters"])
    )


# Frames ----------------------------------------------------------------------------------------------------------------

#: column: (aggregate, size of its rolling frame or None, what it is over the frame: earlier rows that it sees, the row itself)
FRAMES: dict[str, tuple[Any, int | None, Callable[[list[Record], Record], Any]]] = {
    "recent": (count().over(rolling("30ms")), 30, lambda before, row: len(before) + 1),
    "spent": (col("x").sum().over(rolling("50ms")), 50, lambda before, row: total(r.x for r in [*before, row])),
    "top": (col("n").max().over(rolling("90ms", exclude_current=True)), 90, lambda before, row: best(max, (r.n for r in before))),
    "kinds": (col("city").n_unique().over(rolling("70ms")), 70, lambda before, row: len({r.city for r in [*before, row]})),
    "all": (count().over(expanding()), None, lambda before, row: len(before) + 1),
    "sum": (col("x").sum().over(expanding()), None, lambda before, row: total(r.x for r in [*before, row])),
    "mean": (col("x").mean().over(expanding(exclude_current=True)), None, lambda before, row: mean(r.x for r in before)),
    "first": (col("city").first().over(expanding()), None, lambda before, row: [*before, row][0].city),
    "before": (col("city").lag(), None, lambda before, row: before[-1].city if before else None),
    "before2": (col("n").lag(2), None, lambda before, row: before[-2].n if len(before) > 1 else None),
}


def framed(rows: Sequence[Record], names: Sequence[str]) -> list[tuple[Record, tuple[Any, ...]]]:
    """Return the rows of one key with what the frames show."""
    found = []
    for i, row in enumerate(rows):
        values = []
        for name in names:
            _, size, function = FRAMES[name]
            before = [r for r in rows[:i] if size is None or row.at - size < r.at <= row.at]  # type: ignore[operator]
            values.append(function(before, row))
        found.append((row, tuple(values)))
    return found


def frames(variant: int) -> Family:
    """Return a few frames side by side; with a rolling one, late rows leave by another way."""
    draw = random.Random(variant)
    names = draw.sample(list(FRAMES), draw.randint(1, 5))
    times = any(FRAMES[name][1] is not None for name in names)

    def build() -> Topology:
        topology = Topology("frames")
        keyed = stream(topology).select("key", "city", "at", "x", "n").key_by("key")
        seen = keyed.with_columns(**{name: FRAMES[name][0] for name in names})
        seen.to(memory("out"))
        if times:
            seen.output("late").to(memory("late"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        late = {row.n for row, w in watermarks(inputs["in"]) if times and row.at <= w}  # type: ignore[operator]
        kept = by_key(row for row in inputs["in"] if row.n not in late)
        out: list[Out] = [(row.at, (*row[:5], *values)) for rows in kept.values() for row, values in framed(rows, names)]
        found = {"out": Expected("P2", out, (0,))}
        if times:
            found["late"] = Expected("P1", [(row.at, row[:5]) for row in inputs["in"] if row.n in late and row.key is not None])
        return found

    features = frozenset(["frames", *(["late"] if times else [])])
    return Family(
        f"frames {variant}",
        build,
        oracle,
        together=("key",),
        late=times,
        idle=not times,
        counts=lambda inputs: {"null_keys": null_keys(inputs)},
        features=features,
    )


def rules(variant: int) -> Family:
    """Return several operators behind one lookup, whose branches merge in the record's order."""
    moved = variant % 2 == 1

    def build() -> Topology:
        topology = Topology("rules")
        keyed = stream(topology).key_by("key")
        many = keyed.with_columns(k=count().over(rolling("40ms"))).filter(col("k") >= 2).select("key", "n", "k")
        rich = keyed.with_columns(k=col("x").sum().over(expanding())).filter(col("k") > 10).select("key", "n", k=lit(-1))
        away = keyed.with_columns(before=col("city").lag()).filter(col("before") != col("city")).select("key", "n", k=lit(0))
        (many.merge(away, rich) if moved else rich.merge(many)).to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        out: list[Out] = []
        for key, rows in by_key(inputs["in"]).items():
            for row, (spent, before, recent) in framed_rules(rows):
                many = [recent] if recent >= 2 else []
                rich = [-1] if spent > 10 else []
                away = [0] if before is not None and before != row.city else []
                out += [(row.at, (key, row.n, k)) for k in ([*many, *away, *rich] if moved else [*rich, *many])]
        return {"out": Expected("P2", out, (0,))}

    return Family(f"rules {variant}", build, oracle, together=("key",), features=frozenset(["merge", "frames"]))


def framed_rules(rows: Sequence[Record]) -> list[tuple[Record, tuple[Any, ...]]]:
    """Return each row with the sum so far, the city before, and the rows of the last 40 ms."""
    found = []
    for i, row in enumerate(rows):
        recent = 1 + sum(row.at - 40 < r.at <= row.at for r in rows[:i])  # type: ignore[operator]
        found.append((row, (total(r.x for r in rows[: i + 1]), rows[i - 1].city if i else None, recent)))
    return found


# Tables ----------------------------------------------------------------------------------------------------------------


def table(variant: int) -> Family:
    """Return running aggregates, a reduction, or the rows of a table's source: update rows."""
    kind = ("aggregate", "reduce", "upserts", "changes")[variant % 4]

    def build() -> Topology:
        topology = Topology("table")
        if kind == "upserts":
            source = memory("in", schema=stream(Topology("schema")).schema)
            topology.table(source, key="key", timestamp="at", disorder="20ms").to(memory("out"))
            return topology
        keyed = stream(topology).select("key", "city", "x", "n").key_by("key")
        if kind == "reduce":
            keyed.reduce(lambda a, b: {"city": b.city, "x": a.x, "n": (a.n * 31 + b.n) & 0xFFFFFF}).to(memory("out"))
            return topology
        made = keyed.aggregate(k=count(), total=col("x").sum(), last=col("city").last(), top=col("n").max())
        if kind == "changes":
            made.to_stream().filter(col("k") > 1).drop("op").to(memory("out"))
        else:
            made.to(memory("out"))
        return topology

    def last(key: str, rows: Sequence[Record]) -> tuple[Any, ...]:
        if kind == "upserts":
            return tuple(rows[-1])
        if kind == "reduce":
            n = functools.reduce(lambda a, b: (a * 31 + b) & 0xFFFFFF, [row.n for row in rows])
            return (key, rows[-1].city, rows[0].x, n)
        return (key, len(rows), total(row.x for row in rows), rows[-1].city, max(row.n for row in rows))

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        keys = by_key(inputs["in"])
        rows: list[Out] = [(None, last(key, own)) for key, own in keys.items() if kind != "changes" or len(own) > 1]
        return {"out": Expected("P3", rows, (0,), grows={"aggregate": 1, "changes": 1, "upserts": 4}.get(kind))}

    return Family(f"table {variant}", build, oracle, together=("key",), idle=True, features=frozenset(["table", kind]))


# Two exchanges, two sources ----------------------------------------------------------------------------------------------


def rekeyed(variant: int) -> Family:
    """Return rows numbered by key, and then by key and city."""

    def build() -> Topology:
        topology = Topology("rekeyed")
        counted = stream(topology).select("key", "city", "n").key_by("key").with_columns(k=count().over(expanding()))
        if variant % 2:
            counted = counted.filter(col("k") % 3 != 0)
        counted.key_by("key", "city").with_columns(before=col("k").lag(), m=count().over(expanding())).to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        out: list[Out] = []
        for key, rows in by_key(inputs["in"]).items():
            seen: dict[str, list[int]] = {}
            for k, row in enumerate(rows, 1):
                if variant % 2 == 0 or k % 3:
                    own = seen.setdefault(row.city, [])
                    out.append((row.at, (key, row.city, row.n, k, own[-1] if own else None, len(own) + 1)))
                    own.append(k)
        return {"out": Expected("P2", out, (0, 1))}

    return Family(f"rekeyed {variant}", build, oracle, together=("key",), idle=True, features=frozenset(["two exchanges"]))


def diamond(variant: int) -> Family:
    """Return one stream that comes by two ways, one of them through another exchange; both meet in one task."""

    def build() -> Topology:
        topology = Topology("diamond")
        source = stream(topology)
        by_city = source.key_by("city").with_columns(m=count().over(expanding())).select("key", "at", "city")
        both = by_city.merge(source.select("key", "at", "city"))
        both.key_by("key").with_columns(k=count().over(expanding())).select("key", "k").to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        numbers = [(None, (key, k)) for key, rows in by_key(inputs["in"]).items() for k in range(1, 2 * len(rows) + 1)]
        return {"out": Expected("P1", numbers, only=("key", "k"))}

    return Family(f"diamond {variant}", build, oracle, idle=True, features=frozenset(["diamond", "two exchanges"]))


def two_sources(variant: int) -> Family:
    """Return two streams, merged before the key; no key is in both, or (variant 1) the numbers of each key only are compared."""
    both = variant % 2 == 1

    def build() -> Topology:
        topology = Topology("two-sources")
        rows = stream(topology, "left").merge(stream(topology, "right")).key_by("key")
        if both:
            rows.with_columns(k=count().over(expanding())).select("key", "k").to(memory("out"))
        else:
            rows.with_columns(k=count().over(expanding()), before=col("n").lag()).select("key", "n", "k", "before").to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        if both:
            keys = by_key([*inputs["left"], *inputs["right"]])
            return {"out": Expected("P1", [(None, (key, k)) for key in keys for k in range(1, len(keys[key]) + 1)], only=("key", "k"))}
        out: list[Out] = []
        for rows in inputs.values():
            for key, own in by_key(rows).items():
                out += [(row.at, (key, row.n, k + 1, own[k - 1].n if k else None)) for k, row in enumerate(own)]
        return {"out": Expected("P2", out, (0,))}

    return Family(
        f"two sources {variant}",
        build,
        oracle,
        together=("key",),
        idle=True,
        same_keys=both,
        sources=("left", "right"),
        features=frozenset(["two sources"]),
    )


def one_key(variant: int) -> Family:
    """Return everything as one key: one task does it all, the others nothing."""

    def build() -> Topology:
        topology = Topology("one-key")
        stream(topology).key_by().with_columns(k=count().over(expanding()), last=col("n").lag()).select("n", "k", "last").to(memory("out"))
        return topology

    def oracle(inputs: Inputs) -> dict[str, Expected]:
        rows = [row for row in inputs["in"] if row.at is not None]
        out: list[Out] = [(row.at, (row.n, k + 1, rows[k - 1].n if k else None)) for k, row in enumerate(rows)]
        return {"out": Expected("P2", out)}

    return Family(f"one key {variant}", build, oracle, alone=True, idle=True, features=frozenset(["one key"]))
