"""Rows as user code sees them, and what it may return for them."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import pickle
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from streamdsl import Config, Topology, UserCodeError, event_time, memory
from streamdsl._native.rows.row import row_of
from streamdsl.schema import Schema
from streamdsl.testing import TopologyTestDriver

UTC = datetime.UTC


@dataclasses.dataclass
class Order:
    id: int
    at: datetime.datetime
    day: datetime.date
    price: Decimal
    tags: list[str]
    raw: bytes
    note: str | None
    ok: bool


ORDER = Order(
    7,
    datetime.datetime(1969, 12, 31, 23, 59, 59, 1000, tzinfo=UTC),
    datetime.date(2024, 2, 29),
    Decimal("12.500000000"),
    ["a", "b"],
    b"\x00\xff",
    None,
    True,
)


def through(function: Any, verb: str = "map", schema: Any = Order) -> list[Any]:
    topology = Topology("job")
    getattr(topology.stream(memory("in", schema=Order)), verb)(function, **({} if schema is None else {"schema": schema})).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send("in", ORDER, timestamp=3)
    return driver.read("out")


def test_values_have_python_types() -> None:
    seen = []
    through(seen.append, "peek", None)
    (found,) = seen
    assert found == dataclasses.asdict(ORDER)
    assert (found.at, found.day, found.price, found.tags, found.raw, found.note, found.ok) == dataclasses.astuple(ORDER)[1:]
    assert type(found["ok"]) is bool
    assert "note" in found and "nothing" not in found
    assert list(found.keys()) == [field.name for field in dataclasses.fields(Order)]
    assert dict(found) == found.asdict()


def test_unknown_columns_name_the_nearest() -> None:
    seen = []
    through(seen.append, "peek", None)
    with pytest.raises(AttributeError, match=r"'prise'.*did you mean 'price'"):
        _ = seen[0].prise
    with pytest.raises(KeyError, match="known: id, at, day"):
        _ = seen[0]["nothing"]


def test_a_row_that_is_kept_stays_as_it_was() -> None:
    kept: list[Any] = []
    topology = Topology("job")
    topology.stream(memory("in", schema={"n": int})).peek(lambda row: kept.append(row) if row.n % 2 else None).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send_batch("in", [{"n": n} for n in range(10)], timestamps=range(10))
    driver.send_batch("in", [{"n": n} for n in range(10, 20)], timestamps=range(10))
    assert [row.n for row in kept] == list(range(1, 20, 2))


class Named(NamedTuple):
    id: int
    note: str | None


@pytest.mark.parametrize(
    "made",
    [lambda row: {"id": row.id, "note": row.note}, lambda row: Named(row.id, row.note), lambda row: row, lambda row: ORDER],
    ids=["dict", "namedtuple", "row", "dataclass"],
)
def test_ways_to_return_a_row(made: Any) -> None:
    assert through(made, schema={"id": int, "note": str | None}) == [{"id": 7, "note": None}]


def test_flat_map_takes_any_iterable() -> None:
    def several(row: Any) -> Iterator[dict[str, int]]:
        yield from ({"id": row.id + i} for i in range(3))

    assert [found["id"] for found in through(several, "flat_map", {"id": int})] == [7, 8, 9]
    assert through(lambda row: None, "flat_map", {"id": int}) == []
    assert through(lambda row: {"id": 1}, "flat_map", {"id": int}) == [{"id": 1}]


def test_whole_batches() -> None:
    def doubled(batch: Any) -> Any:
        assert str(batch.schema.field("at").type).startswith("timestamp")
        return pa.RecordBatch.from_pydict({"id": [2 * n for n in batch["id"].to_pylist()] * 2, "_row": [0, 0]})

    assert through(doubled, "map_batches", {"id": int}) == [{"id": 14}, {"id": 14}]


def test_rows_of_their_own_compare_and_print() -> None:
    row = row_of(Schema.of({"a": int, "b": str}), {"a": 1, "b": "x"})
    assert row == {"a": 1, "b": "x"}
    assert row != {"a": 1}
    assert repr(row) == "Row(a=1, b='x')"
    with pytest.raises(TypeError):
        hash(row)


# Rows as mappings ------------------------------------------------------------------------------------------------------

METHODS = ("keys", "values", "items", "get", "asdict")


def rows_of_methods() -> Any:
    """Rows whose columns are called like what a mapping has."""
    data = [{name: i + 10 * n for i, name in enumerate(METHODS)} for n in range(2)]
    return Topology("t").stream(memory("m", schema=dict.fromkeys(METHODS, int), rows=data))


def test_a_row_is_a_mapping_whatever_its_columns_are_called() -> None:
    def remade(row: Any) -> dict[str, Any]:
        assert isinstance(row, Mapping)
        assert dict(row) == {**row} == row.asdict() == dict(row.items()) == dict(zip(row, row.values(), strict=True))
        assert len(row) == len(METHODS) and "items" in row and "nothing" not in row
        assert row.get("get") == row["get"] and row.get("nothing") is None and row.get("nothing", 7) == 7
        assert row.keys() & {"keys", "nothing"} == {"keys"}
        return {**row, "n": len(dict(row))}

    found = rows_of_methods().map(remade, schema={**dict.fromkeys(METHODS, int), "n": int}).collect().to_pylist()
    assert found == [{**{name: i + 10 * n for i, name in enumerate(METHODS)}, "n": 5} for n in range(2)]


def test_rows_match_patterns() -> None:
    def told(row: Any) -> dict[str, str]:
        match row:
            case {"keys": 0, **rest}:
                return {"found": f"first {sorted(rest)}"}
            case {"keys": int(other), "get": _}:
                return {"found": f"other {other}"}
        return {"found": "none"}

    found = rows_of_methods().map(told, schema={"found": str}).collect().column("found").to_pylist()
    assert found == ["first ['asdict', 'get', 'items', 'values']", "other 10"]


def test_rows_are_copied_and_pickled() -> None:
    kept: list[Any] = []
    topology = Topology("job")
    topology.stream(memory("in", schema=Order)).peek(kept.append).to(memory("out"))
    driver = TopologyTestDriver(topology)
    for n in range(3):
        driver.send("in", dataclasses.replace(ORDER, id=n), timestamp=n)
    for again in (pickle.loads(pickle.dumps(kept)), copy.deepcopy(kept), copy.copy(kept)):  # noqa: S301
        assert again == kept
        assert [row.id for row in again] == [0, 1, 2]
        assert again[1].asdict() == dataclasses.asdict(dataclasses.replace(ORDER, id=1))
    assert pickle.loads(pickle.dumps(row_of(Schema.of({"a": int}), {"a": 1}))).a == 1  # noqa: S301


# Batches of another number of rows ---------------------------------------------------------------------------------------

SCHEMA = {"a": str, "t": int}
SIX = [{"a": str(i), "t": 1_000 * i} for i in range(6)]


def timed(function: Any, batch_rows: int) -> list[dict[str, Any]]:
    rows = Topology("t").stream(memory("m", schema=SCHEMA, rows=SIX), timestamp="t")
    made = rows.map_batches(function, schema=SCHEMA).with_columns(at=event_time())
    found: list[dict[str, Any]] = made.collect(Config(batch_rows=batch_rows)).to_pylist()
    return found


@pytest.mark.parametrize("batch_rows", [6, 2, 1])
@pytest.mark.parametrize(
    "picked",
    [lambda n: [n - 1], lambda n: list(range(n)) * 2, lambda n: list(range(n))[::-1], lambda n: []],
    ids=["fewer", "more", "rearranged", "none"],
)
def test_times_follow_the_column_row(batch_rows: int, picked: Any) -> None:
    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = pa.array(picked(batch.num_rows), pa.int64())
        return batch.take(rows).append_column("_row", rows)

    found = timed(function, batch_rows)
    assert all(row["at"].timestamp() * 1_000 == row["t"] for row in found)
    assert len(found) == sum(len(picked(batch_rows)) for _ in range(6 // batch_rows))


@pytest.mark.parametrize("batch_rows", [6, 2])
def test_another_number_of_rows_is_refused(batch_rows: int) -> None:
    with pytest.raises(UserCodeError, match=r"got \d rows and returned 1.*add the column '_row'"):
        timed(lambda batch: batch.slice(0, 1), batch_rows)
    with pytest.raises(UserCodeError, match=r"'_row' has 6; it names input rows"):
        timed(lambda batch: batch.append_column("_row", pa.array([6] * batch.num_rows)), 6)


@pytest.mark.parametrize(
    ("made", "schema"),
    [
        (lambda batch: pa.record_batch({"n": ["1"] * batch.num_rows}), {"n": int}),
        (lambda batch: pa.record_batch({"n": [True] * batch.num_rows}), {"n": int}),
        (lambda batch: pa.record_batch({"n": [1.5] * batch.num_rows}), {"n": int}),
        (lambda batch: pa.record_batch({"n": [1] * batch.num_rows}), {"n": bool}),
        (lambda batch: pa.record_batch({"n": [2**53 + 1] * batch.num_rows}), {"n": float}),
        (lambda batch: pa.record_batch({"n": [1] * batch.num_rows}), {"n": str}),
        (lambda batch: pa.record_batch({"n": ["x"] * batch.num_rows}), {"n": bytes}),
    ],
    ids=["text", "bool", "fraction", "int", "beyond 2**53", "number", "text for bytes"],
)
def test_columns_of_a_batch_are_of_the_declared_sort(made: Any, schema: Any) -> None:
    rows = Topology("t").stream(memory("m", schema=SCHEMA, rows=SIX), timestamp="t")
    with pytest.raises(UserCodeError, match="the column 'n'"):
        rows.map_batches(made, schema=schema).collect()
    assert rows.map_batches(made, schema=schema, errors="skip").collect().num_rows == 0
