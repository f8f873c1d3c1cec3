"""Hopping windows of many steps are put together from panes: what is in a window is what a list of its records says."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streamdsl import DataError, Topology, col, count, hopping, memory, tumbling
from streamdsl.testing import TopologyTestDriver
from tests.windows.jobs import examples

ROW: dict[str, Any] = {"k": str, "t": int, "i": int | None, "f": float | None, "s": str | None, "d": Decimal | None}
MADE: dict[str, Any] = {
    "n": count(),
    "mean": col("i").mean(),
    "total": col("i").sum(),
    "cents": col("d").sum(),
    "cents_mean": col("d").mean(),
    "float_total": col("f").sum(),
    "float_mean": col("f").mean(),
    "spread": col("f").var(ddof=0),
    "money": col("d").max(),
    "least": col("i").min(),
    "most": col("s").max(),
    "first": col("s").first(),
    "last": col("i").last(),
    "all": col("i").to_list(),
    "kinds": col("s").n_unique(),
    "best": col("s").max_by("i"),
    "top": col("s").top_k(2, by="i"),
    "middle": col("f").median(),
}


def said(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a window of these records says, in order of arrival."""
    whole, floats, texts, money = ([one[name] for one in records if one[name] is not None] for name in ("i", "f", "s", "d"))
    ranked = sorted((one for one in records if one["i"] is not None and one["s"] is not None), key=lambda one: -one["i"])
    exact = [Fraction(value) for value in floats]
    average = sum(exact) / len(exact) if exact else Fraction()
    ordered = sorted(floats)
    return {
        "n": len(records),
        "mean": sum(whole) / len(whole) if whole else None,
        "total": sum(whole),
        "cents": sum(money, Decimal(0)),
        # As many digits as the column has, half to even: there is no room for more.
        "cents_mean": (sum(money, Decimal(0)) / len(money)).quantize(Decimal("1e-9")) if money else None,
        "float_total": math.fsum(floats),
        "float_mean": math.fsum(floats) / len(floats) if floats else None,
        "spread": float(sum((value - average) ** 2 for value in exact) / len(exact)) if exact else None,
        "money": max(money, default=None),
        "least": min(whole, default=None),
        "most": max(texts, default=None),
        "first": texts[0] if texts else None,
        "last": whole[-1] if whole else None,
        "all": whole or None,
        "kinds": len(set(texts)),
        "best": ranked[0]["s"] if ranked else None,
        "top": [one["s"] for one in ranked[:2]] or None,
        "middle": (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2 if ordered else None,
    }


def same(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-14)
    return bool(found == wanted)


RECORD = st.fixed_dictionaries(
    {
        "k": st.sampled_from("aab"),
        "t": st.integers(-30, 60),
        "i": st.none() | st.integers(-5, 5),
        "f": st.none() | st.sampled_from([0.1, 0.2, -0.3, 1e16, -1e16]),
        "s": st.none() | st.sampled_from(["", "x", "long enough to lie somewhere else"]),
        "d": st.none() | st.sampled_from([Decimal("0.10"), Decimal("-7.25")]),
    }
)
STEPS = st.lists(st.lists(RECORD, min_size=1, max_size=6) | st.integers(-40, 70) | st.integers(1, 3).map(str), max_size=14)


@examples
@given(STEPS, st.sampled_from([(12, 4, 0), (10, 3, 1), (30, 1, 0), (9, 2, 7), (40, 10, 7)]), st.integers(0, 8), st.booleans())
def test_windows_of_panes(steps: list[Any], shape: tuple[int, int, int], grace: int, cold: bool) -> None:
    size, every, offset = shape
    topology = Topology("t")
    stream = topology.stream(memory("in", ROW), timestamp="t", watermarks="external").key_by("k")
    windows = stream.window(hopping(size, every, offset=offset), grace=grace).aggregate(**MADE)
    shown = windows.with_columns(ws=col("window_start").dt.epoch("ms"), we=col("window_end").dt.epoch("ms"))
    shown.to(memory("out"))
    windows.output("late").to(memory("late"))
    options: dict[str, Any] = {"state_memory": 4_096} if cold else {}
    driver = TopologyTestDriver(topology, **options)
    watermark, held, late = -(2**63), {}, 0
    for step in steps:
        if isinstance(step, int):
            watermark = max(watermark, step)
            driver.advance_watermark("in", step)
        elif isinstance(step, str):
            driver.checkpoint()
            driver.crash_and_restore(parallelism=int(step))
        else:
            driver.send_batch("in", step)
            for record in step:
                last = (record["t"] - offset) // every * every + offset
                starts = [start for start in range(last, record["t"] - size, -every) if watermark < start + size - 1 + grace]
                late += not starts
                for start in starts:
                    held.setdefault((record["k"], start), []).append(record)
    driver.end()
    rows = driver.read("out")
    found = {(row["k"], row["ws"]): row for row in rows}
    assert len(found) == len(rows), "a window was told twice"
    assert found.keys() == held.keys()
    assert len(driver.read("late")) == late
    for key, records in held.items():
        assert found[key]["we"] == key[1] + size
        different = [(name, found[key][name], wanted) for name, wanted in said(records).items() if not same(found[key][name], wanted)]
        assert different == [], key


def test_windows_leave_in_order_of_end_then_key_whatever_the_jump_of_the_watermark() -> None:
    topology = Topology("t")
    stream = topology.stream(memory("in", ROW), timestamp="t", watermarks="external").key_by("k")
    stream.window(hopping(10, 2)).count().to(memory("out"))
    driver = TopologyTestDriver(topology)
    nothing = dict.fromkeys(ROW)
    driver.send_batch("in", [{**nothing, "k": key, "t": at} for at in (3, 8, 50, 4) for key in "bac"])
    driver.advance_watermark("in", 200)
    rows = [(row["window_end"], row["k"]) for row in driver.read("out")]
    assert rows == sorted(rows)
    assert len(rows) == 3 * (8 + 5)


def test_the_open_windows_can_be_looked_at() -> None:
    topology = Topology("t")
    stream = topology.stream(memory("in", ROW), timestamp="t", watermarks="external").key_by("k")
    stream.window(hopping(6, 2)).aggregate(total=col("i").cast("float64").sum(), name="sums").to(memory("out"))
    driver = TopologyTestDriver(topology)
    nothing = dict.fromkeys(ROW)

    def looked() -> list[tuple[int, int]]:
        return [(one["window_start"].timestamp() * 1000, one["total"]) for one in driver.state("sums")["a"]]

    driver.send_batch("in", [{**nothing, "k": "a", "t": at, "i": 1 << at} for at in (0, 3, 5)])
    assert looked() == [(-4, 1), (-2, 9), (0, 41), (2, 40), (4, 32)]
    driver.advance_watermark("in", 3)
    driver.send_batch("in", [{**nothing, "k": "a", "t": at, "i": 1 << at} for at in (2, 7)])
    assert looked() == [(0, 45), (2, 172), (4, 160), (6, 128)]


def test_tumbling_windows_are_the_last_of_what_panes_say() -> None:
    """A window of one step is no other window than the hopping one that begins with it."""
    rows = [{**dict.fromkeys(ROW), "k": "a", "t": at * 7 % 40, "f": 0.1 * at} for at in range(60)]
    found = []
    for window in (tumbling(8), hopping(8, 2)):
        topology = Topology("t")
        stream = topology.stream(memory("in", ROW, rows), timestamp="t", disorder=100).key_by("k")
        made = stream.window(window).aggregate(n=count(), most=col("f").max()).collect().to_pylist()
        found.append({row["window_start"]: (row["n"], row["most"]) for row in made})
    assert {start: found[1][start] for start in found[0]} == found[0]


LARGE = st.sampled_from([1, -1, 5, 2**31, 2**61, -(2**61), 2**62, -(2**62), 2**63 - 1, -(2**63)])
#: An integer times this has the place in the range of decimals that it has in its own.
STRETCH = (10**38 - 1) // 2**63


@examples
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), LARGE), max_size=12), st.integers(1, 12), st.booleans(), st.booleans())
def test_the_record_that_makes_a_sum_too_large_is_named(
    records: list[tuple[str, int, int]], batch: int, decimals: bool, crash: bool
) -> None:
    """Sums of panes are exact; the record that fails is the first one with which a window that is still open has too large a sum."""
    topology = Topology("t")
    kind: Any = pa.decimal128(38, 0) if decimals else int
    stream = topology.stream(memory("in", {"k": str, "t": int, "x": kind}), timestamp="t", watermarks="external").key_by("k")
    stream.window(hopping(12, 2)).aggregate(total=col("x").sum()).to(memory("out"))
    driver = TopologyTestDriver(topology)
    sums: dict[tuple[str, int], Any] = {}
    low, high = (-(10**38) + 1, 10**38 - 1) if decimals else (-(2**63), 2**63 - 1)
    rows: list[dict[str, Any]] = []
    failing = None
    for number, (k, t, x) in enumerate(records):
        x *= STRETCH if decimals else 1
        rows.append({"k": k, "t": t, "x": Decimal(x) if decimals else x})
        for start in range(t // 2 * 2 - 10, t + 1, 2):
            sums[k, start] = sums.get((k, start), 0) + x
            if not low <= sums[k, start] <= high and failing is None:
                failing = number
    sent = 0
    try:
        for sent in range(0, len(rows), batch):
            driver.send_batch("in", rows[sent : sent + batch])
            if crash:
                driver.checkpoint()
                driver.crash_and_restore()
        driver.end()
    except DataError as error:
        assert failing is not None and sent <= failing < sent + batch
        assert "overflow" in str(error) and f"t={rows[failing]['t']}, x={rows[failing]['x']!r}" in str(error)
        return
    assert failing is None
    assert {(row["k"], row["window_start"].timestamp() * 1000): int(row["total"]) for row in driver.read("out")} == sums


FLOATS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(
    [0.1, -0.1, 1e16, 1e-300, -1e-300, 5e-324, 1.7e308, -1.7e308, 2.0**840, 2.0**900, 0.0, -0.0]
)


@examples
@given(st.lists(st.tuples(st.integers(0, 30), FLOATS), max_size=14))
def test_sums_of_floats_are_rounded_once(records: list[tuple[int, float]]) -> None:
    topology = Topology("t")
    stream = topology.stream(memory("in", {"k": str, "t": int, "x": float}), timestamp="t", watermarks="external").key_by("k")
    stream.window(hopping(12, 2)).aggregate(total=col("x").sum(), mean=col("x").mean()).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send_batch("in", [{"k": "a", "t": t, "x": x} for t, x in records])
    driver.end()
    for row in driver.read("out"):
        start = row["window_start"].timestamp() * 1000
        values = [x for t, x in records if start <= t < start + 12]
        if all(map(math.isfinite, values)):
            exact = sum(map(Fraction, values), Fraction())
            try:
                total = float(exact)
            except OverflowError:
                total = math.inf if exact > 0 else -math.inf
        else:
            total = sum(value for value in values if not math.isfinite(value))
        assert repr(row["total"]) == repr(total)
        assert repr(row["mean"]) == repr(total / len(values))


def test_panes_take_a_record_once_whatever_becomes_of_bad_ones() -> None:
    """A verb that skips records whose expressions fail says the same of the others."""
    rows = [{"k": "a", "t": at, "x": at % 3} for at in range(40)]
    found = []
    for window in (hopping(12, 2), hopping(12, 12)):
        topology = Topology("t")
        stream = topology.stream(memory("in", {"k": str, "t": int, "x": int}, rows), timestamp="t", disorder=100).key_by("k")
        made = stream.window(window).aggregate(n=count(), total=(1.0 / col("x").cast("float64")).sum(), errors="skip")
        found.append({row["window_start"]: row["n"] for row in made.collect().to_pylist()})
    assert {start: found[0][start] for start in found[1]} == found[1]
