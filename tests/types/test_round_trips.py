"""What goes in comes out: values of every type through keys, aggregates, user code and state, across checkpoints and restores."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Processor, Topology, col, count, memory
from streamdsl.testing import TopologyTestDriver

EPOCH = datetime.datetime(1970, 1, 1)
DAY = datetime.date(1970, 1, 1)


def whole(bits: int, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def moments(unit_us: int, tz: datetime.tzinfo | None) -> st.SearchStrategy[datetime.datetime]:
    start = EPOCH.replace(tzinfo=tz)
    span = 8_000_000_000 * (1_000_000 // unit_us)
    return st.integers(-span, span).map(lambda units: start + datetime.timedelta(microseconds=units * unit_us))


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    signs = st.integers(-most, most)
    return signs.map(lambda digits: Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), -scale)))


UTC = datetime.UTC
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
#: Type, its values, its Python type in state, whether it can be compared.
TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any], Any, bool]] = {
    "bool": (pa.bool_(), st.booleans(), bool, True),
    **{f"int{bits}": (getattr(pa, f"int{bits}")(), whole(bits, True), int, True) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (getattr(pa, f"uint{bits}")(), whole(bits, False), int, True) for bits in (8, 16, 32, 64)},
    "float32": (pa.float32(), st.floats(width=32), float, True),
    "float64": (pa.float64(), st.floats(), float, True),
    "decimal128(38, 9)": (pa.decimal128(38, 9), decimals(38, 9), Decimal, True),
    "decimal128(12, 2)": (pa.decimal128(12, 2), decimals(12, 2), Decimal, True),
    "decimal128(38, 38)": (pa.decimal128(38, 38), decimals(38, 38), Decimal, True),
    "decimal128(1, 0)": (pa.decimal128(1, 0), decimals(1, 0), Decimal, True),
    "string": (pa.string(), TEXTS, str, True),
    "large_string": (pa.large_string(), TEXTS, str, True),
    "binary": (pa.binary(), st.binary(max_size=20), bytes, True),
    "timestamp[s]": (pa.timestamp("s"), moments(1_000_000, None), datetime.datetime, True),
    "timestamp[ms, UTC]": (pa.timestamp("ms", "UTC"), moments(1_000, UTC), datetime.datetime, True),
    "timestamp[us]": (pa.timestamp("us"), moments(1, None), datetime.datetime, True),
    "timestamp[us, UTC]": (pa.timestamp("us", "UTC"), moments(1, UTC), datetime.datetime, True),
    "timestamp[ns, UTC]": (pa.timestamp("ns", "UTC"), moments(1, UTC), datetime.datetime, True),
    "date32": (pa.date32(), st.integers(-700_000, 2_900_000).map(lambda days: DAY + datetime.timedelta(days=days)), datetime.date, True),
    "date64": (pa.date64(), st.integers(-700_000, 2_900_000).map(lambda days: DAY + datetime.timedelta(days=days)), datetime.date, True),
    "decimal256(50, 3)": (pa.decimal256(50, 3), decimals(50, 3), Decimal, False),
    "list": (pa.list_(pa.decimal128(9, 2)), st.lists(decimals(9, 2) | st.none(), max_size=3), list[Decimal | None], False),
    "list of moments": (pa.list_(pa.timestamp("us")), st.lists(moments(1, None), max_size=3), None, False),
    "struct": (
        pa.struct([("a", pa.timestamp("us", "UTC")), ("b", pa.binary())]),
        st.fixed_dictionaries({"a": moments(1, UTC) | st.none(), "b": st.binary(max_size=4)}),
        None,
        False,
    ),
}


def plain(value: Any) -> Any:
    """Return a value that is equal to those that mean the same: NaN is one value, and a moment is in UTC."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value + 0.0
    if isinstance(value, datetime.datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def greatest(values: list[Any]) -> Any:
    """Return the greatest value as streams order them: NaN above all numbers."""
    return next((value for value in values if isinstance(value, float) and math.isnan(value)), None) or max(values, default=None)


def keeps(type_: pa.DataType, python: Any) -> type[Processor]:
    """Return a Processor that gives the value before, from its state, and how often the key's map has seen the value."""

    class Keeps(Processor):
        output = pa.schema([pa.field("before", type_), pa.field("seen", pa.int64())])

        def open(self, ctx: Any) -> None:
            self.last = ctx.state.value("last", python | None)
            self.seen = ctx.state.map("seen", python | None, int) if not isinstance(python, type(list[int])) else None

        def process(self, row: Any, ctx: Any) -> Any:
            if self.seen is not None:
                self.seen[row.v] = self.seen.get(row.v, 0) + 1
            yield {"before": self.last.get(), "seen": None if self.seen is None else self.seen[row.v]}
            self.last.set(row.v)

    return Keeps


def job(type_: pa.DataType, python: Any, ordered: bool, nullable: bool) -> Topology:
    topology = Topology("round-trips")
    schema = pa.schema([pa.field("k", pa.string(), False), pa.field("v", type_, nullable)])
    rows = topology.stream(memory("in", schema=schema), watermarks="external")
    rows.to(memory("same"))
    rows.map(lambda row: {"v": row.v}, schema=pa.schema([pa.field("v", type_, nullable)])).to(memory("mapped"))
    aggregates = {"first": col("v").first(), "last": col("v").last(), "all": col("v").to_list()}
    if ordered:
        aggregates |= {"most": col("v").max(), "unique": col("v").n_unique()}
        rows.key_by("v").aggregate(n=count(), name="counts").to_stream().to(memory("counts"))
    rows.key_by("k").aggregate(**aggregates, name="aggregates").to_stream().to(memory("aggregates"))
    rows.key_by("k").with_columns(before=col("v").lag()).to(memory("lagged"))
    if python is not None:
        rows.key_by("k").process(keeps(type_, python), name="keeps").to(memory("kept"))
    return topology


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=8)
@given(data=st.data())
def test_values_come_out_as_they_went_in(name: str, data: Any) -> None:
    type_, values, python, ordered = TYPES[name]
    nullable = data.draw(st.booleans())
    few = st.lists(values, min_size=1, max_size=3).flatmap(lambda found: st.lists(st.sampled_from(found), min_size=1, max_size=6))
    drawn = data.draw(few)
    if nullable:
        drawn.insert(data.draw(st.integers(0, len(drawn))), None)
    cut = data.draw(st.integers(0, len(drawn)))
    driver = TopologyTestDriver(job(type_, python, ordered, nullable))
    for part in (drawn[:cut], drawn[cut:]):
        if part:
            driver.send_batch("in", [{"k": "a", "v": value} for value in part], timestamps=[0] * len(part))
        driver.checkpoint()
        driver.crash_and_restore(data.draw(st.integers(1, 2)))
    expected = [plain(value) for value in drawn]
    assert [plain(row["v"]) for row in driver.read("same")] == expected
    assert [plain(row["v"]) for row in driver.read("mapped")] == expected
    assert [plain(row["before"]) for row in driver.read("lagged")] == [None, *expected[:-1]]
    for i, row in enumerate(driver.read("aggregates")):
        seen = [value for value in drawn[: i + 1] if value is not None]
        assert plain(row["all"] or []) == plain(seen)
        assert [plain(row["first"]), plain(row["last"])] == ([plain(seen[0]), plain(seen[-1])] if seen else [None, None])
        if ordered:
            assert plain(row["most"]) == plain(greatest(seen))
            assert row["unique"] == len({plain(value) for value in seen})
    if ordered:
        counts: dict[Any, int] = {}
        for row in driver.read("counts"):
            counts[plain(row["v"])] = row["n"]
        assert counts == {value: expected.count(value) for value in expected if value is not None}
    if python is not None:
        kept = driver.read("kept")
        assert [plain(row["before"]) for row in kept] == [None, *expected[:-1]]
        if ordered:
            assert [row["seen"] for row in kept] == [expected[: i + 1].count(value) for i, value in enumerate(expected)]
