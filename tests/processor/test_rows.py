"""Rows as user code sees them, and what it may return for them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from streamdsl import Topology, memory
from streamdsl._native.operators.row import row_of
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
    assert found.keys() == tuple(field.name for field in dataclasses.fields(Order))
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
        import pyarrow as pa

        assert str(batch.schema.field("at").type).startswith("timestamp")
        return pa.RecordBatch.from_pydict({"id": [2 * n for n in batch["id"].to_pylist()] * 2})

    assert through(doubled, "map_batches", {"id": int}) == [{"id": 14}, {"id": 14}]


def test_rows_of_their_own_compare_and_print() -> None:
    row = row_of(Schema.of({"a": int, "b": str}), {"a": 1, "b": "x"})
    assert row == {"a": 1, "b": "x"}
    assert row != {"a": 1}
    assert repr(row) == "Row(a=1, b='x')"
    with pytest.raises(TypeError):
        hash(row)
