"""Schemas of dataclasses, mappings and Arrow schemas."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from streamdsl import Schema
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
    assert schema.to_arrow() == pa.schema([("a", pa.int64())])


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
