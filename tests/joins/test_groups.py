"""Groups of the rows of a table: every aggregate, against lists in Python out of which rows are taken again."""

from __future__ import annotations

import math
import statistics
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Aggregate, Expr, Topology, TopologyError, col, count, memory, row
from streamdsl.testing import TopologyTestDriver
from tests.joins.test_tables import applied

ROW: dict[str, Any] = {"id": str, "city": str | None, "i": int | None, "f": float | None, "s": str | None, "d": Decimal | None}


def longest(seen: list[str]) -> str | None:
    return max(seen, key=lambda text: (len(text), text), default=None)


def without(seen: list[str], value: str | None) -> list[str]:
    seen.remove(value or "")
    return seen


LONGEST = Aggregate(list, lambda seen, value: [*seen, value or ""], result=longest, type=str, withdraw=without)

#: Each aggregate, the columns that it reads, and what it is of the (oldest first) values of these columns.
Model = Any
AGGREGATES: dict[str, tuple[Expr, tuple[str, ...], Model]] = {
    "n": (count(), (), len),
    "big": (count().filter(col("i") > 3), ("i",), lambda v: sum(i is not None and i > 3 for (i,) in v)),
    "there": (col("s").count(), ("s",), lambda v: len(given_of(v))),
    "total": (col("i").sum(), ("i",), lambda v: sum(given_of(v))),
    "mean": (col("i").mean(), ("i",), lambda v: sum(given_of(v)) / len(given_of(v)) if given_of(v) else None),
    "float_total": (col("f").sum(), ("f",), lambda v: total(given_of(v))),
    "float_mean": (col("f").mean(), ("f",), lambda v: total(given_of(v)) / len(given_of(v)) if given_of(v) else None),
    "spread": (col("f").var(ddof=0), ("f",), lambda v: variance(given_of(v))),
    "money": (col("d").sum(), ("d",), lambda v: sum(given_of(v), Decimal("0.00"))),
    "least": (col("i").min(), ("i",), lambda v: min(given_of(v), default=None)),
    "most": (col("s").max(), ("s",), lambda v: max(given_of(v), default=None)),
    "kinds": (col("i").n_unique(), ("i",), lambda v: len(set(given_of(v)))),
    "median": (col("i").median(), ("i",), lambda v: float(statistics.median(given_of(v))) if given_of(v) else None),
    "first": (col("s").first(), ("s",), lambda v: next(iter(given_of(v)), None)),
    "last": (col("i").last(), ("i",), lambda v: next(reversed(given_of(v)), None)),
    "all": (col("i").to_list(), ("i",), lambda v: given_of(v) or None),
    "top": (col("s").top_k(2, by="i"), ("s", "i"), lambda v: [s for s, _ in ranked(v)][:2] or None),
    "best": (col("s").max_by("i"), ("s", "i"), lambda v: next((s for s, _ in ranked(v)), None)),
    "worst": (
        row().min_by("i").struct.field("s"),
        ("s", "i", "id"),
        lambda v: next((s for s, i, _ in sorted((r for r in v if r[1] is not None), key=lambda r: r[1])), None),
    ),
    "product": (col("i").product(), ("i",), lambda v: math.prod(given_of(v))),
    "either": (col("i").sum() + count(), ("i",), lambda v: sum(given_of(v)) + len(v)),
    "own": (LONGEST(col("s").fill_null("")), ("s",), lambda v: longest([s or "" for (s,) in v])),
}


def given_of(values: list[tuple[Any, ...]]) -> list[Any]:
    return [value for (value,) in values if value is not None]


def ranked(values: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    return sorted((one for one in values if None not in one), key=lambda one: -one[1])


def total(values: list[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else math.fsum(values)


def variance(values: list[float]) -> float | None:
    if not values or any(map(math.isnan, values)):
        return math.nan if values else None
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    return float(sum((value - mean) ** 2 for value in exact) / len(exact))


def plain(value: Any) -> Any:
    """Return the value as one that is equal to itself."""
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def same(found: Any, wanted: Any) -> bool:
    wanted = plain(wanted)
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-15)
    return bool(found == wanted)


class Groups:
    """The values of each group and aggregate; of equal ones the oldest leaves."""

    def __init__(self) -> None:
        self.table: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, dict[str, list[tuple[Any, ...]]]] = {}
        self.rows: dict[str, int] = {}

    def set(self, key: str, row: dict[str, Any] | None) -> None:
        old = self.table.pop(key, None)
        if old is not None and old["city"] is not None:
            self.rows[old["city"]] -= 1
            for name, (_, columns, _) in AGGREGATES.items():
                self.groups[old["city"]][name].remove(tuple(old[column] for column in columns))
        if row is None:
            return
        self.table[key] = row
        if row["city"] is not None:
            self.rows[row["city"]] = self.rows.get(row["city"], 0) + 1
            group = self.groups.setdefault(row["city"], {name: [] for name in AGGREGATES})
            for name, (_, columns, _) in AGGREGATES.items():
                group[name].append(tuple(row[column] for column in columns))

    def result(self) -> dict[tuple[str], dict[str, Any]]:
        made = {}
        for city, group in self.groups.items():
            if self.rows[city]:
                made[(city,)] = {"city": city, **{name: AGGREGATES[name][2](values) for name, values in group.items()}}
        return made


def job(derived: bool) -> Topology:
    topology = Topology("t")
    table = topology.table(memory("in", ROW), key="id")
    if derived:
        table = table.filter(col("city") != "nowhere").with_columns(i=col("i") + 0)
    table.group_by("city").aggregate(**{name: made for name, (made, _, _) in AGGREGATES.items()}).to_stream().to(memory("out"))
    return topology


VALUES = st.fixed_dictionaries(
    {
        "city": st.sampled_from("xy"),
        "i": st.none() | st.integers(-4, 5),
        "f": st.none() | st.sampled_from([0.1, 0.2, -0.3, 1e100, 1e-100, math.nan]),
        "s": st.none() | st.sampled_from(["", "a", "b", "long enough to lie somewhere else"]),
        "d": st.none() | st.sampled_from([Decimal("0.10"), Decimal("-7.25"), Decimal("12345678901234567.89")]),
    }
)
MOVES = st.lists(st.tuples(st.sampled_from("abcde"), st.none() | VALUES), max_size=20)


@settings(max_examples=200, deadline=None)
@given(MOVES, st.booleans(), st.integers(1, 4), st.integers(0, 20), st.booleans(), st.integers(1, 5))
def test_every_aggregate_of_a_changing_group(
    moves: list[tuple[str, Any]], derived: bool, parallelism: int, crash_at: int, cold: bool, batch: int
) -> None:
    memory_ = {"state_memory": 4_096} if cold else {}
    driver = TopologyTestDriver(job(derived), parallelism=parallelism, **memory_)
    model, rows, crashed = Groups(), [], False
    for start in range(0, len(moves), batch):
        if start <= crash_at < start + batch:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=5 - parallelism)
            crashed = True
        some = moves[start : start + batch]
        nothing = dict.fromkeys(ROW)
        driver.send_batch("in", [{**nothing, **(value or {}), "id": key} for key, value in some])
        rows += [{name: plain(value) for name, value in row.items()} for row in driver.read("out")]
        for key, value in some:
            model.set(key, None if value is None else {**value, "id": key})
    # A restore is at another parallelism.
    if len({key for key, _ in moves}) > 1 and (parallelism > 1 or crashed):
        # Rows of different keys reach a group in any order.
        moves = []
    found, wanted = applied(rows, ("city",)), model.result()
    assert found.keys() == wanted.keys()
    ordered = ("first", "last", "all", "top", "best", "worst")
    for key, group in found.items():
        different = [name for name in group if not same(group[name], wanted[key][name]) and (moves or name not in ordered)]
        assert different == [], [(name, group[name], wanted[key][name]) for name in different]


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_a_row_that_is_refused_is_not_withdrawn_later(policy: str) -> None:
    """Its group is as if the row had never come, and its withdrawal changes nothing."""
    topology = Topology("t")
    table = topology.table(memory("in", ROW), key="id")
    groups = table.group_by("city").aggregate(total=col("i").sum(), product=col("i").product(), errors=policy)
    groups.to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology)
    nothing = dict.fromkeys(ROW)
    big = 2**62

    def send(key: str, i: int | None) -> None:
        driver.send("in", {**nothing, "id": key, "city": "x", "i": i, "s": "s"})

    send("a", big)
    if policy == "fail":
        with pytest.raises(Exception, match="integer overflow"):
            send("b", big)
        return
    send("b", big)  # refused
    driver.checkpoint()
    driver.crash_and_restore()
    send("b", 1)
    send("a", 5)
    rows = [{key: value for key, value in row.items() if key != "city"} for row in driver.read("out")]
    assert rows[-1] == {"total": 6, "product": 5, "op": "replace"}
    assert [row["op"] for row in rows].count("withdraw") == 0


def test_a_group_of_groups() -> None:
    """The groups of a table are a table themselves."""
    topology = Topology("t")
    cities = topology.table(memory("in", ROW), key="id").group_by("city").aggregate(people=count())
    cities.group_by("people").aggregate(cities=col("city").to_list()).to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology)
    nothing = dict.fromkeys(ROW)
    for key, city in (("a", "x"), ("b", "x"), ("c", "y"), ("b", "y"), ("a", None), ("c", "z")):
        driver.send("in", {**nothing, "id": key, "city": city, "s": "s"})
    assert {number: sorted(row["cities"]) for (number,), row in applied(driver.read("out"), ("people",)).items()} == {1: ["y", "z"]}


def test_what_cannot_be_withdrawn_is_refused_when_the_topology_is_built() -> None:
    table = Topology("t").table(memory("in", ROW), key="id")
    with pytest.raises(TopologyError, match=r"about = custom.*cannot give a value back"):
        table.group_by("city").aggregate(about=Aggregate(lambda: 0, max, type=int)(col("i")))
    with pytest.raises(TopologyError, match="no value leaves a sketch again"):
        table.group_by("city").aggregate(about=col("s").n_unique(approximate=True))
