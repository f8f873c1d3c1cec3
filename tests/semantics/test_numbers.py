"""Sums, means and deviations of numbers that are hard: infinite, huge, large integers; in every place an aggregate stands."""

import math
import statistics
import struct
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, col, count, expanding, memory, rolling, tumbling

HUGE = 1.7e308
HARD = [
    [3.0, 9.0, -8.0, -4.0],
    [math.inf, 2.0, 3.0],
    [1.0, math.inf, -math.inf, 5.0],
    [HUGE, -HUGE],
    [HUGE, HUGE],
    [0.1] * 10,
    [1e16, 1.0, -1e16],
    [math.nan, 1.0],
    [-0.0, -0.0],
    [5e-324, 5e-324],
]
LARGE = [
    [2**63 - 1, 2**63 - 1, 2**63 - 1],
    [-(2**63), -(2**63), -1],
    [2**53 + 1, 2**53 + 1],
    [3, 9, -8, -4],
    [2**62, 2**62, -(2**62)],
]


def bits(value):
    return None if value is None else "nan" if math.isnan(value) else struct.pack("d", value)


def places(values, type_, **aggregates):
    """Yield the rows of each place: running, expanding, rolling, by window."""
    rows = [{"k": "a", "t": i, "x": value} for i, value in enumerate(values)]

    def keyed():
        return Topology("t").stream(memory("m", schema={"k": str, "t": int, "x": type_}, rows=rows), timestamp="t").key_by("k")

    yield "running", keyed().aggregate(**aggregates).collect().to_pylist()
    for frame in (expanding(), expanding(exclude_current=True), rolling("1d"), rolling("2ms")):
        over = {name: value.over(frame) for name, value in aggregates.items()}
        yield str(frame), keyed().with_columns(**over).collect().to_pylist()
    yield "window", keyed().window(tumbling("1h")).aggregate(**aggregates).collect().to_pylist()


def check_mean(values, type_):
    for place, rows in places(values, type_, s=col("x").sum(), n=col("x").count(), m=col("x").mean()):
        for row in rows:
            expected = None if row["n"] == 0 else row["s"] / row["n"]
            assert bits(row["m"]) == bits(expected), (place, row)


@pytest.mark.parametrize("values", HARD, ids=str)
def test_the_mean_is_the_sum_by_the_count(values):
    check_mean(values, float)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=12))
def test_the_mean_of_any_floats(values):
    check_mean(values, float)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**58), 2**58), min_size=1, max_size=12))
def test_the_mean_of_integers_is_the_exact_sum_by_the_count(values):
    for place, rows in places(values, int, n=count(), s=col("x").sum(), m=col("x").mean()):
        for row in rows:
            if row["n"]:
                assert bits(row["m"]) == bits(float(row["s"]) / row["n"]), (place, row)


@pytest.mark.parametrize("values", LARGE, ids=str)
def test_the_mean_of_large_integers_does_not_overflow(values):
    for place, rows in places(values, int, n=count(), m=col("x").mean()):
        if place != 'rolling("2ms")' and "exclude" not in place:
            assert bits(rows[-1]["m"]) == bits(float(sum(values)) / len(values)), place


def test_the_mean_of_unsigned_integers():
    import pyarrow as pa

    data = pa.table({"k": ["a", "a"], "t": [0, 1], "x": pa.array([2**64 - 1, 2**64 - 3], pa.uint64())})
    rows = Topology("t").stream(memory("m", schema=data.schema, rows=data), timestamp="t").key_by("k")
    found = rows.with_columns(m=col("x").mean().over(expanding()), r=col("x").mean().over(rolling("1s"))).collect().to_pylist()
    assert [row["m"] for row in found] == [row["r"] for row in found] == [float(2**64 - 1), float(2**65 - 4) / 2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([math.inf, 2.0, 3.0], math.nan),
        ([1.0, math.nan], math.nan),
        ([HUGE, -HUGE], math.inf),  # two finite numbers, whose distance is more than a double can say
        ([1e200, -1e200], math.inf),
        ([5.0, 5.0, 5.0], 0.0),
        ([1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16], 22.5),
    ],
    ids=str,
)
def test_variance_of_hard_numbers(values, expected):
    for place, rows in places(values, float, v=col("x").var(ddof=0), s=col("x").std(ddof=0)):
        if "exclude" in place or "2ms" in place:
            continue
        assert bits(rows[-1]["v"]) == bits(expected), place
        assert bits(rows[-1]["s"]) == bits(math.sqrt(expected) if expected >= 0 else math.nan), place


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6).map(lambda x: x + 1e9), min_size=2, max_size=20))
def test_variance_is_stable(values):
    exact = statistics.pvariance(map(Fraction, values))
    for place, rows in places(values, float, v=col("x").var(ddof=0)):
        if "exclude" not in place and "2ms" not in place:
            assert rows[-1]["v"] == pytest.approx(float(exact), rel=1e-6, abs=1e-6), place
