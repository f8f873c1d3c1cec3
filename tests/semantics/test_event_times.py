"""Where event times come from: units, floats, texts, zones, and the numbers that are refused."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from streamdsl import DataError, Topology, TopologyError, event_time, files, memory
from streamdsl.testing import TopologyTestDriver

UTC = datetime.UTC
AT = datetime.datetime(2024, 3, 10, 2, 30, tzinfo=UTC)
SECONDS = 1_710_037_800


def times(type_: Any, values: list[Any], **how: Any) -> list[Any]:
    rows = [{"t": value} for value in values]
    source = memory("m", schema=pa.schema([("t", type_)]), rows=rows)
    found: list[Any] = Topology("t").stream(source, timestamp="t", disorder="1d", **how).select(at=event_time()).collect()["at"].to_pylist()
    return found


@pytest.mark.parametrize(
    ("type_", "value", "how", "ms"),
    [
        (pa.int64(), SECONDS, {"unit": "s"}, 0),
        (pa.int32(), SECONDS, {"unit": "s"}, 0),
        (pa.int64(), SECONDS * 1_000 + 5, {"unit": "ms"}, 5),
        (pa.int64(), SECONDS * 1_000 + 5, {}, 5),
        (pa.int64(), SECONDS * 1_000_000 + 5_999, {"unit": "us"}, 5),
        (pa.int64(), SECONDS * 10**9 + 5_999_999, {"unit": "ns"}, 5),
        (pa.float64(), SECONDS + 0.123, {"unit": "s"}, 123),
        (pa.float64(), SECONDS + 0.1239, {"unit": "s"}, 123),
        (pa.float64(), SECONDS * 1_000 + 5.75, {"unit": "ms"}, 5),
        (pa.decimal128(20, 6), Decimal("1710037800.123456"), {"unit": "s"}, 123),
        (pa.string(), str(SECONDS) + ".5", {"unit": "s"}, 500),
        (pa.timestamp("s"), SECONDS, {}, 0),
        (pa.timestamp("us"), SECONDS * 1_000_000 + 5_999, {}, 5),
        (pa.timestamp("ns", "UTC"), SECONDS * 10**9 + 5_999_999, {}, 5),
        (pa.string(), "2024-03-10T02:30:00.123456789Z", {}, 123),
        (pa.string(), "2024-03-10 02:30:00", {}, 0),
        (pa.string(), "2024-03-10T04:30:00+02:00", {}, 0),
        (pa.string(), "2024-03-10T04:30:00+02:00", {"tz": "Asia/Tokyo"}, 0),
        (pa.string(), "2024-03-10 11:30:00", {"tz": "Asia/Tokyo"}, 0),
        (pa.timestamp("ms"), datetime.datetime(2024, 3, 10, 11, 30), {"tz": "Asia/Tokyo"}, 0),
        (pa.string(), "10.03.2024 02:30", {"format": "%d.%m.%Y %H:%M"}, 0),
        (pa.string(), "10.03.2024 11:30:00.25", {"format": "%d.%m.%Y %H:%M:%S.%f", "tz": "Asia/Tokyo"}, 250),
        (pa.string(), "10/Mar/2024:04:30:00 +0200", {"format": "%d/%b/%Y:%H:%M:%S %z"}, 0),
    ],
)
def test_units_floats_and_texts(type_: Any, value: Any, how: dict[str, Any], ms: int) -> None:
    assert times(type_, [value], **how) == [AT + datetime.timedelta(milliseconds=ms)]


def test_times_before_1970_are_floored() -> None:
    assert times(pa.float64(), [-0.0005], unit="s") == [datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)]
    assert times(pa.int64(), [-1], unit="ns") == [datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)]


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_integers_of_another_unit_are_refused(unit: str) -> None:
    factor = {"s": 1, "us": 10**6, "ns": 10**9}[unit]
    values = [(SECONDS + n) * factor for n in range(3)]
    with pytest.raises(DataError, match=f'look like .*seconds.*\\n.*unit="{unit}"'):
        times(pa.int64(), values)
    assert times(pa.int64(), values, unit=unit)[0] == AT
    assert len(times(pa.int64(), values[:1], unit="ms") if unit == "s" else [0]) == 1


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_texts_of_another_unit_are_refused(unit: str, tmp_path: Path) -> None:
    values = [str((SECONDS + n) * {"s": 1, "us": 10**6, "ns": 10**9}[unit]) for n in range(3)]
    with pytest.raises(DataError, match=f'look like .*seconds.*\\n.*unit="{unit}"'):
        times(pa.string(), values)
    (tmp_path / "in.csv").write_text("\n".join(["t", *values]) + "\n")
    with pytest.raises(DataError, match="look like"):
        Topology("t").stream(files(tmp_path / "in.csv", schema={"t": str}), timestamp="t").collect()
    assert times(pa.string(), values, unit=unit)[0] == AT


@pytest.mark.parametrize("type_", [pa.int64(), pa.int32(), pa.string()])
def test_dates_without_dashes_are_refused(type_: pa.DataType) -> None:
    values = [20240310, 20240311] if type_ != pa.string() else ["20240310", "20240311"]
    with pytest.raises(DataError, match=r'look like dates.*1970-01-01(.|\n)*format="%Y%m%d"'):
        times(type_, values)
    if type_ == pa.string():
        assert times(type_, values, format="%Y%m%d")[0] == AT.replace(hour=0, minute=0)
    else:
        assert times(type_, values, unit="ms")[0].year == 1970
        assert len(times(type_, [20240310, 20249911])) == 2


def test_small_integers_and_plausible_milliseconds_are_taken() -> None:
    for values in ([0, 1, 2_000_000], [SECONDS * 1_000], [-5, 10**8], [0, SECONDS], []):
        assert len(times(pa.int64(), values)) == len(values)


def test_a_driver_sees_the_same() -> None:
    topology = Topology("t")
    topology.stream(memory("m", schema={"t": float}), timestamp="t", unit="s").to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send("m", {"t": SECONDS + 0.5})
    driver.send("m", {"t": 1.0}, timestamp=SECONDS * 1_000 + 501)
    assert [at for at, _ in driver.read("out", timestamps=True)] == [SECONDS * 1_000 + 500, SECONDS * 1_000 + 501]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_no_time_are_bad_records(value: float) -> None:
    assert times(pa.float64(), [value, SECONDS], unit="s", errors="skip") == [AT]


def test_texts_that_are_no_time_are_bad_records() -> None:
    assert times(pa.string(), ["yesterday", "2024-03-10T02:30:00Z", "2024-02-30"], errors="skip") == [AT]
    assert times(pa.string(), ["x", "10.03.2024 02:30"], format="%d.%m.%Y %H:%M", errors="skip") == [AT]
    with pytest.raises(DataError, match=r"yesterday.*no event time"):
        times(pa.string(), ["yesterday"])


def test_hours_of_the_change_of_clocks() -> None:
    assert times(pa.string(), ["2024-03-31 02:30:00"], tz="Europe/Berlin") == [datetime.datetime(2024, 3, 31, 1, tzinfo=UTC)]
    assert times(pa.string(), ["2024-10-27 02:30:00"], tz="Europe/Berlin") == [datetime.datetime(2024, 10, 27, 0, 30, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("schema", "how", "parts"),
    [
        ({"t": float}, {}, "unit="),
        ({"t": bool}, {}, "event time is"),
        ({"t": int}, {"unit": "m"}, "unit='m' is unknown"),
        ({"t": datetime.datetime}, {"unit": "s"}, "unit='s' says nothing"),
        ({"t": datetime.datetime}, {"tz": "UTC"}, "tz='UTC' says nothing"),
        ({"t": int}, {"format": "%Y"}, "format='%Y' says nothing"),
        ({"t": str}, {"tz": "Mars/Base"}, "is no time zone"),
        ({"t": str}, {"unit": "s", "format": "%Y"}, "unit= is for numbers"),
    ],
)
def test_what_does_not_fit_is_told(schema: Any, how: dict[str, Any], parts: str) -> None:
    with pytest.raises(TopologyError, match=parts):
        Topology("t").stream(memory("m", schema=schema), timestamp="t", **how)


def test_companions_without_a_column_are_told() -> None:
    with pytest.raises(TopologyError, match="without timestamp="):
        Topology("t").stream(memory("m", schema={"t": int}), unit="s")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2024-03-10 02:30:00", AT),
        ("2024-03-10T02:30:00", AT),
        ("2024-03-10T02:30", AT),
        ("2024-03-10T02:30:00Z", AT),
        ("2024-03-10T04:30:00+0200", AT),
        ("2024-03-10T02:30:00.1239999", AT.replace(microsecond=123_000)),
        ("2024-03-10T02:30:00.123456789Z", AT.replace(microsecond=123_000)),
        ("2024-03-10", AT.replace(hour=0, minute=0)),
        (str(SECONDS * 1_000), AT),
    ],
)
def test_texts_of_times_mean_the_same_in_csv_and_json(tmp_path: Path, text: str, at: datetime.datetime) -> None:
    (tmp_path / "a.csv").write_text(f"a,t\nx,{text}\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"a": "x", "t": text}) + "\n")
    for name in ("a.csv", "a.jsonl"):
        found = Topology("t").stream(files(tmp_path / name, schema={"a": str, "t": datetime.datetime})).collect().to_pylist()
        assert found[0]["t"] == at, name


def test_numbers_count_in_the_declared_unit(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"t":{SECONDS}}}\n')
    (tmp_path / "a.csv").write_text(f"t\n{SECONDS}\n")
    for name in ("a.csv", "a.jsonl"):
        rows = Topology("t").stream(files(tmp_path / name, schema=pa.schema([("t", pa.timestamp("s"))])), timestamp="t")
        assert rows.select(at=event_time()).collect().to_pylist() == [{"at": AT}]
