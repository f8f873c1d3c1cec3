"""Rows in memory."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pytest

from streamdsl.connectors.memory import memory
from streamdsl.errors import ConnectorError, TopologyError
from tests.connectors.cases import read_all


@dataclass
class Order:
    id: int
    city: str | None = None


def test_rows_can_be_dicts_dataclasses_or_tables():
    for rows in ([{"id": 1, "city": "Lima"}], [Order(1, "Lima")], pa.table({"id": [1], "city": ["Lima"]})):
        source = memory("orders", None, rows)
        assert read_all(source, ["id", "city"])[0] == [[{"id": 1, "city": "Lima"}]]


def test_rows_are_dealt_out():
    source = memory("orders", {"id": "int64"}, [{"id": i} for i in range(5)], splits=2)
    assert [read_all(source, ["id"], split=split)[0] for split in source.splits()] == [
        [[{"id": 0}, {"id": 2}, {"id": 4}]],
        [[{"id": 1}, {"id": 3}]],
    ]


def test_rows_must_fit():
    with pytest.raises(TopologyError, match="do not fit"):
        memory("orders", Order, [{"id": "x"}])
    with pytest.raises(TopologyError, match="did you mean 'city'"):
        memory("orders", Order, [{"id": 1, "cty": "Lima"}])
    with pytest.raises(TopologyError, match="row 0"):
        memory("orders", Order, [5])


def test_collected_rows_are_typed_and_are_a_source():
    sink = memory("orders", Order)
    assert sink.rows() == []
    writer = sink.open_writer(sink.schema, (), 0, 1, None)
    writer.write(pa.record_batch({"id": [1], "city": ["Lima"]}), pa.array([0], pa.int64()))
    assert sink.table().schema.names == ["id", "city"]
    assert read_all(sink, ["city"])[0] == [[{"city": "Lima"}]]


def test_a_state_of_another_object_is_refused():
    with pytest.raises(ConnectorError, match="are gone"):
        memory("orders", Order).open_writer(memory("orders", Order).schema, (), 0, 1, {"rows": 2, "columns": ["id: int64", "city: string"]})
