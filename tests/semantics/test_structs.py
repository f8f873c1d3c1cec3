"""Structs: one field of them, and unnest, which makes a column of each."""

import datetime
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, TopologyError, col, files, memory

INNER = pa.struct([("lat", pa.float64()), ("tags", pa.list_(pa.string()))])
ADDRESS = pa.struct(
    [
        ("city", pa.string()), ("zip", pa.int32()), ("open", pa.bool_()), ("fee", pa.decimal128(9, 2)), ("day", pa.date32()),
        ("since", pa.timestamp("us", "UTC")), ("where", INNER), ('a "quoted": name, ü', pa.string()),
    ]
)  # fmt: skip
SCHEMA = pa.schema([pa.field("id", pa.int64(), False), pa.field("address", ADDRESS)])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(['"', "\\", '{"city":"x"}', "null", ",", "]}", ""])
ADDRESSES = st.none() | st.fixed_dictionaries(
    {
        "city": st.none() | TEXT,
        "zip": st.none() | st.integers(-(2**31), 2**31 - 1),
        "open": st.none() | st.booleans(),
        "fee": st.none() | st.decimals(-9999, 9999, places=2),
        "day": st.none() | st.dates(),
        "since": st.none() | st.datetimes(timezones=st.just(datetime.UTC)),
        "where": st.none()
        | st.fixed_dictionaries(
            {"lat": st.none() | st.floats(allow_nan=False), "tags": st.none() | st.lists(st.none() | TEXT, max_size=2)}
        ),
        'a "quoted": name, ü': st.none() | TEXT,
    }
)


def stream(values: list[Any]) -> Any:
    rows = [{"id": i, "address": value} for i, value in enumerate(values)]
    return Topology("t").stream(memory("in", schema=SCHEMA, rows=rows))


@settings(max_examples=150, deadline=None)
@given(st.lists(ADDRESSES, min_size=1, max_size=4))
def test_unnest_gives_each_field_as_a_column_of_its_type(values: list[Any]) -> None:
    found = stream(values).unnest("address").collect()
    assert found.schema.names == ["id", *(ADDRESS.field(i).name for i in range(ADDRESS.num_fields))]
    assert [found.schema.field(i + 1).type for i in range(ADDRESS.num_fields)] == [ADDRESS.field(i).type for i in range(ADDRESS.num_fields)]
    empty = dict.fromkeys(found.schema.names[1:])
    assert found.to_pylist() == [{"id": i, **(empty if value is None else value)} for i, value in enumerate(values)]


def test_a_field_of_a_field() -> None:
    rows = stream([None, {"where": {"lat": 1.5, "tags": ["x"]}}, {"where": None}])
    found = rows.select(
        lat=col("address").struct.field("where").struct.field("lat"),
        tag=col("address").struct.field("where").struct.field("tags").list.first(),
    )
    assert found.collect().to_pylist() == [{"lat": None, "tag": None}, {"lat": 1.5, "tag": "x"}, {"lat": None, "tag": None}]


def test_fields_are_columns_like_others() -> None:
    rows = stream(
        [{"city": "Lima", "fee": Decimal("0.10")}, {"city": "Cusco", "fee": Decimal("0.20")}, {"city": "Lima", "fee": Decimal("0.30")}]
    )
    table = rows.unnest("address").key_by("city").aggregate(fees=col("fee").sum())
    assert table.to_stream().collect().column("fees").to_pylist()[-1] == Decimal("0.40")
    assert rows.filter(col("address").struct.field("city") == "Lima").collect().num_rows == 2


def test_structs_of_json_lines_in_any_order_of_fields(tmp_path: Any) -> None:
    lines = [{"id": 1, "address": {"zip": 7, "city": "a\u00e9\n"}}, {"address": {"city": None}, "id": 2}, {"id": 3, "address": None}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    schema = pa.schema([("id", pa.int64()), ("address", pa.struct([("city", pa.string()), ("zip", pa.int64())]))])
    found = Topology("t").stream(files(tmp_path / "a.jsonl", schema=schema)).unnest("address").collect().to_pylist()
    assert found == [{"id": 1, "city": "aé\n", "zip": 7}, {"id": 2, "city": None, "zip": None}, {"id": 3, "city": None, "zip": None}]


def test_several_structs_stand_where_they_stood() -> None:
    one, two = pa.struct([("a", pa.int64()), ("b", pa.int64())]), pa.struct([("c", pa.int64())])
    schema = pa.schema([("x", one), ("k", pa.string()), ("y", two)])
    rows = [{"x": {"a": 1, "b": 2}, "k": "k", "y": {"c": 3}}]
    found = Topology("t").stream(memory("in", schema=schema, rows=rows)).unnest("y", "x").collect()
    assert list(found.to_pylist()[0].items()) == [("a", 1), ("b", 2), ("k", "k"), ("c", 3)]


def test_a_field_that_is_never_null_is_null_where_the_struct_may_be() -> None:
    inner = pa.struct([pa.field("a", pa.int64(), False), pa.field("b", pa.int64())])
    for nullable in (False, True):
        schema = pa.schema([pa.field("x", inner, nullable)])
        found = Topology("t").stream(memory("in", schema=schema)).unnest("x").schema
        assert (found.field("a").nullable, found.field("b").nullable) == (nullable, True)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda rows: rows.unnest(), "needs the name of a column"),
        (lambda rows: rows.unnest("id"), "'id' is no struct"),
        (lambda rows: rows.unnest("adress"), "unknown column 'adress'"),
        (lambda rows: rows.unnest(col("address")), "needs names of columns"),
        (lambda rows: rows.with_columns(city=col("id")).unnest("address"), "two columns 'city'"),
        (lambda rows: rows.select(x=col("address").struct.field("town")), "has no field 'town'"),
        (lambda rows: rows.select(x=col("id").struct.field("city")), "a struct"),
        (lambda rows: rows.select(x=col("address").struct.unnest()), "unnest"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_written(wrong: Any, says: str) -> None:
    with pytest.raises((TopologyError, AttributeError), match=says):
        wrong(stream([]))
