"""What files(...) writes, files(...) reads: every format, every type, with nulls and without."""

from __future__ import annotations

import datetime
import decimal
import itertools
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamdsl import Config, Topology, files, memory
from streamdsl._native.flow.convert import python_rows

UTC = datetime.UTC
FORMATS = ("csv", "jsonl", "parquet", "arrow")

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", " ", " a", "a ", '"', '""', "a,b", "a\nb", "a\r\nb", "\r", "\0", "null", "NaN", "1", "true", "\\N", "a\tb", "é😀", "'"]
)
flat: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53 + 1, -(2**63), 2**63 - 1]),
    pa.uint64(): st.integers(0, 2**64 - 1) | st.sampled_from([2**64 - 1, 2**63]),
    pa.float64(): st.floats() | st.sampled_from([1.0, -0.0, 1e300, 5e-324]),
    pa.float32(): st.floats(width=32),
    pa.string(): text,
    pa.large_string(): text,
    pa.binary(): st.binary(max_size=6),
    pa.date32(): st.dates(),
    pa.decimal128(38, 9): st.decimals(-(10**28), 10**28, places=9),
    pa.decimal128(6, 2): st.decimals(-9999, 9999, places=2),
    pa.decimal128(5, 0): st.integers(-99999, 99999).map(decimal.Decimal),
    pa.decimal128(38, 38): st.integers(-(10**38) + 1, 10**38 - 1).map(lambda digits: decimal.Decimal(f"{digits}e-38")),
    pa.decimal128(38, 0): st.integers(-(10**38) + 1, 10**38 - 1).map(decimal.Decimal),
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(UTC)),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", "America/New_York"): st.datetimes(
        datetime.datetime(1975, 1, 1), datetime.datetime(2030, 1, 1), timezones=st.just(UTC)
    ),
    pa.timestamp("ns", "UTC"): st.integers(-(2**63), 2**63 - 1) | st.integers(-1001, 1001),
    pa.timestamp("ns"): st.integers(-(2**63), 2**63 - 1) | st.integers(-1001, 1001),
    pa.timestamp("s", "UTC"): st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0)),
    pa.timestamp("ms", "UTC"): st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
    pa.timestamp("ms"): st.datetimes().map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
    pa.timestamp("ms", "America/New_York"): st.datetimes(
        datetime.datetime(1975, 1, 1), datetime.datetime(2030, 1, 1), timezones=st.just(UTC)
    ).map(lambda at: at.replace(microsecond=0)),
}


def nested() -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    def made(inner: tuple[pa.DataType, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
        type_, values = inner
        some = values | st.none()
        return st.sampled_from(
            [
                (pa.list_(type_), st.lists(some, max_size=3)),
                (pa.struct([("a", type_), ("b", pa.string())]), st.fixed_dictionaries({"a": some, "b": text | st.none()})),
                (pa.map_(pa.string(), type_), st.dictionaries(text, some, max_size=3).map(lambda found: list(found.items()))),
            ]
        )

    leaves = st.sampled_from([item for item in flat.items() if getattr(item[0], "tz", None) != "America/New_York"])
    return leaves.flatmap(made) | leaves.flatmap(made).flatmap(made)


def plain(value: Any) -> Any:
    """Return a value of which NaN is equal to itself, and -0.0 not to 0.0."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else (value, math.copysign(1, value))
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(1, 4))
    fields, columns = [], []
    for number in range(draw(st.integers(1, 3))):
        type_, values = draw(nested() if draw(st.booleans()) else st.sampled_from(list(flat.items())))
        nullable = draw(st.booleans())
        fields.append(pa.field(f"c{number}", type_, nullable))
        columns.append(pa.array(draw(st.lists(values | st.none() if nullable else values, min_size=count, max_size=count)), type_))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def copied(source: Any, sink: Any) -> None:
    topology = Topology("t")
    topology.stream(source).to(sink)
    topology.run(Config())


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@example(table=pa.table({"c": pa.array([-(2**63), -9_223_372_036_000_000_001], pa.timestamp("ns", "UTC"))}), formats=("csv", "jsonl"))
@given(table=tables(), formats=st.sampled_from(list(itertools.product(FORMATS, FORMATS))))
def test_what_goes_in_comes_out(tmp_path_factory: Any, table: pa.Table, formats: tuple[str, str]) -> None:
    is_nested = any(pa.types.is_nested(type_) for type_ in table.schema.types)
    first, second = ("jsonl" if is_nested and name == "csv" else name for name in formats)
    folder: Path = tmp_path_factory.mktemp("trip")
    one, two = folder / f"one.{first}", folder / f"two.{second}"
    copied(memory("m", schema=table.schema, rows=table), files(one, name="one"))
    copied(files(one, schema=table.schema), files(two, name="two"))
    found = Topology("t").stream(files(two, schema=table.schema)).collect()
    assert plain(python_rows(found)) == plain(python_rows(table))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("type_", [pa.int64(), pa.string(), pa.float64(), pa.date32(), pa.binary(), pa.bool_()])
def test_nulls_of_a_single_column_stay(tmp_path: Path, suffix: str, type_: pa.DataType) -> None:
    schema = pa.schema([("v", type_)])
    rows = pa.table({"v": pa.nulls(3, type_)})
    copied(memory("m", schema=schema, rows=rows), files(tmp_path / f"o.{suffix}"))
    assert Topology("u").stream(files(tmp_path / f"o.{suffix}", schema=schema)).collect().num_rows == 3


def test_blank_lines_are_nothing_where_no_null_may_be(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n\n2\n\n")
    assert Topology("t").stream(files(tmp_path / "a.csv", schema={"n": int})).collect().to_pylist() == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(("suffix", "line"), [("csv", "k,b\nx,abc!\n"), ("jsonl", '{"k":"x","b":"abc!"}\n')])
def test_bytes_that_are_no_base64_are_a_bad_record(tmp_path: Path, suffix: str, line: str) -> None:
    (tmp_path / f"a.{suffix}").write_text(line)
    found = Topology("t").stream(files(tmp_path / f"a.{suffix}", schema={"k": str, "b": bytes}, errors="skip")).collect()
    assert found.num_rows == 0


def test_decimals_keep_all_digits_of_numbers_and_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"d":12345678901234567890.12}\n{"d":"12345678901234567890.12"}\n{"d":7}\n')
    found = Topology("t").stream(files(tmp_path / "a.jsonl", schema={"d": decimal.Decimal})).collect().column("d").to_pylist()
    assert found == [decimal.Decimal("12345678901234567890.12")] * 2 + [decimal.Decimal(7)]
