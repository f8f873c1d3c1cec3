"""Python values become columns as they are, or are refused: in what functions return, in rows of memory, in rows of a test."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from streamdsl import DataError, Processor, Topology, TopologyError, UserCodeError, memory
from streamdsl.testing import TopologyTestDriver

UTC = datetime.UTC


@dataclasses.dataclass
class Point:
    x: int
    y: int | None = None


class Named(NamedTuple):
    x: int
    y: int | None = None


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class OddZone(datetime.tzinfo):
    """Says that it knows nothing."""

    def utcoffset(self, _: datetime.datetime | None) -> None:
        return None

    def dst(self, _: datetime.datetime | None) -> None:
        return None

    def tzname(self, _: datetime.datetime | None) -> str:
        return "odd"


class Scalar:
    """What a NumPy scalar has."""

    shape = ()

    def __init__(self, kind: str, value: Any) -> None:
        self.dtype, self.value = SimpleNamespace(kind=kind), value

    def item(self) -> Any:
        return self.value

    def astype(self, unit: str) -> Scalar:
        assert unit == "M8[us]"
        return Scalar("M", datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=self.value // 1000))


POINT = pa.struct([pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.int64())])
MONEY = pa.decimal128(6, 2)
NS = pa.timestamp("ns", tz="UTC")

#: What is no value of a type: type, value.
REFUSED: list[tuple[pa.DataType, Any]] = [
    (pa.int64(), 1.5),
    (pa.int64(), 1.0),
    (pa.int64(), True),
    (pa.int64(), "1"),
    (pa.int64(), float("nan")),
    (pa.int64(), 2**63),
    (pa.int64(), Decimal(1)),
    (pa.int8(), 128),
    (pa.uint32(), -1),
    (pa.uint64(), 2**64),
    (pa.float64(), 2**53 + 1),
    (pa.float64(), 10**400),
    (pa.float64(), "1.5"),
    (pa.float64(), True),
    (pa.float32(), 1e300),
    (pa.bool_(), 1),
    (pa.bool_(), "true"),
    (pa.string(), 5),
    (pa.string(), b"x"),
    (pa.string(), "\ud800"),
    (pa.string(), "a\udc80"),
    (pa.binary(), "x"),
    (pa.binary(), 5),
    (MONEY, Decimal("NaN")),
    (MONEY, Decimal("sNaN")),
    (MONEY, Decimal("Infinity")),
    (MONEY, Decimal("1.234")),
    (MONEY, Decimal("12345.00")),
    (MONEY, 1.5),
    (MONEY, "1.50"),
    (NS, datetime.datetime(1500, 1, 1, tzinfo=UTC)),
    (NS, datetime.datetime(2300, 1, 1, tzinfo=UTC)),
    (pa.timestamp("s"), 10**12),
    (pa.timestamp("ms"), 10**15),
    (pa.timestamp("ms"), 1.5),
    (pa.timestamp("ms"), "2024-01-01"),
    (pa.timestamp("ms"), datetime.date(2024, 1, 1)),
    (pa.date32(), datetime.datetime(2024, 1, 1)),
    (pa.date32(), 10**8),
    (pa.date32(), "2024-01-01"),
    (POINT, {"x": 1, "z": 2}),
    (POINT, {"y": 1}),
    (POINT, {"x": 1.5}),
    (POINT, [1, 2]),
    (POINT, 5),
    (pa.list_(pa.string()), "abc"),
    (pa.list_(pa.int64()), {"a": 1}),
    (pa.list_(pa.int64()), b"abc"),
    (pa.list_(pa.int64(), 2), [1]),
    (pa.map_(pa.string(), pa.int64()), {1: 1}),
    (pa.map_(pa.string(), pa.int64()), {"a": "1"}),
    (pa.map_(pa.string(), pa.int64()), [1, 2]),
]
#: What is one: type, value, what is read again.
TAKEN: list[tuple[pa.DataType, Any, Any]] = [
    (pa.int64(), -(2**63), -(2**63)),
    (pa.int64(), Scalar("i", 7), 7),
    (pa.int64(), pa.scalar(7), 7),
    (pa.int64(), Level.HIGH, 3),
    (pa.uint64(), 2**64 - 1, 2**64 - 1),
    (pa.float64(), 2**53, 2.0**53),
    (pa.float64(), 10**20, 1e20),
    (pa.float64(), Scalar("f", 1.5), 1.5),
    (pa.float32(), 0.1, 0.10000000149011612),
    (pa.bool_(), Scalar("b", True), True),
    (pa.string(), "\U0001f600\0\n", "\U0001f600\0\n"),
    (pa.string(), Colour.RED, "red"),
    (pa.string(), uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (pa.binary(), bytearray(b"\xff\0"), b"\xff\0"),
    (MONEY, 5, Decimal("5.00")),
    (MONEY, Decimal("-9999.99"), Decimal("-9999.99")),
    (pa.decimal128(38, 0), 10**38 - 1, Decimal(10**38 - 1)),
    (pa.timestamp("s", tz="UTC"), 1_710_037_800, datetime.datetime(2024, 3, 10, 2, 30, tzinfo=UTC)),
    (pa.timestamp("ms", tz="UTC"), datetime.datetime(2024, 3, 10, 2, 30), datetime.datetime(2024, 3, 10, 2, 30, tzinfo=UTC)),
    (
        pa.timestamp("ms", tz="UTC"),
        datetime.datetime(2024, 3, 10, 2, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=5, seconds=7))),
        datetime.datetime(2024, 3, 9, 21, 29, 53, tzinfo=UTC),
    ),
    (
        pa.timestamp("ms", tz="UTC"),
        datetime.datetime(2024, 3, 10, tzinfo=OddZone()),
        datetime.datetime(2024, 3, 10, tzinfo=UTC),
    ),
    (pa.timestamp("ms", tz="UTC"), Scalar("M", 1_000_000_000), datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
    (pa.date32(), datetime.date(1, 1, 1), datetime.date(1, 1, 1)),
    (POINT, {"x": 1}, {"x": 1, "y": None}),
    (POINT, Point(1, 2), {"x": 1, "y": 2}),
    (POINT, Named(1), {"x": 1, "y": None}),
    (pa.list_(pa.int64()), (1, None), [1, None]),
    (pa.list_(pa.int64()), {3, 1, 2}, [1, 2, 3]),
    (pa.list_(pa.int64()), pa.array([1, 2]), [1, 2]),
    (pa.list_(POINT), [Point(1), {"x": 2, "y": 3}], [{"x": 1, "y": None}, {"x": 2, "y": 3}]),
    (pa.list_(MONEY), [Decimal("1.5")], [Decimal("1.50")]),
    (pa.list_(pa.binary()), [b"\xff"], [b"\xff"]),
    (pa.list_(pa.date32()), [datetime.date(2024, 2, 29)], [datetime.date(2024, 2, 29)]),
    (pa.list_(pa.float64()), [float("inf"), 1], [float("inf"), 1.0]),
    (pa.map_(pa.string(), pa.int64()), {"a": 1}, [("a", 1)]),
    (pa.map_(pa.int64(), pa.string()), [(1, "a")], [(1, "a")]),
]


def nested(type_: pa.DataType, value: Any) -> list[tuple[pa.DataType, Any]]:
    """The same value further inside."""
    return [
        (type_, value),
        (pa.list_(type_), [value]),
        (pa.struct([("v", type_)]), {"v": value}),
        (pa.map_(pa.string(), pa.list_(type_)), {"a": [value]}),
    ]


def mapped(type_: pa.DataType, value: Any, errors: Any = "fail") -> pa.Table:
    rows = Topology("t").stream(memory("m", schema={"k": str}, rows=[{"k": "x"}]))
    return rows.map(lambda row: {"v": value}, schema=pa.schema([("v", type_)]), errors=errors).collect()


def in_memory(type_: pa.DataType, value: Any) -> pa.Table:
    return Topology("t").stream(memory("m", schema=pa.schema([("v", type_)]), rows=[{"v": value}])).collect()


def in_a_driver(type_: pa.DataType, value: Any) -> pa.Table:
    topology = Topology("t")
    topology.stream(memory("m", schema=pa.schema([("v", type_)]))).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send("m", {"v": value}, timestamp=0)
    return pa.table({"v": pa.array([row["v"] for row in driver.read("out")], type_)})


def reduced(type_: pa.DataType, value: Any) -> pa.Table:
    rows = Topology("t").stream(memory("m", schema=pa.schema([("k", pa.string()), ("v", type_)]), rows=[{"k": "x"}, {"k": "x"}]))
    table = rows.key_by("k").reduce(lambda before, row: {"k": "x", "v": value}, name="r").collect()
    return table.select(["v"]).slice(table.num_rows - 1)


def processed(type_: pa.DataType, value: Any) -> pa.Table:
    class Emits(Processor):
        output = pa.schema([("v", type_)])

        def process(self, row: Any, ctx: Any) -> Any:
            yield {"v": value}

    rows = Topology("t").stream(memory("m", schema={"k": str}, rows=[{"k": "x"}]))
    return rows.key_by("k").process(Emits, name="p").collect()


WAYS: list[Callable[[pa.DataType, Any], pa.Table]] = [mapped, in_memory, in_a_driver, reduced, processed]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_value_is_refused_wherever_it_comes_in(way: Any) -> None:
    for plain, value in REFUSED:
        for type_, inner in nested(plain, value):
            with pytest.raises((UserCodeError, TopologyError, DataError)) as caught:
                way(type_, inner)
                pytest.fail(f"{inner!r} became a {type_}")
            assert "'v'" in str(caught.value), f"{inner!r} as {type_}: {caught.value}"


@pytest.mark.parametrize("way", WAYS)
def test_what_is_a_value_comes_out_as_it_went_in(way: Any) -> None:
    for plain, value, expected in TAKEN:
        for (type_, inner), (_, outer) in zip(nested(plain, value), nested(plain, expected), strict=True):
            if isinstance(outer, dict) and pa.types.is_map(type_):
                outer = list(outer.items())
            assert way(type_, inner).column("v").to_pylist() == [outer], f"{inner!r} as {type_}"


def test_the_policy_holds_for_values() -> None:
    for type_, value in REFUSED:
        assert mapped(type_, value, errors="skip").num_rows == 0, f"{value!r} as {type_}"


def test_errors_name_the_place_inside() -> None:
    type_ = pa.list_(pa.struct([("lat", pa.int64())]))
    with pytest.raises(UserCodeError, match=r"the column 'v'\[1\]\.lat is 1\.5 of type float, which is not a value of type int64"):
        mapped(type_, [{"lat": 1}, {"lat": 1.5}])
    with pytest.raises(TopologyError, match=r"in row 0 the column 'v'\[0\] .*there is no field 'lng'; its fields: lat"):
        in_memory(type_, [{"lng": 1}])


def test_a_row_reads_nested_values_as_what_they_are() -> None:
    values = {
        "at": datetime.datetime(2024, 1, 2, 3, 4, 5, 6000, tzinfo=UTC),
        "day": datetime.date(2024, 2, 29),
        "price": Decimal("1.50"),
        "raw": b"\xff",
    }
    inner = pa.struct([("at", pa.timestamp("ms", tz="UTC")), ("day", pa.date32()), ("price", MONEY), ("raw", pa.binary())])
    schema = pa.schema([("v", inner), ("l", pa.list_(inner)), ("m", pa.map_(pa.string(), inner))])
    seen: list[Any] = []
    rows = Topology("t").stream(memory("m", schema=schema, rows=[{"v": values, "l": [values, None], "m": {"a": values}}]))
    rows.peek(lambda row: seen.append((row.v, row.l, row.m))).collect()
    assert seen == [(values, [values, None], {"a": values})]


def test_floats_of_state_are_exact() -> None:
    class Keeps(Processor):
        output = {"v": float}

        def open(self, ctx: Any) -> None:
            self.total = ctx.state.value("total", float)

        def process(self, row: Any, ctx: Any) -> Any:
            self.total.set(row.n)
            yield {"v": self.total.get()}

    def run(n: int) -> list[float]:
        rows = Topology("t").stream(memory("m", schema={"k": str, "n": int}, rows=[{"k": "x", "n": n}]))
        found: list[float] = rows.key_by("k").process(Keeps, name="p").collect().column("v").to_pylist()
        return found

    assert run(2**53) == [2.0**53]
    with pytest.raises(UserCodeError, match="expected float"):
        run(2**53 + 1)


def test_a_decimal_that_is_no_number_is_a_bad_record() -> None:
    rows = Topology("t").stream(memory("m", schema={"v": str}, rows=[{"v": "1.5"}, {"v": "NaN"}, {"v": "2.5"}]))
    found = rows.map(lambda row: {"v": decimal.Decimal(row.v)}, schema={"v": decimal.Decimal}, errors="skip").collect()
    assert found.column("v").to_pylist() == [Decimal("1.5"), Decimal("2.5")]
