"""Schemas of dataclasses, mappings and Arrow schemas."""

from dataclasses import dataclass, field, make_dataclass
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from streamdsl import Schema, StreamError, Topology, memory
from streamdsl.physical.kinds import kind_of
from tests.dsl.fakes import refused


@dataclass
class Everything:
    a: int
    b: float | None
    c: str
    d: bool
    e: bytes
    f: datetime
    g: date
    h: list[int]


def test_of_a_dataclass():
    schema = Schema.of(Everything)
    assert str(schema) == (
        "a: int64 not null, b: double, c: string not null, d: bool not null, e: binary not null, "
        "f: timestamp[ms, tz=UTC] not null, g: date32[day] not null, h: list<item: int64> not null"
    )


def test_of_mappings_and_arrow():
    assert Schema.of({"a": "int8", "b": pa.string(), "c": int | None}).names == ("a", "b", "c")
    assert Schema.of(pa.schema([pa.field("a", pa.int64(), nullable=False)])).field("a").nullable is False
    schema = Schema.of({"a": int})
    assert Schema.of(schema) is schema
    assert schema.to_arrow() == pa.schema([pa.field("a", pa.int64(), nullable=False)])


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: Schema.of({"a": "int46"}), ["column 'a'", "unknown type 'int46'", "did you mean 'int64'"]),
        (lambda: Schema.of({"a": int | str}), ["column 'a'", "T | None"]),
        (lambda: Schema.of({"a": object}), ["column 'a'", "not a column type"]),
        (lambda: Schema.of(7), ["7 is not a schema"]),
        (lambda: Schema.of(pa.schema([("a", pa.int64()), ("a", pa.int64())])), ["'a' exists twice"]),
        (lambda: Schema.of({"amount": int}).index("amuont"), ["unknown column 'amuont'", "did you mean 'amount'"]),
    ],
)
def test_refused(make, parts):
    with refused(*parts):
        make()


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (pa.bool_(), "bool"),
        (pa.int8(), "i64"),
        (pa.uint32(), "i64"),
        (pa.uint64(), "u64"),
        (pa.float32(), "f64"),
        (pa.timestamp("ns"), "i64"),
        (pa.date32(), "i64"),
        (pa.large_string(), "str"),
        (pa.binary(), "str"),
        (pa.list_(pa.int64()), "str"),
        (Schema.of({"a": Decimal}).field("a").type, "str"),
    ],
)
def test_kinds(type_, kind):
    assert kind_of(type_) == kind


def test_an_unsupported_type_is_refused():
    with refused("time32[s] is not supported"):
        kind_of(pa.time32("s"))


@dataclass
class WithDefaults:
    a: int
    b: str = "none"
    c: float | None = None
    d: list[int] = field(default_factory=lambda: [1])


def test_a_mapping_means_the_same_as_a_dataclass():
    mapping = {"a": int, "b": float | None, "c": "int64", "d": "string | None", "e": pa.int8(), "f": pa.field("", pa.int8())}
    assert [column.nullable for column in Schema.of(mapping).fields] == [False, True, False, True, False, True]
    assert Schema.of({"a": int, "b": float | None}) == Schema.of(make_dataclass("Row", [("a", int), ("b", float | None)]))


def test_a_default_makes_a_column_optional():
    schema = Schema.of(WithDefaults)
    assert [column.required for column in schema.fields] == [True, False, False, False]
    assert [column.nullable for column in schema.fields] == [False, False, True, False]
    assert schema.field("d").filled(pa.array([None, [2]], pa.list_(pa.int64()))).to_pylist() == [[1], [2]]
    rows = Topology("t").stream(memory("m", schema=WithDefaults, rows=[{"a": 1}, {"a": 2, "b": "x", "c": 0.5, "d": []}])).collect()
    assert rows.to_pylist() == [{"a": 1, "b": "none", "c": None, "d": [1]}, {"a": 2, "b": "x", "c": 0.5, "d": []}]


@pytest.mark.parametrize(
    ("hint", "default", "parts"),
    [
        (int, "x", ["column 'a'", "default 'x' is not int64"]),
        (int, None, ["never null", "default is None"]),
        (int | None, 3, ["may be null", "default is 3"]),
    ],
)
def test_a_default_that_is_none_of_the_values_is_refused(hint, default, parts):
    with refused(*parts):
        Schema.of(make_dataclass("Row", [("a", hint, default)]))


def test_a_null_in_a_column_that_is_never_null_is_refused():
    with refused("'a' is null in row 1"):
        memory("m", schema={"a": int, "b": str | None}, rows=[{"a": 1}, {"b": "x"}])
    topology = Topology("t")
    rows = topology.stream(memory("m", schema={"a": int}, rows=[{"a": 1}, {"a": 2}]))
    with pytest.raises(StreamError, match="'b' is null"):
        rows.map(lambda row: {"b": None}, schema={"b": float}).collect()
