"""Whole rows: `row()` is a struct of all columns, and aggregates choose and keep it like any value."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, col, count, expanding, memory, rolling, row, tumbling
from streamdsl.errors import TopologyError
from streamdsl.testing import TopologyTestDriver

SCHEMA = pa.schema(
    [
        pa.field("k", pa.string(), nullable=False),
        ("i", pa.int64()),
        ("u", pa.uint64()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("y", pa.binary()),
        ("b", pa.bool_()),
        ("t", pa.timestamp("us", tz="UTC")),
        ("d", pa.date32()),
        ("m", pa.decimal128(10, 2)),
        ("l", pa.list_(pa.string())),
        ("n", pa.struct([("x", pa.int64())])),
    ]
)
ROWS = st.fixed_dictionaries(
    {
        "k": st.sampled_from(["a", "b", 'say "no"\n']),
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "u": st.none() | st.integers(0, 2**64 - 1),
        "f": st.none() | st.floats(allow_nan=False),
        "s": st.none() | st.text(st.characters(codec="utf-8"), max_size=8),
        "y": st.none() | st.binary(max_size=8),
        "b": st.none() | st.booleans(),
        "t": st.none() | st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC)),
        "d": st.none() | st.dates(),
        "m": st.none() | st.decimals(-(10**7), 10**7, places=2),
        "l": st.none() | st.lists(st.text('ab"\\é', max_size=3), max_size=3),
        "n": st.none() | st.fixed_dictionaries({"x": st.none() | st.integers(-9, 9)}),
    }
)


def keyed(rows: list[dict[str, Any]]) -> Any:
    return Topology("t").stream(memory("in", schema=SCHEMA, rows=rows)).key_by("k")


@settings(max_examples=30, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6))
def test_a_row_comes_back_with_all_its_columns(rows: list[dict[str, Any]]) -> None:
    found = keyed(rows).with_columns(whole=row(), kept=row().last().over(expanding())).collect()
    struct = pa.struct(list(SCHEMA))
    assert found.schema.field("whole").type == struct
    wanted = pa.Table.from_pylist(rows, schema=SCHEMA).to_pylist()
    assert [one["whole"] for one in found.to_pylist()] == wanted
    assert [one["kept"] for one in found.to_pylist()] == wanted


@settings(max_examples=30, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=9))
def test_the_best_rows_come_back_with_all_their_columns(rows: list[dict[str, Any]]) -> None:
    found = keyed(rows).window(tumbling("1d")).aggregate(top=row().top_k(3, by="u")).collect().to_pylist()
    wanted = pa.Table.from_pylist(rows, schema=SCHEMA).to_pylist()
    ranked = sorted((one for one in wanted if one["u"] is not None), key=lambda one: -one["u"])
    best = {key: [one for one in ranked if one["k"] == key][:3] or None for key in {one["k"] for one in wanted}}
    assert {one["k"]: one["top"] for one in found} == best


@settings(max_examples=30, deadline=None)
@given(left=st.lists(ROWS, min_size=1, max_size=4), right=st.lists(ROWS, min_size=1, max_size=4))
def test_a_join_keeps_rows_of_any_columns(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    topology = Topology("t")
    one = topology.stream(memory("left", schema=SCHEMA, rows=left), name="left")
    other = topology.stream(memory("right", schema=SCHEMA, rows=right), name="right")
    found = one.join(other, on="k", within=None, suffix="_2").collect().to_pylist()
    first, second = (pa.Table.from_pylist(rows, schema=SCHEMA).to_pylist() for rows in (left, right))
    pairs = [(a, b) for a in first for b in second if a["k"] == b["k"]]
    wanted = [{**a, **{f"{name}_2": b[name] for name in SCHEMA.names if name != "k"}} for a, b in pairs]
    assert sorted(map(repr, ({name: pair[name] for name in wanted[0]} for pair in found))) == sorted(map(repr, wanted))


def test_a_row_outside_an_aggregate_has_no_one_value() -> None:
    with pytest.raises(TopologyError):
        keyed([]).aggregate(x=row())


def test_rows_are_chosen_by_a_column() -> None:
    rows = [{"k": "a", "i": i, "s": f"s{at}"} for at, i in enumerate([3, 9, None, 9, 1])]
    made = {
        "best": row().max_by("i"),
        "least": row().min_by("i"),
        "first": row().first(),
        "last": row().last(),
        "top": row().top_k(3, by="i"),
        "late": row().top_k(2, by="i", then_by="s"),
        "all": row().to_list(),
    }
    *_, found = keyed(rows).aggregate(**made).to_stream().collect().to_pylist()
    named = {name: [one["s"] for one in (value if isinstance(value, list) else [value])] for name, value in found.items() if name in made}
    assert named == {
        "best": ["s1"],
        "least": ["s4"],
        "first": ["s0"],
        "last": ["s4"],
        "top": ["s1", "s3", "s0"],
        "late": ["s3", "s1"],
        "all": ["s0", "s1", "s2", "s3", "s4"],
    }
    assert found["best"] == dict.fromkeys(SCHEMA.names) | {"k": "a", "i": 9, "s": "s1"}


OFFER = {"k": str, "price": int | None, "size": float | None, "who": str | None, "n": int}
offers = st.lists(
    st.tuples(st.sampled_from([1, 2, None]), st.sampled_from([0.5, math.nan, None]), st.sampled_from(["a", "b", None])), max_size=9
)


def before(sign: int, *cells: Any) -> tuple[Any, ...]:
    """Return what sorts in the order of the cells: the greatest first (sign -1) or the least, NaN the greatest, null last."""
    numbers = [0 if cell is None else "ab".index(cell) if isinstance(cell, str) else 2 if cell != cell else cell for cell in cells]
    return tuple((cell is None, sign * number) for cell, number in zip(cells, numbers, strict=True))


@settings(max_examples=60, deadline=None)
@given(rows=offers, withdrawn=st.booleans())
def test_several_columns_tell_equal_records_apart(rows, withdrawn) -> None:
    topology = Topology("t")
    made = [dict(zip(OFFER, ("a", *cells, n), strict=True)) for n, cells in enumerate(rows)]
    ties = ["size", "who"]
    aggregates = {
        "most": col("n").max_by("price", then_by=ties),
        "least": col("n").min_by("price", then_by=ties),
        "top": col("n").top_k(3, by="price", then_by=ties),
    }
    if withdrawn:
        source = topology.table(memory("in", schema=OFFER), key="n").group_by("k")
    else:
        source = topology.stream(memory("in", schema=OFFER)).key_by("k")
    source.aggregate(**aggregates, all=count()).to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send_batch("in", made)
    driver.checkpoint()
    driver.crash_and_restore(parallelism=2)
    driver.end()
    if not made:
        return
    ranked = [row for row in made if row["price"] is not None]
    best = sorted(ranked, key=lambda row: before(-1, row["price"], row["size"], row["who"]))
    worst = sorted(ranked, key=lambda row: before(1, row["price"], row["size"], row["who"]))
    last = driver.read("out")[-1]
    assert (last["most"], last["least"]) == (best[0]["n"] if best else None, worst[0]["n"] if worst else None)
    assert (last["top"] or []) == [row["n"] for row in best[:3]]


def test_at_most_four_columns_tell_records_apart() -> None:
    assert repr(row().max_by("i", then_by=["s", -col("i")])) == 'row().max_by(col("i"), then_by=[col("s"), -col("i")])'
    with pytest.raises(TopologyError, match="then_by= names 5 columns"):
        row().max_by("i", then_by=["i"] * 5)
    with pytest.raises(TopologyError, match=r"max_by\(then_by=\) cannot roll"):
        keyed([]).with_columns(x=col("i").max_by("i", then_by="s").over(rolling("1s")))


def test_rows_of_windows_survive_a_crash_and_can_be_exploded() -> None:
    topology = Topology("t")
    source = topology.stream(memory("in", schema={"k": str, "at": int, "v": float}), timestamp="at", watermarks="external")
    tops = source.key_by("k").window(tumbling(10)).aggregate(top=row().top_k(2, by="v", then_by="at"), best=row().max_by("v"))
    tops.to(memory("out"))
    tops.explode("top").to(memory("each"))
    driver = TopologyTestDriver(topology)
    for at, v in [(1, 5.0), (2, 7.0), (3, 5.0)]:
        driver.send("in", {"k": "a", "at": at, "v": v})
        driver.checkpoint()
        driver.crash_and_restore(parallelism=at)
    driver.end()
    [out] = driver.read("out")
    assert [(one["at"], one["v"]) for one in out["top"]] == [(2, 7.0), (3, 5.0)]
    assert out["best"] == {"k": "a", "at": 2, "v": 7.0}
    assert [one["top"]["at"] for one in driver.read("each")] == [2, 3]


def test_rows_roll() -> None:
    topology = Topology("t")
    rows = [{"k": "a", "at": at, "v": v} for at, v in [(0, 9.0), (5, 1.0), (12, 2.0)]]
    source = topology.stream(memory("in", schema={"k": str, "at": int, "v": float}, rows=rows), timestamp="at")
    found = source.key_by("k").with_columns(best=row().max_by("v").over(rolling(10))).collect().to_pylist()
    assert [one["best"]["at"] for one in found] == [0, 0, 12]


def test_numbers_that_are_none_survive_in_a_row() -> None:
    rows = [{"k": "a", "f": value} for value in (math.nan, math.inf, -math.inf, -0.0)]
    found = keyed(rows).with_columns(whole=row()).collect().to_pylist()
    assert [str(one["whole"]["f"]) for one in found] == ["nan", "inf", "-inf", "-0.0"]


def test_a_row_has_no_order() -> None:
    with pytest.raises(TopologyError, match="cannot order by"):
        keyed([]).aggregate(x=row().top_k(2))
    with pytest.raises(TopologyError, match="max cannot compare"):
        keyed([]).aggregate(x=row().max())


def test_a_row_prints_as_it_was_written() -> None:
    assert repr(row().top_k(2, by="i", then_by="s")) == 'row().top_k(col("i"), then_by=col("s"), n=2)'
