"""Schemas of dataclasses, mappings and Arrow schemas."""

import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, Required, TypedDict

import pyarrow as pa
import pytest

from streamdsl import Schema, StreamError, Topology, memory
from streamdsl.physical.kinds import kind_of
from tests.dsl.fakes import refused


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    RED = "red"
    ONE = 1


@dataclass
class Point:
    lat: float
    lng: float | None = None


class Loose(TypedDict, total=False):
    a: Required[int]
    b: str


class Pair(NamedTuple):
    a: int
    b: str | None = None


Account = NewType("Account", str)


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
        (Schema.of({"a": Decimal}).field("a").type, "dec"),
        (pa.decimal256(50, 9), "str"),
        (pa.duration("us"), "i64"),
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
    nulls = memory("m", schema={"a": int, "b": str | None}, rows=[{"a": 1}, {"b": "x"}])
    with pytest.raises(StreamError, match="'a' is null") as caught:
        Topology("t").stream(nulls).collect()
    assert (caught.value.field, caught.value.topic, caught.value.offset) == ("a", "m", 1)
    topology = Topology("t")
    rows = topology.stream(memory("m", schema={"a": int}, rows=[{"a": 1}, {"a": 2}]))
    with pytest.raises(StreamError, match="'b' is null"):
        rows.map(lambda row: {"b": None}, schema={"b": float}).collect()


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (date, "date32[day] not null"),
        (Decimal, "decimal128(38, 9) not null"),
        (Annotated[Decimal, pa.decimal128(18, 2)], "decimal128(18, 2) not null"),
        (Annotated[Decimal | None, pa.decimal128(18, 2)], "decimal128(18, 2)"),
        (Annotated[int, "cents"], "int64 not null"),
        (Colour, "string not null"),
        (Colour | None, "string"),
        (uuid.UUID, "string not null"),
        (Literal["a", "b"], "string not null"),
        (Literal[1, 2, None], "int64"),
        (Account, "string not null"),
        (Point, "struct<lat: double not null, lng: double> not null"),
        (Optional[Point], "struct<lat: double not null, lng: double>"),  # noqa: UP045
        (Loose, "struct<a: int64 not null, b: string> not null"),
        (Pair, "struct<a: int64 not null, b: string> not null"),
        (list[Point], "list<item: struct<lat: double not null, lng: double>> not null"),
        (Sequence[list[int | None]], "list<item: list<item: int64>> not null"),
        (tuple[Colour, ...], "list<item: string> not null"),
        (dict[str, Decimal], "map<string, decimal128(38, 9)> not null"),
        (Mapping[str, list[int]] | None, "map<string, list<item: int64>>"),
    ],
)
def test_types_of_annotations(annotation: Any, shown: str) -> None:
    assert str(Schema.of({"a": annotation})) == f"a: {shown}"


@pytest.mark.parametrize(
    ("annotation", "parts"),
    [
        (Mixed, ["values of the types int, str", "a column has one type"]),
        (Literal["a", 1], ["values of the types int, str"]),
        (tuple[int, str], ["use a dataclass or a NamedTuple"]),
        (set[int], ["a set has no order: use list[T]"]),
        (list, ["list[str]"]),
        (dict, ["dict[str, int]"]),
        (time, ["use str (ISO 8601)"]),
        (timedelta, ["use int for milliseconds"]),
        (Any, ["use str for JSON text"]),
        (list[object], ["column 'item'", "use str for JSON text"]),
    ],
)
def test_refused_annotations(annotation: Any, parts: list[str]) -> None:
    with refused("column 'a'", *parts):
        Schema.of({"a": annotation})


def test_records_are_schemas() -> None:
    assert str(Schema.of(Loose)) == "a: int64 not null, b: string"
    assert str(Schema.of(Pair)) == "a: int64 not null, b: string"


def test_values_of_such_columns_go_in_and_come_out() -> None:
    key = uuid.UUID(int=7)

    @dataclass
    class Order:
        colour: Colour
        key: uuid.UUID
        where: Point
        counts: dict[str, int]
        colours: list[Colour]
        kind: Literal["a", "b"] = "a"

    order = Order(Colour.RED, key, Point(1.0), {"x": 1}, [Colour.BLUE])
    rows = Topology("t").stream(memory("m", schema=Order, rows=[order]))
    expected = {
        "colour": "red",
        "key": str(key),
        "where": {"lat": 1.0, "lng": None},
        "counts": [("x", 1)],
        "colours": ["blue"],
        "kind": "a",
    }
    assert rows.collect().to_pylist() == [expected]
    assert rows.map(lambda row: order, schema=Order).collect().to_pylist() == [expected]
    assert rows.map(lambda row: row, schema=Order).collect().to_pylist() == [expected]
