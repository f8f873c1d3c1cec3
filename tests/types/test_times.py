"""Times keep the digits of their unit; event time alone is whole milliseconds."""

from __future__ import annotations

import datetime
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Processor, Topology, col, count, event_time, files, lit, memory, when
from streamdsl import format as text
from streamdsl.errors import DataError, TopologyError
from streamdsl.schema import Schema
from tests.types.jobs import computed, driver_of, value_of

MOMENT = datetime.datetime(2024, 1, 1, 0, 0, 0, 123_456)
ZONED = MOMENT.replace(tzinfo=datetime.UTC)
EPOCH = datetime.datetime(1970, 1, 1)
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
TYPES = [pa.timestamp(unit, tz) for unit in PER_SECOND for tz in (None, "UTC", "Europe/Paris")]
FINE = [pa.timestamp(unit, tz) for unit in ("us", "ns") for tz in (None, "UTC")]


def moments(type_: pa.DataType) -> st.SearchStrategy[int]:
    """Return whole numbers in the unit of the type, of the years 1700 to 2250."""
    per_second = PER_SECOND[type_.unit]
    return st.integers(-8_500_000_000 * per_second, 8_800_000_000 * per_second)


def column(values: list[int | None], type_: pa.DataType) -> pa.Array:
    return pa.array(values, pa.int64()).cast(type_)


def whole(array: Any) -> list[int | None]:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    numbers: list[int | None] = array.cast(pa.int64()).to_pylist()
    return numbers


@pytest.mark.parametrize("type_", TYPES, ids=str)
@settings(max_examples=15)
@given(data=st.data())
def test_times_pass_and_compare_with_all_their_digits(type_: pa.DataType, data: Any) -> None:
    values = data.draw(st.lists(moments(type_) | st.none(), min_size=1, max_size=5))
    batch = pa.record_batch({"k": pa.array(["a"] * len(values)), "t": column(values, type_)})
    rows = Topology("job").stream(memory("in", schema=batch.schema, rows=batch))
    found = rows.with_columns(same=col("t") == col("t"), later=col("t") > col("t")).collect()
    assert found.schema.field("t").type == type_
    assert whole(found.column("t")) == values
    known = [value for value in values if value is not None]
    aggregates = {"first": col("t").first(), "last": col("t").last(), "least": col("t").min(), "most": col("t").max()}
    last = (
        rows.key_by("k").aggregate(**aggregates, n=col("t").n_unique(), all=col("t").to_list()).to_stream().collect().slice(len(values) - 1)
    )
    expected = {"first": known[0], "last": known[-1], "least": min(known), "most": max(known)} if known else dict.fromkeys(aggregates)
    assert {name: whole(last.column(name))[0] for name in aggregates} == expected
    assert last.column("n").to_pylist() == [len(set(known))]
    if known:
        assert whole(last.column("all").combine_chunks().flatten()) == known


@pytest.mark.parametrize("type_", FINE, ids=str)
def test_moments_below_a_millisecond_are_different_keys(type_: pa.DataType) -> None:
    values = [5, 6, 5, 7]
    batch = pa.record_batch({"t": column(values, type_)})
    driver = driver_of(batch.schema, lambda rows: rows.key_by("t").aggregate(n=count()).to_stream().select("n"))
    for i in range(4):
        driver.send_batch("in", batch.slice(i, 1), timestamps=[0])
        driver.checkpoint()
        driver.crash_and_restore(1 + i % 2)
    assert [row["n"] for row in driver.read("out")] == [1, 1, 2, 1]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "arrow"])
@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_files_keep_the_digits(type_: pa.DataType, ending: str, tmp_path: Any) -> None:
    values = [PER_SECOND[type_.unit] * 1_704_067_200 + 123_456_789 % PER_SECOND[type_.unit], -1, None]
    batch = pa.record_batch({"i": [1, 2, 3], "t": column(values, type_)})
    topology = Topology("write")
    topology.stream(memory("in", schema=batch.schema, rows=batch)).to(files(tmp_path / f"o.{ending}"))
    topology.run()
    found = Topology("read").stream(files(tmp_path / f"o.{ending}", schema=batch.schema)).collect()
    assert found.schema.field("t").type == type_
    assert whole(found.column("t")) == values


SCHEMA = pa.schema(
    [
        ("s", pa.timestamp("s")),
        ("ms", pa.timestamp("ms")),
        ("us", pa.timestamp("us")),
        ("ns", pa.timestamp("ns")),
        ("d", pa.date32()),
        ("w", pa.date64()),
        ("n", pa.int64()),
        ("f", pa.float64()),
    ]
)
ROW = {
    "s": datetime.datetime(2024, 1, 1),
    "ms": datetime.datetime(2024, 1, 1, 0, 0, 0, 123_000),
    "us": MOMENT,
    "ns": MOMENT,
    "d": datetime.date(2024, 1, 1),
    "w": datetime.date(2024, 1, 1),
    "n": 1_704_067_200_123,
    "f": 1_704_067_200_123.5,
}

CASES: list[tuple[Any, Any]] = [
    # Mixed units meet in the finer one.
    (col("ms") < col("us"), True),
    (col("us") == col("ns"), True),
    (col("s") == col("d"), True),
    (col("us") > col("d"), True),
    (col("w") == col("d"), True),
    (col("us") == MOMENT, True),
    (col("ms") == MOMENT, False),
    (col("ms") < MOMENT, True),
    (col("us").is_in([MOMENT, datetime.datetime(2000, 1, 1)]), True),
    (col("ms").is_in([MOMENT]), False),
    # A whole number beside a time is milliseconds.
    (col("us") > col("n"), True),
    (col("ms") == col("n"), True),
    (col("us").cast(int), 1_704_067_200_123),
    (col("s").cast(int), 1_704_067_200_000),
    (col("n").cast(pa.timestamp("us")), datetime.datetime(2024, 1, 1, 0, 0, 0, 123_000)),
    (col("f").cast(pa.timestamp("us")), datetime.datetime(2024, 1, 1, 0, 0, 0, 123_500)),
    (col("us").cast(pa.timestamp("ms")), datetime.datetime(2024, 1, 1, 0, 0, 0, 123_000)),
    (col("us").cast(pa.date32()), datetime.date(2024, 1, 1)),
    (col("d").cast(pa.timestamp("us")), datetime.datetime(2024, 1, 1)),
    # Arithmetic.
    (col("us") + timedelta(milliseconds=1), MOMENT + timedelta(milliseconds=1)),
    (col("us") + timedelta(microseconds=1), MOMENT + timedelta(microseconds=1)),
    (col("ms") + timedelta(microseconds=1), datetime.datetime(2024, 1, 1, 0, 0, 0, 123_001)),
    (col("us") - 1, MOMENT - timedelta(milliseconds=1)),
    (col("s") + timedelta(milliseconds=1), datetime.datetime(2024, 1, 1, 0, 0, 0, 1_000)),
    (col("us") - col("s"), timedelta(microseconds=123_456)),
    (col("ms") - col("s"), 123),
    (col("us") - col("ms") > timedelta(microseconds=455), True),
    (col("us") - col("ms") < 1, True),
    ((col("us") - col("ms")) + timedelta(milliseconds=1), timedelta(microseconds=1456)),
    ((col("us") - col("ms")).cast(int), 0),
    ((col("us") - col("ms")).cast(float), 0.456),
    (-(col("us") - col("s")), timedelta(microseconds=-123_456)),
    (col("us") + (col("us") - col("s")), MOMENT + timedelta(microseconds=123_456)),
    # The calendar, texts.
    (col("us").dt.year(), 2024),
    (col("us").dt.millisecond(), 123),
    (col("ns").dt.second(), 0),
    (col("s").dt.hour(), 0),
    (col("us").dt.date(), datetime.date(2024, 1, 1)),
    (col("us").dt.truncate("1ms"), datetime.datetime(2024, 1, 1, 0, 0, 0, 123_000)),
    (col("us").dt.truncate("1s"), datetime.datetime(2024, 1, 1)),
    (col("s").dt.truncate("1h"), datetime.datetime(2024, 1, 1)),
    (col("us").cast(str), "2024-01-01T00:00:00.123456Z"),
    (col("ns").cast(str), "2024-01-01T00:00:00.123456000Z"),
    (text("{}", col("ms")), "2024-01-01T00:00:00.123Z"),
    (when(col("n") > 0).then(col("us")).otherwise(col("ms")), MOMENT),
    (col("us").fill_null(datetime.datetime(2000, 1, 1)), MOMENT),
]


@pytest.mark.parametrize(("expression", "expected"), CASES, ids=[str(expression) for expression, _ in CASES])
def test_expressions_of_times(expression: Any, expected: Any) -> None:
    assert value_of(SCHEMA, ROW, expression) == expected


def test_an_overflow_is_an_error_of_the_record() -> None:
    schema = pa.schema([("s", pa.timestamp("s")), ("ns", pa.timestamp("ns"))])
    row = {"s": datetime.datetime(2500, 1, 1), "ns": datetime.datetime(2024, 1, 1)}
    with pytest.raises(DataError, match="overflow"):
        computed(schema, [row], out=col("s") > col("ns"))


def test_event_time_is_floored_and_the_column_is_not() -> None:
    for type_ in TYPES:
        per_second = PER_SECOND[type_.unit]
        values = [1_704_067_200 * per_second + 123_456_789 * per_second // 1_000_000_000, -1]
        batch = pa.record_batch({"t": column(values, type_)})
        stream = Topology("job").stream(memory("in", schema=batch.schema, rows=batch), timestamp="t", disorder="100000d")
        found = stream.with_columns(at=event_time()).collect()
        assert whole(found.column("t")) == values
        assert whole(found.column("at")) == [value * 1000 // per_second for value in values]


class Moves(Processor):
    """Keeps a moment and hands it on."""

    output = pa.schema([("key", pa.timestamp("us")), ("t", pa.timestamp("us", "UTC")), ("before", pa.timestamp("ns"))])

    def open(self, ctx: Any) -> None:
        self.last = ctx.state.value("last", datetime.datetime)

    def process(self, row: Any, ctx: Any) -> Any:
        before = self.last.get()
        self.last.set(row.t)
        yield {"key": ctx.key, "t": row.t, "before": before}


def test_a_processor_sees_microseconds() -> None:
    driver = driver_of(pa.schema([("t", pa.timestamp("us"))]), lambda rows: rows.key_by("t").process(Moves, name="moves"))
    for _ in range(2):
        driver.send("in", {"t": MOMENT}, timestamp=0)
        driver.checkpoint()
        driver.crash_and_restore()
    expected = {"key": MOMENT, "t": ZONED, "before": MOMENT}
    assert driver.read("out") == [{**expected, "before": None}, expected]


def test_python_does_not_drop_nanoseconds() -> None:
    batch = pa.record_batch({"t": column([1_001], pa.timestamp("ns"))})
    stream = Topology("job").stream(memory("in", schema=batch.schema, rows=batch))
    with pytest.raises(Exception, match="digits below a microsecond"):
        stream.map(lambda row: {"t": row.t}, schema=batch.schema).collect()
    fine = stream.with_columns(t=col("t").cast(pa.timestamp("us"))).map(lambda row: {"t": row.t}, schema={"t": datetime.datetime})
    assert fine.collect().num_rows == 1


ALIKE = [
    (pa.dictionary(pa.int32(), pa.string()), pa.string(), ["a", "b", None]),
    (pa.dictionary(pa.int8(), pa.int64()), pa.int64(), [1, 2, None]),
    (pa.string_view(), pa.string(), ["a", "b", None]),
    (pa.binary_view(), pa.binary(), [b"a", b"\xff", None]),
    (pa.binary(2), pa.binary(), [b"ab", b"\xff\x00", None]),
    (pa.float16(), pa.float32(), [1.5, -0.25, None]),
    (pa.large_string(), pa.large_string(), ["a", "b", None]),
    (pa.large_binary(), pa.large_binary(), [b"a", b"\xff", None]),
    (pa.date64(), pa.date64(), [datetime.date(2024, 1, 1), datetime.date(1969, 1, 1), None]),
]


@pytest.mark.parametrize(("type_", "read_as", "values"), ALIKE, ids=str)
def test_types_that_say_only_how_values_lie_are_read_as_their_values(type_: Any, read_as: Any, values: Any, tmp_path: Any) -> None:
    array = pa.array(values, pa.float32()).cast(type_) if type_ == pa.float16() else pa.array(values, type_)
    batch = pa.record_batch({"i": pa.array([1, 2, 3]), "v": array})
    assert Schema.of(batch.schema).field("v").type == read_as
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
        writer.write_batch(batch)
    stream = Topology("job").stream(files(tmp_path / "a.arrow", schema=batch.schema))
    found = stream.filter(col("v").is_not_null() | (col("i") > 0)).collect()
    assert found.schema.field("v").type == read_as
    assert found.column("v").to_pylist() == values
    rows = stream.key_by("v").aggregate(n=count()).to_stream().collect()
    assert rows.num_rows == 2


@pytest.mark.parametrize(
    ("type_", "remedy"),
    [(pa.time32("s"), "int64"), (pa.time64("us"), "int64"), (pa.null(), "string"), (pa.decimal128(5, -2), "scale")],
    ids=str,
)
def test_other_types_are_refused_by_name_with_what_to_use(type_: Any, remedy: str) -> None:
    with pytest.raises(TopologyError, match=r"'v'.*not supported") as raised:
        Topology("job").stream(memory("in", schema=pa.schema([("v", type_)])))
    assert remedy in str(raised.value)


def test_durations_have_no_text_but_milliseconds() -> None:
    with pytest.raises(TopologyError, match="no text"):
        value_of(SCHEMA, ROW, (col("us") - col("ms")).cast(str))
    assert value_of(SCHEMA, ROW, (lit(1500).cast(pa.duration("us"))).cast(int)) == 1500


NANOSECONDS: list[tuple[pa.DataType, int]] = [
    (pa.timestamp("ns", "UTC"), 1_700_000_000_123_456_789),
    (pa.timestamp("ns"), -1),
    (pa.duration("ns"), 1_001),
]


@pytest.mark.parametrize(("type_", "value"), NANOSECONDS, ids=str)
def test_what_python_cannot_hold_is_read_as_a_whole_number_and_can_be_sent_again(type_: pa.DataType, value: int) -> None:
    """A sink of tests, collected rows and states show it; no other package has a say in it."""
    schema = pa.schema([("k", pa.string()), ("t", type_), ("many", pa.list_(type_)), ("one", pa.struct([("t", type_)]))])
    row = {"k": "a", "t": value, "many": [value, None, 0], "one": {"t": value}}
    driver = driver_of(schema, lambda rows: rows)
    driver.send("in", row, timestamp=0)
    (found,) = driver.read("out")
    assert (found["t"], found["one"], found["many"][:2]) == (value, {"t": value}, [value, None])
    assert not isinstance(found["many"][2], int)
    driver.send("in", found, timestamp=1)
    assert driver.read("out") == [found]
    out = memory("out")
    topology = Topology("collects")
    topology.stream(memory("in", schema=schema, rows=[row])).to(out)
    topology.run()
    assert out.rows() == [found]
    table = driver_of(schema, lambda rows: rows.key_by("k").aggregate(last=col("t").last(), name="last").to_stream())
    table.send("in", row, timestamp=0)
    assert table.state("last") == {"a": {"last": value}}


@pytest.mark.parametrize("type_", [pa.timestamp("ms", "UTC"), pa.timestamp("us"), pa.timestamp("s")], ids=str)
def test_years_that_python_does_not_know_are_read_as_whole_numbers(type_: pa.DataType) -> None:
    far = pa.table({"t": pa.array([2**62, 0, None], pa.int64()).cast(type_)})
    driver = driver_of(far.schema, lambda rows: rows)
    driver.send_batch("in", far, timestamps=[0, 0, 0])
    found = [row["t"] for row in driver.read("out")]
    assert (found[0], found[1].year, found[2]) == (2**62, 1970, None)


@pytest.mark.parametrize(
    ("type_", "given_value", "kept"),
    [
        (pa.timestamp("ns"), pa.scalar(1_001, pa.timestamp("ns")), 1_001),
        (pa.timestamp("us"), pa.scalar(-1, pa.timestamp("ns")), -1),
        (pa.timestamp("ns"), pa.scalar(7, pa.timestamp("us")), 7_000),
        (pa.duration("ns"), pa.scalar(1_001, pa.duration("ns")), 1_001),
        (pa.duration("ms"), pa.scalar(2_999_999, pa.duration("ns")), 2),
    ],
    ids=["same", "floored", "coarser", "duration", "floored duration"],
)
def test_scalars_of_pyarrow_keep_their_nanoseconds(type_: pa.DataType, given_value: Any, kept: int) -> None:
    """Times that are finer than their column are floored, as everywhere."""
    schema = pa.schema([("t", type_)])
    topology = Topology("scalars")
    found = topology.stream(memory("in", schema=schema, rows=[{"t": given_value}])).collect()
    assert found.column("t").cast(pa.int64()).to_pylist() == [kept]
