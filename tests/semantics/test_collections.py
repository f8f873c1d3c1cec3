"""Quantiles, products, truth of many records, and lists that become rows."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import DataError, Topology, col, expanding, memory, rolling, tumbling
from streamdsl.errors import TopologyError
from streamdsl.schema import type_of
from streamdsl.testing import TopologyTestDriver
from tests.dsl.fakes import refused

X = col("x")


def running(values, **aggregates):
    rows = [{"k": "a", "x": value} for value in values]
    stream = Topology("job").stream(memory("in", schema={"k": str, "x": float | None}, rows=rows)).key_by("k")
    return stream.window(expanding()).with_columns(**aggregates).select(*aggregates).collect().to_pylist()


def test_running_quantiles():
    found = running([3.0, None, 1.0, math.nan, 2.0], m=X.median(), q=X.quantile(0.5), low=X.quantile(0.0), high=X.quantile(1.0))
    assert [row["m"] for row in found[:3]] == [3.0, 3.0, 2.0]
    assert [row["q"] for row in found] == [3.0, 3.0, 3.0, 3.0, 3.0]
    assert [row["low"] for row in found] == [3.0, 3.0, 1.0, 1.0, 1.0]
    assert math.isnan(found[-1]["high"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.integers(-9, 9).map(float), min_size=1, max_size=20), st.integers(1, 5))
def test_quantiles_of_a_frame(values, seconds):
    rows = [{"k": "a", "x": value, "event_time": 1000 * at} for at, value in enumerate(values)]
    stream = (
        Topology("job")
        .stream(memory("in", schema={"k": str, "x": float | None, "event_time": int}, rows=rows), timestamp="event_time")
        .key_by("k")
    )
    framed = stream.with_columns(m=X.median().over(rolling(f"{seconds}s")), p=X.product().over(rolling(f"{seconds}s")))
    found = framed.select("m", "p").collect().to_pylist()
    for at, row in enumerate(found):
        seen = sorted(v for v in values[max(0, at + 1 - seconds) : at + 1] if v is not None)
        half = len(seen) // 2
        wanted = None if not seen else seen[half] if len(seen) % 2 else (seen[half - 1] + seen[half]) / 2
        assert row == {"m": wanted, "p": math.prod(seen) if seen else 1.0}


def test_state_survives_a_restart():
    def topology(sink):
        made = Topology("job")
        stream = made.stream(memory("in", schema={"k": str, "x": float | None}), watermarks="external").key_by("k")
        stream.window(expanding()).with_columns(m=X.quantile(0.25, "linear"), p=X.product()).select("m", "p").to(memory(sink))
        return made

    driver = TopologyTestDriver(topology("out"))
    for at, value in enumerate([4.0, 2.0, 8.0]):
        driver.send("in", {"k": "a", "x": value}, timestamp=at)
    driver.checkpoint()
    driver.crash_and_restore(2)
    driver.send("in", {"k": "a", "x": 6.0}, timestamp=9)
    assert driver.read("out")[-1] == {"m": 3.5, "p": 384.0}


def test_truth_of_many():
    rows = [{"k": "a", "b": None}, {"k": "a", "b": True}, {"k": "a", "b": False}]
    stream = Topology("job").stream(memory("in", schema={"k": str, "b": bool | None}, rows=rows)).key_by("k")
    found = stream.window(expanding()).with_columns(any=col("b").any(), all=col("b").all(), n=col("b").len()).select("any", "all", "n")
    assert [tuple(row.values()) for row in found.collect().to_pylist()] == [(False, True, 1), (True, True, 2), (True, False, 3)]


def test_products_overflow():
    rows = [{"k": "a", "i": 2**40}] * 2
    stream = Topology("job").stream(memory("in", schema={"k": str, "i": int}, rows=rows)).key_by("k")
    with pytest.raises(DataError, match="overflow in product"):
        stream.aggregate(p=col("i").product()).to_stream().collect()


def test_quantiles_of_windows():
    rows = [{"k": "a", "x": float(x), "event_time": 250 * x} for x in range(8)]
    stream = (
        Topology("job")
        .stream(memory("in", schema={"k": str, "x": float | None, "event_time": int}, rows=rows), timestamp="event_time")
        .key_by("k")
    )
    found = stream.window(tumbling("1s")).aggregate(m=X.median()).select("m").collect().to_pylist()
    assert found == [{"m": 1.5}, {"m": 5.5}]


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: X.quantile(1.5), ["from 0 to 1"]),
        (lambda: X.quantile(0.5, "middle"), ["interpolation='middle'"]),
        (lambda: Topology("t").stream(memory("m", schema={"s": str}, rows=[])).explode("s"), ["'s' is no list", "str.split"]),
        (lambda: Topology("t").stream(memory("m", schema={"s": str}, rows=[])).explode("t"), ["explode", "unknown column 't'"]),
        (lambda: Topology("t").stream(memory("m", schema={"s": str}, rows=[])).explode(["s"]), ["once for each column"]),
    ],
)
def test_refused(make, parts):
    with refused(*parts):
        make()


def exploded(rows, type_, **how):
    stream = Topology("job").stream(memory("in", schema=pa.schema([("a", type_of(type_)), ("b", pa.int64())]), rows=rows))
    return stream.explode("a", **how).collect().to_pylist()


def test_lists_become_rows():
    assert exploded([{"a": ['x"\\', None, ""], "b": 1}, {"a": [], "b": 2}], list[str]) == [
        {"a": 'x"\\', "b": 1},
        {"a": None, "b": 1},
        {"a": "", "b": 1},
    ]
    assert exploded([{"a": [[1, 2], []], "b": 1}], list[list[int]]) == [{"a": [1, 2], "b": 1}, {"a": [], "b": 1}]
    assert exploded([{"a": [True], "b": 1}], list[bool]) == [{"a": True, "b": 1}]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.text('"\\\\[]{},: abé\n', max_size=40), max_size=4), max_size=4))
def test_items_end_where_they_end(lists):
    """Of lists in a list: brackets, commas and quotes in texts of any length end nothing."""
    assert [row["a"] for row in exploded([{"a": lists, "b": 1}], list[list[str]])] == lists


def test_explode_tells_the_place_in_the_list():
    rows = [{"a": ["x", None], "b": 1}, {"a": [], "b": 2}, {"a": [None], "b": 3}, {"a": ["y"] * 20_000, "b": 4}]
    found = exploded(rows, list[str], index="at", empty_as_null=True)
    assert [(row["b"], row["at"]) for row in found[:4]] == [(1, 0), (1, 1), (2, None), (3, 0)]
    assert [row["at"] for row in found[4:]] == list(range(20_000))
    for name in ("a", "b", "", 3):
        with pytest.raises(TopologyError, match="no name of a new column"):
            exploded([], list[str], index=name)


def test_split_and_explode():
    rows = [{"s": "a,b", "event_time": 5}, {"s": "c", "event_time": 7}]
    stream = Topology("job").stream(memory("in", schema={"s": str, "event_time": int}, rows=rows))
    words = stream.with_columns(s=col("s").str.split(",")).explode("s").key_by("s").aggregate(n=col("s").count())
    assert sorted(row["s"] for row in words.to_stream().collect().to_pylist()) == ["a", "b", "c"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.lists(st.none() | st.integers(-9, 9), max_size=5), max_size=12), st.booleans(), st.booleans())
def test_explode_as_in_python(lists, empty_as_null, keep_nulls):
    wanted = []
    for at, items in enumerate(lists):
        if items is None:
            items = [None] if keep_nulls else []
        elif not items and empty_as_null:
            items = [None]
        wanted += [{"a": item, "b": at} for item in items]
    rows = [{"a": items, "b": at} for at, items in enumerate(lists)]
    assert exploded(rows, list[int], empty_as_null=empty_as_null, keep_nulls=keep_nulls) == wanted


def test_long_lists_go_on_in_pieces():
    found = exploded([{"a": list(range(40_000)), "b": 1}, {"a": [7] * 3, "b": 2}], list[int])
    assert [row["a"] for row in found] == [*range(40_000), 7, 7, 7]
