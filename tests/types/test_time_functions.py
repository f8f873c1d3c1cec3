"""Functions of times see and keep the digits below a millisecond."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, col, memory
from streamdsl.expr.expression import Expr

PER_SECOND = {"s": 1, "us": 1_000_000, "ns": 1_000_000_000}
ZONE = "Europe/Vienna"
EPOCH = datetime.datetime(1970, 1, 1)

#: What gives a time that keeps what is below a millisecond.
MOVES: dict[str, Expr] = {
    "offset": col("t").dt.offset_by("1mo2d"),
    "back": col("t").dt.offset_by("-36h"),
    "start": col("t").dt.month_start(),
    "end": col("t").dt.month_end(),
    "converted": col("t").dt.convert_time_zone("America/New_York"),
    "replaced": col("t").dt.replace_time_zone("UTC"),
}
#: What gives a time without it.
CUTS: dict[str, Expr] = {every: col("t").dt.truncate(every) for every in ("1s", "15m", "1d", "1w", "1mo", "1y")}
#: What gives no time.
PARTS: dict[str, Expr] = {
    **{name: getattr(col("t").dt, name)() for name in ("year", "month", "day", "hour", "minute", "second", "weekday", "week", "quarter")},
    **{name: getattr(col("t").dt, name)() for name in ("iso_year", "ordinal_day", "is_leap_year", "days_in_month", "date")},
    "text": col("t").dt.strftime("%d.%m.%Y %H:%M:%S %z"),
}


def column(values: list[int], type_: pa.DataType) -> pa.Array:
    return pa.array(values, pa.int64()).cast(type_)


def table(array: pa.Array, **columns: Expr) -> pa.Table:
    batch = pa.record_batch({"t": array})
    return Topology("job").stream(memory("in", schema=batch.schema, rows=batch)).select(**columns).collect()


def whole(found: pa.Table, name: str) -> list[int | None]:
    numbers: list[int | None] = found.column(name).combine_chunks().cast(pa.int64()).to_pylist()
    return numbers


@pytest.mark.parametrize("zone", [None, "UTC", ZONE])
@pytest.mark.parametrize("unit", PER_SECOND)
@settings(max_examples=20)
@given(data=st.data())
def test_what_a_function_does_to_milliseconds_it_does_to_every_unit(unit: str, zone: str | None, data: Any) -> None:
    per_second = PER_SECOND[unit]
    values = data.draw(st.lists(st.integers(-2_000_000_000 * per_second, 6_000_000_000 * per_second), min_size=1, max_size=5))
    ms = [value * 1000 // per_second for value in values]
    fine = table(column(values, pa.timestamp(unit, zone)), **MOVES, **CUTS, **PARTS)
    plain = table(column(ms, pa.timestamp("ms", zone)), **MOVES, **CUTS, **PARTS)
    for name in PARTS:
        assert fine.column(name).to_pylist() == plain.column(name).to_pylist()
    for name in (*MOVES, *CUTS):
        assert fine.schema.field(name).type == pa.timestamp(unit, plain.schema.field(name).type.tz)
        below = [value - floored * per_second // 1000 if name in MOVES else 0 for value, floored in zip(values, ms, strict=True)]
        assert whole(fine, name) == [moved * per_second // 1000 + rest for moved, rest in zip(whole(plain, name), below, strict=True)]


@pytest.mark.parametrize("unit", PER_SECOND)
def test_epochs_count_the_units_there_are(unit: str) -> None:
    per_second = PER_SECOND[unit]
    values = [1_700_000_000 * per_second + 123_456_789 * per_second // 1_000_000_000, -1]
    units = ("s", "ms", "us", "ns")
    found = table(column(values, pa.timestamp(unit)), **{u: col("t").dt.epoch(u) for u in units}, d=col("t").dt.epoch("d"))
    for u, per in zip(units, (1, 1_000, 1_000_000, 1_000_000_000), strict=True):
        assert whole(found, u) == [value * per // per_second for value in values]
    assert whole(found, "d") == [value // (86_400 * per_second) for value in values]


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        ("s", "2023-11-14 22:13:20+00:00"),
        ("us", "2023-11-14 22:13:20.123456+00:00"),
        ("ns", "2023-11-14 22:13:20.123456789+00:00"),
    ],
)
def test_texts_have_the_digits_of_the_unit(unit: str, shown: str) -> None:
    per_second = PER_SECOND[unit]
    value = 1_700_000_000 * per_second + 123_456_789 * per_second // 1_000_000_000
    formats = {"f": "%f", "three": "%.3f", "six": "%.6f", "nine": "%.9f", "needed": "%.f"}
    texts = {name: col("t").dt.strftime(form) for name, form in formats.items()}
    (found,) = table(column([value], pa.timestamp(unit, "UTC")), default=col("t").dt.to_string(), **texts).to_pylist()
    digits = {"s": "", "us": "123456", "ns": "123456789"}[unit]
    full = digits.ljust(9, "0")
    assert found == {
        "default": shown,
        "f": full,
        "three": f".{full[:3]}",
        "six": f".{full[:6]}",
        "nine": f".{full}",
        "needed": f".{digits}" if digits else "",
    }


def test_seconds_that_move_by_less_become_milliseconds() -> None:
    found = table(column([10], pa.timestamp("s")), t=col("t").dt.offset_by("500ms"))
    assert found.schema.field("t").type == pa.timestamp("ms")
    assert whole(found, "t") == [10_500]
