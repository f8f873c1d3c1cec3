"""Sketches: exact while a key has few values, then within the stated error, whatever was merged with what."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, col, expanding, memory, rolling, tumbling
from streamdsl._native.aggregates.testing import States
from streamdsl.errors import TopologyError
from streamdsl.physical.node import AggregateSpec
from streamdsl.testing import TopologyTestDriver
from tests.aggregates.jobs import driven, row

QUANTILES = (0.0, 0.001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0)
DIGEST = [
    AggregateSpec(
        f"q{q}", "quantile", "f64", "f64", pa.float64(), argument=0, params=(("approximate", True), ("interpolation", "linear"), ("q", q))
    )
    for q in QUANTILES
]
UNIQUE = [AggregateSpec("n", "n_unique", "i64", "i64", pa.int64(), argument=0, params=(("approximate", True),))]


def filled(specs: list[AggregateSpec], values: list[float] | list[int], parts: int, rng: random.Random) -> States:
    """Return states of which number 0 has all the values, by way of so many parts."""
    states = States(specs)
    numbers = [states.new() for _ in range(parts)]
    batch = pa.record_batch({"v": pa.array(values)})
    rows: list[list[int]] = [[] for _ in numbers]
    for at in range(len(values)):
        rows[rng.randrange(parts)].append(at)
    for number, own in zip(numbers, rows, strict=True):
        states.add(number, batch, own, 0)
        states.rewrite(number)
    for number in numbers[1:]:
        states.merge(0, number)
        states.rewrite(0)
    return states


SHAPES = {
    "uniform": lambda rng: rng.random(),
    "normal": lambda rng: rng.gauss(1e12, 1.0),
    "skewed": lambda rng: rng.expovariate(1.0) ** 3,
    "few": lambda rng: float(rng.randrange(5)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ["drawn", "ascending", "descending"])
@pytest.mark.parametrize("parts", [1, 3, 40])
def test_a_digest_stands_within_one_percent_of_the_ranks(shape: str, order: str, parts: int) -> None:
    rng = random.Random(f"{shape} {order} {parts}")
    values = [SHAPES[shape](rng) for _ in range(20_000)]
    if order != "drawn":
        values.sort(reverse=order == "descending")
    found = filled(DIGEST, values, parts, rng).results(0)
    values.sort()
    for q, value in zip(QUANTILES, found, strict=True):
        below = sum(one < value for one in values) / len(values)
        upto = sum(one <= value for one in values) / len(values)
        allowed = 0.01 if 0.01 < q < 0.99 else 0.002
        assert below - allowed <= q <= upto + allowed, (q, value, below, upto)
    assert (found[0], found[-1]) == (values[0], values[-1])
    assert all(a <= b for a, b in pairwise(found))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([math.inf, -math.inf, math.nan, 0.0, -0.0]) | st.floats(-10, 10), min_size=1, max_size=30), st.floats(0, 1))
def test_a_digest_of_few_values_is_exact(values: list[float], q: float) -> None:
    exact, nearly = ({"interpolation": "linear", "q": q}, {"approximate": True, "interpolation": "linear", "q": q})
    specs = [
        AggregateSpec("v", "quantile", "f64", "f64", pa.float64(), argument=0, params=tuple(sorted(params.items())))
        for params in (exact, nearly)
    ]
    one, other = filled(specs, values, 1, random.Random(0)).results(0)
    around = [value for value in values if math.isfinite(value)]
    if len(around) < len(values) and not (math.isfinite(one) and math.isfinite(other)):
        return  # between a number and no number there is nothing to interpolate
    assert other == pytest.approx(one, abs=1e-12)


@pytest.mark.parametrize("n", [1, 256, 257, 1_000, 5_000, 50_000])
@pytest.mark.parametrize("parts", [1, 7])
def test_different_values_are_counted_within_the_stated_error(n: int, parts: int) -> None:
    rng = random.Random(n)
    values = [rng.randrange(2**62) for _ in range(n)]
    [found] = filled(UNIQUE, values + values[: n // 2], parts, rng).results(0)
    assert found == len(set(values)) if n <= 256 else abs(found - n) <= 4 * 0.016 * n


def test_the_standard_error_of_different_values_is_as_stated() -> None:
    rng = random.Random(1)
    errors = []
    for _ in range(60):
        values = [rng.randrange(2**62) for _ in range(3_000)]
        [found] = filled(UNIQUE, values, 1, rng).results(0)
        errors.append((found - 3_000) / 3_000)
    assert math.sqrt(sum(error**2 for error in errors) / len(errors)) < 0.02
    assert abs(sum(errors) / len(errors)) < 0.01


@settings(max_examples=15, deadline=None)
@given(st.integers(200, 400), st.integers(2, 5), st.randoms(use_true_random=False))
def test_the_number_of_values_does_not_depend_on_the_order_or_the_merges(n: int, parts: int, rng: random.Random) -> None:
    values = [rng.randrange(10**9) for _ in range(n)]
    [one] = filled(UNIQUE, values, 1, rng).results(0)
    rng.shuffle(values)
    [other] = filled(UNIQUE, values, parts, rng).results(0)
    assert one == other


def _job(parallelism: int = 1) -> TopologyTestDriver:
    made = {
        "n": col("i").n_unique(approximate=True),
        "q": col("i").quantile(0.9, approximate=True),
        "m": col("f").median(approximate=True),
        "top": col("s").top_k(2, by="i", then_by="f"),
    }
    return driven(lambda keyed: keyed.window(tumbling("1h")).aggregate(**made), parallelism=parallelism)


def test_sketches_of_windows_survive_a_crash_at_another_parallelism() -> None:
    rng = random.Random(5)
    rows = [row(rng.choice("abc"), i=rng.randrange(400), f=rng.random(), s=f"s{rng.randrange(9)}") for _ in range(3_000)]
    found = []
    for crashes in (False, True):
        driver = _job()
        for at in range(0, len(rows), 500):
            driver.send_batch("in", rows[at : at + 500])
            if crashes:
                driver.checkpoint()
                driver.crash_and_restore(parallelism=at % 3 + 1)
        driver.end()
        found.append(sorted(driver.read("out"), key=lambda out: out["k"]))
    assert found[0] == found[1]
    for out in found[0]:
        own = [one for one in rows if one["k"] == out["k"]]
        assert abs(out["n"] - len({one["i"] for one in own})) < 30
        assert out["top"] == [one["s"] for one in sorted(own, key=lambda one: (one["i"], one["f"]), reverse=True)[:2]]


def test_sketches_run_over_all_records_so_far() -> None:
    topology = Topology("t")
    rows = [{"k": "a", "v": value} for value in (1, 2, 2, 9)]
    keyed = topology.stream(memory("in", schema={"k": str, "v": int}, rows=rows)).key_by("k")
    made = {"n": col("v").n_unique(approximate=True), "m": col("v").median(approximate=True), "top": col("k").top_k(2, by="v", then_by="v")}
    running = keyed.aggregate(**made).to_stream().collect().to_pylist()
    framed = keyed.with_columns(**{name: one.over(expanding()) for name, one in made.items()}).collect().to_pylist()
    for out in (running, framed):
        assert [(one["n"], one["m"]) for one in out] == [(1, 1.0), (2, 1.5), (2, 2.0), (3, 2.0)]
        assert [one["top"] for one in out] == [["a"], ["a", "a"], ["a", "a"], ["a", "a"]]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (col("v").n_unique(approximate=True), r"n_unique\(approximate=True\) cannot roll"),
        (col("v").median(approximate=True), r"quantile\(approximate=True\) cannot roll"),
        (col("v").top_k(2, by="v", then_by="k"), r"top_k\(then_by=\) cannot roll"),
    ],
)
def test_what_takes_nothing_out_again_cannot_roll(made: object, why: str) -> None:
    keyed = Topology("t").stream(memory("in", schema={"k": str, "v": int})).key_by("k")
    with pytest.raises(TopologyError, match=why):
        keyed.with_columns(x=made.over(rolling("1m")))  # type: ignore[attr-defined]


def test_an_approximation_is_asked_for_by_a_truth_value() -> None:
    with pytest.raises(TopologyError, match="approximate='yes' is neither True nor False"):
        col("v").n_unique(approximate="yes")  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="interpolation='lower' beside approximate=True"):
        col("v").quantile(0.5, "lower", approximate=True)
