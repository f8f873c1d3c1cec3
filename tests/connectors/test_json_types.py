"""Every type that a column can have: what is written as JSON is read as the same, and what is no value of it is a bad record."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from streamdsl import Topology, TopologyError, kafka, memory
from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.formats.decode import Csv, JsonLines
from streamdsl.schema import Field, Schema
from tests.types.test_round_trips import TYPES

DURATIONS = [pa.duration(unit) for unit in ("s", "ms", "us", "ns")]
#: How values lie in memory, and what they are read as.
ALIKE = {
    pa.float16(): pa.float32(),
    pa.string_view(): pa.string(),
    pa.dictionary(pa.int8(), pa.string()): pa.string(),
    pa.binary(3): pa.binary(),
}


def inside(type_: pa.DataType) -> list[pa.DataType]:
    return [
        type_,
        pa.list_(type_),
        pa.large_list(type_),
        pa.list_(type_, 1),
        pa.struct([("a", type_)]),
        pa.map_(pa.string(), type_),
        pa.list_(pa.struct([("a", pa.list_(type_))])),
    ]


def wrapped(value: Any, type_: pa.DataType, inner: pa.DataType) -> Any:
    """Return a value of `type_` that holds one of `inner`."""
    if type_ == inner:
        return value
    if pa.types.is_struct(type_):
        return {type_.field(0).name: wrapped(value, type_.field(0).type, inner)}
    if pa.types.is_map(type_):
        return [("k", wrapped(value, type_.item_type, inner))]
    return [wrapped(value, type_.value_type, inner)]


def one(type_: pa.DataType) -> Any:
    """Return a value of a type."""
    if pa.types.is_decimal(type_):
        return Decimal(0)
    if pa.types.is_boolean(type_):
        return True
    if "string" in str(type_):
        return "1"
    if "binary" in str(type_):
        return b"\xff"
    if pa.types.is_date(type_):
        return datetime.date(2024, 2, 29)
    return 1_000 if pa.types.is_temporal(type_) else 1


def read(type_: pa.DataType, values: list[Any]) -> Any:
    return JsonLines([Field("v", type_)], "here").decode_records([json.dumps({"v": value}).encode() for value in values])


@pytest.mark.parametrize("type_", [*DURATIONS, *dict.fromkeys(one[0] for one in TYPES.values() if not pa.types.is_nested(one[0]))], ids=str)
def test_what_is_written_is_read(type_):
    value = one(type_)
    for outer in inside(type_):
        column = pa.array([wrapped(value, outer, type_), None], outer)
        records = json_lines(pa.record_batch([column], ["v"])).splitlines()
        found = JsonLines([Field("v", outer)], "here").decode_records(records)
        assert not found.bad and found.rows.column(0).type == outer
        assert found.rows.column(0).to_pylist() == column.to_pylist()


@pytest.mark.parametrize("type_", DURATIONS, ids=str)
def test_a_duration_is_a_whole_number_of_its_unit(type_):
    found = read(type_, [5, -1, 2**63, "5", "PT5S", True, 1.5, None, 7])
    assert found.rows.column(0).cast(pa.int64()).to_pylist() == [5, -1, None, 7]
    assert [bad.index for bad in found.bad] == [2, 3, 4, 5, 6]
    assert all("field 'v'" in bad.reason and f"is not {type_}" in bad.reason for bad in found.bad), found.bad
    lines = Csv([Field("v", type_), Field("n", pa.int64())], ["v", "n"], "here").decode_block(b"5,1\nfive,2\n,3\n-7,4\n")
    assert lines.rows.column("v").cast(pa.int64()).to_pylist() == [5, None, -7]
    assert [bad.reason for bad in lines.bad] == [f"field 'v': 'five' is not {type_}"]


@pytest.mark.parametrize("type_", ALIKE, ids=str)
def test_types_that_say_how_values_lie_are_read_as_their_values_also_inside_others(type_):
    for outer, meant in zip(inside(type_), inside(ALIKE[type_]), strict=True):
        assert Schema.of({"v": outer}).field("v").type == meant


@pytest.mark.parametrize("type_", [pa.time32("s"), pa.time64("us"), pa.month_day_nano_interval()], ids=str)
@pytest.mark.parametrize("source", [lambda schema: kafka("t", schema), lambda schema: memory("in", schema)], ids=["kafka", "memory"])
def test_others_are_refused_when_the_topology_is_built(type_, source):
    for outer in inside(type_):
        with pytest.raises(TopologyError, match=r"column 'v': type .* is not supported") as told:
            Topology("t").stream(source({"v": outer}))
        assert str(type_) in told.value.message and told.value.remedy
