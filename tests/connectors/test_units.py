"""Whole numbers where times are declared: of another unit they are refused, wherever they come from."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamdsl import DataError, Topology, files, memory
from streamdsl.connectors.base import Source
from streamdsl.connectors.kafka.arrow_values import ArrowValues
from streamdsl.connectors.kafka.registry_values import RegistryValues
from streamdsl.connectors.kafka.values import JsonValues
from streamdsl.schema import Schema

UTC = datetime.UTC
SECONDS = 1_710_037_800
AT = datetime.datetime(2024, 3, 10, 2, 30, tzinfo=UTC)
TIMES: dict[str, Any] = {"at": datetime.datetime}
FACTORS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

Make = Callable[[Path, list[Any], Any], Source]


def csv(folder: Path, values: list[Any], schema: Any) -> Source:
    (folder / "in.csv").write_text("\n".join(["at", *map(str, values)]) + "\n")
    return files(folder / "in.csv", schema=schema)


def json_numbers(folder: Path, values: list[Any], schema: Any) -> Source:
    (folder / "in.jsonl").write_text("".join(json.dumps({"at": value}) + "\n" for value in values))
    return files(folder / "in.jsonl", schema=schema)


def json_texts(folder: Path, values: list[Any], schema: Any) -> Source:
    return json_numbers(folder, [str(value) for value in values], schema)


def parquet(folder: Path, values: list[Any], schema: Any) -> Source:
    pq.write_table(pa.table({"at": values}), folder / "in.parquet")
    return files(folder / "in.parquet", schema=schema)


def arrow(folder: Path, values: list[Any], schema: Any) -> Source:
    table = pa.table({"at": values})
    with pa.ipc.new_file(folder / "in.arrow", table.schema) as file:
        file.write(table)
    return files(folder / "in.arrow", schema=schema)


def rows(folder: Path, values: list[Any], schema: Any) -> Source:
    return memory("m", schema=schema, rows=[{"at": value} for value in values])


def table(folder: Path, values: list[Any], schema: Any) -> Source:
    return memory("m", schema=schema, rows=pa.table({"at": values}))


def declared_later(folder: Path, values: list[Any], schema: Any) -> Source:
    return memory("m", rows=pa.table({"at": values})).with_schema(schema)


NUMBERS = [csv, json_numbers, json_texts, parquet, arrow, rows, table, declared_later]


def read(make: Make, folder: Path, values: list[Any], schema: Any = TIMES, **how: Any) -> list[Any]:
    found: list[Any] = Topology("t").stream(make(folder, values, schema), **how).collect()["at"].to_pylist()
    return found


@pytest.mark.parametrize("make", NUMBERS)
@pytest.mark.parametrize("how", [{}, {"timestamp": "at"}])
@pytest.mark.parametrize(("unit", "kind"), [("s", "seconds"), ("us", "microseconds"), ("ns", "nanoseconds")])
def test_numbers_of_another_unit_are_refused(make: Make, how: dict[str, Any], unit: str, kind: str, tmp_path: Path) -> None:
    values = [(SECONDS + n) * FACTORS[unit] for n in range(3)]
    with pytest.raises(DataError, match=rf'column \'at\' look like {kind}: as milliseconds(.|\n)*pa.timestamp\("{unit}", "UTC"\)'):
        read(make, tmp_path, values, **how)
    assert read(make, tmp_path, values, {"at": pa.timestamp(unit, "UTC")}, **how)[0] == AT


@pytest.mark.parametrize("make", NUMBERS)
def test_dates_without_dashes_are_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="look like dates: as milliseconds, 20240310 would be 1970-01-01"):
        read(make, tmp_path, [20240310, 20240311])


@pytest.mark.parametrize("make", NUMBERS)
def test_milliseconds_and_small_numbers_are_taken(make: Make, tmp_path: Path) -> None:
    assert read(make, tmp_path, [SECONDS * 1_000]) == [AT]
    for values in ([0, 1, 2_000_000], [0, SECONDS], [-5, 10**8]):
        assert [value.timestamp() * 1_000 for value in read(make, tmp_path, values)] == values


@pytest.mark.parametrize("make", [csv, json_numbers, parquet, arrow, rows, table])
def test_times_that_are_times_may_lie_in_january_1970(make: Make, tmp_path: Path) -> None:
    at = datetime.datetime(1970, 1, 20, 19, 0, 37, tzinfo=UTC)
    given = at.isoformat() if make in (csv, json_numbers) else at
    assert read(make, tmp_path, [given, given], timestamp="at") == [at, at]


def test_numbers_beside_texts_are_judged(tmp_path: Path) -> None:
    for values in (["2024-03-10T02:30:00Z", SECONDS], ["x", SECONDS]):
        with pytest.raises(DataError, match="look like seconds"):
            read(csv, tmp_path, values)


WITHIN = [
    (list[datetime.datetime], [SECONDS], "'at'"),
    (pa.struct([("on", pa.timestamp("ms", "UTC"))]), {"on": SECONDS}, "'at'.on"),
    (dict[str, datetime.datetime], {"a": SECONDS}, "'at'"),
]


@pytest.mark.parametrize(
    ("make", "type_", "value", "path"),
    [(make, *case) for make in (json_numbers, rows) for case in WITHIN] + [(parquet, *case) for case in WITHIN[:2]],
)
def test_numbers_within_values_are_judged(make: Make, type_: Any, value: Any, path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"column {path} look like seconds"):
        read(make, tmp_path, [value], {"at": type_})


def ipc(values: list[int]) -> bytes:
    out = pa.BufferOutputStream()
    rows = pa.table({"at": values})
    with pa.ipc.new_stream(out, rows.schema) as stream:
        stream.write(rows)
    return out.getvalue().to_pybytes()


def test_values_of_topics_are_judged_by_the_first_that_come() -> None:
    fields = Schema.of(TIMES).fields
    plain = [json.dumps({"at": SECONDS}).encode()]
    for decoder, values in (
        (JsonValues(fields, 1 << 20, "clicks"), plain),
        (ArrowValues(fields, 1 << 20, "clicks"), [ipc([SECONDS])]),
        (RegistryValues(fields, 1 << 20, lambda value, _: json.loads(value), "clicks", None), plain),
    ):
        with pytest.raises(DataError, match="topic 'clicks': the numbers in column 'at' look like seconds"):
            decoder.decode(list(values))
    late = JsonValues(fields, 1 << 20, "clicks")
    assert late.decode([json.dumps({"at": SECONDS * 1_000}).encode()]).rows["at"].to_pylist() == [AT]
    assert late.decode(list(plain)).rows.num_rows == 1  # a later one is good or bad by itself


def test_days_beyond_the_calendar_are_bad_records(tmp_path: Path) -> None:
    pq.write_table(pa.table({"at": pa.array([SECONDS, 19_792], pa.int32())}), tmp_path / "in.parquet")
    source = files(tmp_path / "in.parquet", schema={"at": datetime.date})
    with pytest.raises(DataError, match="'at': 1710037800 is not date32"):
        Topology("t").stream(source).collect()
    assert Topology("t").stream(source, errors="skip").collect()["at"].to_pylist() == [AT.date()]
