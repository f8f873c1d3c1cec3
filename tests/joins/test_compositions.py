"""Verbs of tables one behind another, drawn at random: what is shown at the end is a function of the rows that are last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Table, Topology, col, count, memory, when
from streamdsl.testing import TopologyTestDriver
from tests.joins.test_tables import applied

PEOPLE = {"id": int, "town": str | None, "v": int | None, "here": int | None}
MARKS = {"id": int, "mark": str | None}
TOWNS = {"town": str, "land": str | None}
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Sources:
    """Three tables and, by key, the rows that are last in each."""

    people: Any
    marks: Any
    towns: Any


Verb = tuple[Callable[[Table, Sources], Table], Callable[[Rows, Sources], Rows]]


def joined(rows: Rows, others: Rows, key: str, column: str, how: str) -> Rows:
    found = {row[key]: row[column] for row in others}
    return [{**row, column: found.get(row[key])} for row in rows if how == "left" or row[key] in found]


def grouped(rows: Rows, key: str) -> Rows:
    groups: dict[Any, Rows] = {}
    for row in rows:
        if row[key] is not None:
            groups.setdefault(row[key], []).append(row)
    made = []
    for value, members in groups.items():
        values = [row["v"] for row in members if row["v"] is not None]
        summed = {"v": sum(values), "high": max(values, default=None), "low": min(values, default=None)}
        made.append({key: value, "n": len(members), **summed})
    return made


VERBS: dict[str, Verb] = {
    "filter": (lambda table, _: table.filter(col("v") >= 2), lambda rows, _: [r for r in rows if r["v"] is not None and r["v"] >= 2]),
    "without": (lambda table, _: table.filter(col("v").is_null()), lambda rows, _: [r for r in rows if r["v"] is None]),
    "compute": (
        lambda table, _: table.with_columns(v=when(col("v") > 3).then(None).otherwise(col("v") + 1)),
        lambda rows, _: [{**r, "v": None if r["v"] is None or r["v"] > 3 else r["v"] + 1} for r in rows],
    ),
    "mark": (
        lambda table, sources: table.join(sources.marks, how="left", name="marks"),
        lambda rows, sources: joined(rows, sources.marks, "id", "mark", "left"),
    ),
    "marked": (
        lambda table, sources: table.join(sources.marks, name="marked"),
        lambda rows, sources: joined(rows, sources.marks, "id", "mark", "inner"),
    ),
    "land": (
        lambda table, sources: table.join(sources.towns, on="town", how="left", name="lands"),
        lambda rows, sources: joined(rows, sources.towns, "town", "land", "left"),
    ),
    "landed": (
        lambda table, sources: table.join(sources.towns, on="town", name="landed"),
        lambda rows, sources: joined(rows, sources.towns, "town", "land", "inner"),
    ),
}
#: Verbs behind a group: the key is another one then.
BEHIND: dict[str, Verb] = {
    "many": (lambda table, _: table.filter(col("n") > 1), lambda rows, _: [r for r in rows if r["n"] > 1]),
    "again": (
        lambda table, _: table.group_by("n").aggregate(groups=count(), sum=col("v").sum(), name="again"),
        lambda rows, _: [{"n": r["n"], "groups": r["m"], "sum": r["v"]} for r in regrouped(rows)],
    ),
}


def regrouped(rows: Rows) -> Rows:
    return [{"n": r["n2"], "m": r["n"], "v": r["v"]} for r in grouped([{**r, "n2": r["n"]} for r in rows], "n2")]


def group(key: str) -> Verb:
    """Group by a column, and aggregate."""
    totals = {"n": count(), "v": col("v").sum(), "high": col("v").max(), "low": col("v").min()}
    return lambda table, _: table.group_by(key).aggregate(**totals, name=f"by {key}"), lambda rows, _: grouped(rows, key)


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Verb], str]:
    """Draw verbs, each of which finds the columns that it asks for; and the key of what they make."""
    names = draw(st.lists(st.sampled_from(sorted(VERBS)), max_size=4))
    names = [name for i, name in enumerate(names) if name not in names[:i]]
    names = [n for n in names if not (n == "marked" and "mark" in names) and not (n == "landed" and "land" in names)]
    verbs = [VERBS[name] for name in names]
    if not draw(st.booleans()):
        return verbs, "id"
    keys = ["town"] + ["mark"] * bool({"mark", "marked"} & set(names)) + ["land"] * bool({"land", "landed"} & set(names))
    key = draw(st.sampled_from(keys))
    verbs.append(group(key))
    for name in draw(st.sampled_from([(), ("many",), ("again",), ("many", "again")])):
        verbs.append(BEHIND[name])
        key = "n" if name == "again" else key
    return verbs, key


VALUE = st.none() | st.integers(0, 5)
PERSON = st.tuples(st.integers(1, 3), st.none() | st.tuples(st.sampled_from(["a", "b", None]), VALUE))
EVENT = (
    st.tuples(st.just("people"), PERSON)
    | st.tuples(st.just("marks"), st.tuples(st.integers(1, 3), st.sampled_from(["x", "y", None])))
    | st.tuples(st.just("towns"), st.tuples(st.sampled_from("ab"), st.sampled_from(["L", "M", None])))
)
BATCHES = st.lists(st.lists(EVENT, min_size=1, max_size=4), max_size=8)


def row_of(side: str, key: Any, value: Any) -> dict[str, Any]:
    if side == "people":
        town, v = value or (None, None)
        return {"id": key, "town": town, "v": v, "here": None if value is None else 1}
    return {"id": key, "mark": value} if side == "marks" else {"town": key, "land": value}


@settings(max_examples=200, deadline=None)
@given(chains(), BATCHES, st.sampled_from([1, 2, 3]), st.integers(0, 10), st.integers(0, 99), st.booleans())
def test_chains_of_verbs(chain: Any, batches: Any, parallelism: int, crash_at: int, seed: int, cold: bool) -> None:
    verbs, key = chain
    topology = Topology("t")
    schemas = (("people", PEOPLE, "id"), ("marks", MARKS, "id"), ("towns", TOWNS, "town"))
    sources = Sources(*(topology.table(memory(name, schema), key=its) for name, schema, its in schemas))
    table = sources.people
    for verb, _ in verbs:
        table = verb(table, sources)
    table.to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology, parallelism=parallelism, seed=seed, **({"state_memory": 4_096} if cold else {}))
    last: dict[str, dict[Any, dict[str, Any]]] = {"people": {}, "marks": {}, "towns": {}}
    shown: Rows = []
    for number, batch in enumerate(batches):
        if number == crash_at:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=4 - parallelism)
        for side, (name, value) in batch:
            row = row_of(side, name, value)
            last[side].pop(name, None)
            if value is not None:
                last[side][name] = row
            if side in topology.sources():
                driver.send(side, row, timestamp=number)
        shown += driver.read("out")
    rows = list(last["people"].values())
    model = Sources(*(list(one.values()) for one in last.values()))
    for _, verb in verbs:
        rows = verb(rows, model)
    assert applied(shown, (key,)) == {(row[key],): row for row in rows}
