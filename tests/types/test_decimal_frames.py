"""Rolling frames of decimals: exact, in about linear time, through checkpoints and restores."""

from __future__ import annotations

import random
import time
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamdsl import Topology, col, expanding, memory, rolling
from streamdsl.errors import DataError
from tests.types.jobs import driver_of

WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)
TYPE = pa.decimal128(34, 4)
SCHEMA = pa.schema([("k", pa.string()), ("x", TYPE), ("n", pa.int64())])


def mean(values: list[Decimal]) -> Decimal:
    return Decimal(round(sum(map(Fraction, values), Fraction()) / len(values) * 10**8)).scaleb(-8, WIDE)


def total(rows: list[dict[str, Any]]) -> Decimal:
    with localcontext(WIDE):
        return sum((row["x"] for row in rows), Decimal(0))


#: Each aggregate, and what it is of the rows that a record sees, in order of arrival.
AGGREGATES: dict[str, tuple[Any, Any]] = {
    "sum": (col("x").sum(), total),
    "some": (col("x").sum().filter(col("n") > 2), lambda rows: total([row for row in rows if row["n"] > 2])),
    "mean": (col("x").mean(), lambda rows: mean([row["x"] for row in rows]) if rows else None),
    "min": (col("x").min(), lambda rows: min((row["x"] for row in rows), default=None)),
    "max": (col("x").max(), lambda rows: max((row["x"] for row in rows), default=None)),
    "first": (col("x").first(), lambda rows: rows[0]["x"] if rows else None),
    "last": (col("x").last(), lambda rows: rows[-1]["x"] if rows else None),
    "unique": (col("x").n_unique(), lambda rows: len({row["x"] for row in rows})),
    "top": (col("x").top_k(2), lambda rows: sorted((row["x"] for row in rows), reverse=True)[:2] or None),
    "top_by": (col("x").top_k(2, by=col("n")), lambda rows: [row["x"] for row in sorted(rows, key=lambda row: -row["n"])[:2]] or None),
    "of_max": (col("n").max_by(col("x")), lambda rows: max(rows, key=lambda row: row["x"])["n"] if rows else None),
    "max_by": (col("x").max_by(col("n")), lambda rows: max(rows, key=lambda row: row["n"])["x"] if rows else None),
    "min_by": (col("x").min_by(col("n")), lambda rows: min(rows, key=lambda row: row["n"])["x"] if rows else None),
}
FRAMES = {"rolling": (rolling("50ms"), 50), "before": (rolling("70ms", exclude_current=True), 70), "all": (expanding(), 10**9)}
VALUES = st.sampled_from([Decimal(text) for text in ("0", "0.0001", "-0.0001", "9999999999.9999", "3e29", "-3e29", "12.5")])


def found_and_expected(rows: list[dict[str, Any]], cuts: list[int], parallelism: int) -> tuple[list[Any], list[Any]]:
    columns = {
        f"{frame}_{name}": aggregate.over(which) for frame, (which, _) in FRAMES.items() for name, (aggregate, _) in AGGREGATES.items()
    }
    driver = driver_of(SCHEMA, lambda stream: stream.key_by("k").with_columns(**columns, lag=col("x").lag(), lag_3=col("x").lag(3)))
    start = 0
    for end in [*sorted(cuts), len(rows)]:
        if rows[start:end]:
            part = [{name: row[name] for name in SCHEMA.names} for row in rows[start:end]]
            driver.send_batch("in", part, timestamps=[row["t"] for row in rows[start:end]])
        driver.checkpoint()
        driver.crash_and_restore(parallelism)
        start = max(start, end)
    expected = []
    for at, row in enumerate(rows):
        one: dict[str, Any] = {name: row[name] for name in SCHEMA.names}
        for frame, (_, size) in FRAMES.items():
            seen = [other for other in rows[: at + (frame != "before")] if frame == "all" or row["t"] - size < other["t"] <= row["t"]]
            one |= {f"{frame}_{name}": known(seen) for name, (_, known) in AGGREGATES.items()}
        one |= {"lag": rows[at - 1]["x"] if at > 0 else None, "lag_3": rows[at - 3]["x"] if at > 2 else None}
        expected.append(one)
    return driver.read("out"), expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(VALUES, st.integers(0, 4), st.integers(0, 120)), max_size=14),
    st.lists(st.integers(0, 14), max_size=2),
    st.integers(1, 2),
)
@example([(Decimal("3e29"), 1, 0), (Decimal("3e29"), 1, 1), (Decimal("-3e29"), 1, 2), (Decimal("0.0001"), 3, 60)], [2], 2)
def test_frames_of_decimals_are_those_of_python(drawn: list[tuple[Decimal, int, int]], cuts: list[int], parallelism: int) -> None:
    rows = [{"k": "a", "x": x, "n": n, "t": t} for x, n, t in drawn]
    found, expected = found_and_expected(rows, cuts, parallelism)
    assert found == expected


@pytest.mark.parametrize("jitter", [0, 40])
def test_long_frames_of_decimals(jitter: int) -> None:
    """A frame of 700 records is put together from partial results."""
    rng = random.Random(jitter)
    values = [Decimal("0.0001"), Decimal("-12.5"), Decimal("3e29"), Decimal("-3e29"), Decimal("7")]
    rows = [
        {"k": "a", "x": rng.choice(values), "n": rng.randrange(9), "t": 100 + 7 * i + rng.randrange(-jitter, jitter + 1)}
        for i in range(900)
    ]
    names = [name for name in AGGREGATES if name != "top_by"]
    columns = {name: AGGREGATES[name][0].over(rolling("5s")) for name in names}
    driver = driver_of(SCHEMA, lambda stream: stream.key_by("k").with_columns(**columns))
    for start in range(0, len(rows), 300):
        part = [{name: row[name] for name in SCHEMA.names} for row in rows[start : start + 300]]
        driver.send_batch("in", part, timestamps=[row["t"] for row in rows[start : start + 300]])
        driver.checkpoint()
        driver.crash_and_restore()
    found = driver.read("out")
    for at in [*range(0, 900, 37), 899]:
        seen = [row for row in rows[: at + 1] if rows[at]["t"] - 5_000 < row["t"] <= rows[at]["t"]]
        assert {name: found[at][name] for name in names} == {name: AGGREGATES[name][1](seen) for name in names}, at


def test_only_the_sum_has_to_fit_not_what_it_is_put_together_from() -> None:
    most = Decimal(9 * 10**37)
    rows = [{"x": x, "t": t} for t, x in enumerate([most, -most, most, -most, most, -most])]
    schema = pa.schema([("x", pa.decimal128(38, 0)), ("t", pa.int64())])
    stream = Topology("t").stream(memory("in", schema=schema, rows=rows), timestamp="t").key_by()
    found = stream.with_columns(total=col("x").sum().over(rolling("1h")), mean=col("x").mean().over(rolling("1h"))).collect()
    assert found.column("total").to_pylist() == [most, 0, most, 0, most, 0]
    assert found.column("mean").to_pylist()[-1] == 0


def test_a_frame_whose_sum_does_not_fit_refuses_the_record() -> None:
    most = Decimal(9 * 10**37)
    rows = [{"x": x, "t": t} for t, x in enumerate([most, most, Decimal(1), -most])]
    schema = pa.schema([("x", pa.decimal128(38, 0)), ("t", pa.int64())])

    def totals(**options: Any) -> list[Any]:
        stream = Topology("t", **options).stream(memory("in", schema=schema, rows=rows), timestamp="t").key_by()
        columns = {"total": col("x").sum().over(rolling("1h")), "mean": col("x").mean().over(rolling("1h"))}
        return list(stream.with_columns(**columns).collect().column("total").to_pylist())

    with pytest.raises(DataError, match="more than 38 digits"):
        totals()
    assert totals(errors="skip") == [most, Decimal(9 * 10**37 + 1), 1]


def seconds(n: int) -> float:
    data = pa.table({"k": ["a"] * n, "x": pa.array(range(n), pa.int64()).cast(pa.decimal128(19, 0)), "t": list(range(n))})
    rows = Topology("t").stream(memory("m", schema=data.schema, rows=data), timestamp="t").key_by("k")
    columns = {"total": col("x").sum().over(rolling("1d")), "mean": col("x").mean().over(rolling("1d"))}
    began = time.process_time()
    assert rows.with_columns(**columns).select("total", "mean").collect().num_rows == n
    return time.process_time() - began


def test_a_long_frame_is_not_read_again_for_each_record() -> None:
    assert min(seconds(40_000) for _ in range(2)) < 12 * max(min(seconds(10_000) for _ in range(2)), 0.05)
