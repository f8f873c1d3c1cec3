"""Avro: what is written is read, with all digits of decimals and times; what is no value of its column is a bad record."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import kafka
from streamdsl._native.flow.convert import python_rows
from streamdsl.connectors.kafka.layout import Layout
from streamdsl.connectors.kafka.limits import Limits
from streamdsl.connectors.kafka.values import decoder_of
from streamdsl.errors import DataError
from streamdsl.schema import Schema
from tests.kafka.registry import Registry

UTC = datetime.UTC


def decimal_of(precision: int, scale: int, **base: Any) -> dict[str, Any]:
    return {"type": "bytes", **base, "logicalType": "decimal", "precision": precision, "scale": scale}


def digits(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    return st.integers(-most, most).map(lambda number: Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -scale)))


def to_ms(at: datetime.datetime) -> datetime.datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


MOMENTS = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))
#: In microseconds, and far from 1970: small numbers look like those of another unit, and are refused.
_NANOS = st.one_of(st.integers(-(9 * 10**15), -(10**13)), st.integers(10**13, 9 * 10**15))
FIXED = {"type": "fixed", "name": "Amount", "size": 16}
#: Avro's type, the column's, values.
FIELDS: dict[str, tuple[Any, pa.DataType, st.SearchStrategy[Any]]] = {
    "money": (decimal_of(12, 2), pa.decimal128(12, 2), digits(12, 2)),
    "wide": (decimal_of(38, 9), pa.decimal128(38, 9), digits(38, 9)),
    "fraction": (decimal_of(38, 38), pa.decimal128(38, 38), digits(38, 38)),
    "fixed": (decimal_of(38, 4, **FIXED), pa.decimal128(38, 4), digits(38, 4)),
    "rescaled": (decimal_of(12, 2), pa.decimal128(20, 5), digits(12, 2)),
    "moment": (
        {"type": "long", "logicalType": "timestamp-micros"},
        pa.timestamp("us", "UTC"),
        MOMENTS.map(lambda at: at.replace(tzinfo=UTC)),
    ),
    "coarse": (
        {"type": "long", "logicalType": "timestamp-millis"},
        pa.timestamp("ms", "UTC"),
        MOMENTS.map(lambda at: to_ms(at).replace(tzinfo=UTC)),
    ),
    "local": ({"type": "long", "logicalType": "local-timestamp-micros"}, pa.timestamp("us"), MOMENTS),
    "nanos": ("long", pa.timestamp("ns", "UTC"), _NANOS.map(lambda number: number * 1000 + 7)),
    "day": ({"type": "int", "logicalType": "date"}, pa.date32(), st.dates()),
    "many": ({"type": "array", "items": decimal_of(9, 3)}, pa.list_(pa.decimal128(9, 3)), st.lists(digits(9, 3), max_size=3)),
    "one": (
        {"type": "record", "name": "One", "fields": [{"name": "amount", "type": decimal_of(9, 3)}]},
        pa.struct([("amount", pa.decimal128(9, 3))]),
        st.fixed_dictionaries({"amount": digits(9, 3)}),
    ),
    "text": ("string", pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
    "raw": ("bytes", pa.binary(), st.binary(max_size=5)),
    "number": ("double", pa.float64(), st.floats(allow_nan=False)),
    "count": ("long", pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "flag": ("boolean", pa.bool_(), st.booleans()),
}


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as started:
        yield started


def topic(registry: Registry, schema: Any, avro: dict[str, Any], name: str) -> Any:
    return kafka(
        name, schema, format="avro", broker="localhost:1", registry=registry.url,
        subject_schema=json.dumps({"type": "record", "name": "Row", "fields": [{"name": k, "type": v} for k, v in avro.items()]}),
    )  # fmt: skip


def written(described: Any, schema: Any, rows: list[dict[str, Any]]) -> list[bytes]:
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    records = Layout(described, Schema.of(schema), (), Limits(1 << 20)).records(batch, pa.array([0] * len(rows), pa.int64()))
    return [record.value for record in records if record.value is not None]


def read(described: Any, values: list[bytes]) -> tuple[list[dict[str, Any]], dict[int, str]]:
    found = decoder_of(described, described.schema.fields).decode(list(values))
    return python_rows(found.rows), found.bad


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read(registry: Registry, data: Any) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=4, unique=True))
    optional = data.draw(st.sets(st.sampled_from(names)))
    schema = pa.schema([pa.field(name, FIELDS[name][1], name in optional) for name in names])
    values = {name: FIELDS[name][2] | st.none() if name in optional else FIELDS[name][2] for name in names}
    rows = data.draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=3))
    avro = {name: ["null", FIELDS[name][0]] if name in optional else FIELDS[name][0] for name in names}
    described = topic(registry, schema, avro, f"t{'-'.join(names)}{'-'.join(sorted(optional))}")
    found, bad = read(described, written(described, schema, rows))
    assert bad == {}
    assert found == python_rows(pa.RecordBatch.from_pylist(rows, schema=schema))


@pytest.mark.parametrize(
    ("avro", "value", "column", "why"),
    [
        ("double", 1.5, pa.int64(), "1.5 of type float, which is not a value of type int64"),
        ("double", 1.5, pa.decimal128(9, 2), "which is not a value of type decimal128"),
        (decimal_of(9, 4), Decimal("1.2345"), pa.decimal128(9, 2), "does not fit decimal128"),
        (decimal_of(20, 2), Decimal("12345678901.00"), pa.decimal128(9, 2), "does not fit decimal128"),
        ("long", 2**53 + 1, pa.float64(), "a float does not hold it exactly"),
        ("string", "1.25", pa.decimal128(9, 2), "which is not a value of type decimal128"),
        ({"type": "array", "items": "double"}, [0.5], pa.list_(pa.int64()), r"\[0\] is 0.5"),
    ],
    ids=str,
)
def test_what_is_no_value_of_its_column_is_a_bad_record(registry: Registry, avro: Any, value: Any, column: Any, why: str) -> None:
    kinds = {"double": pa.float64(), "long": pa.int64(), "string": pa.string()}
    if isinstance(avro, dict):
        wrote = pa.list_(pa.float64()) if avro["type"] == "array" else pa.decimal128(avro["precision"], avro["scale"])
    else:
        wrote = kinds[avro]
    out = pa.schema([("v", wrote)])
    name = f"bad-{abs(hash(json.dumps(avro) + str(column)))}"
    values = written(topic(registry, out, {"v": avro}, name), out, [{"v": value}])
    found, bad = read(topic(registry, pa.schema([("v", column)]), {"v": avro}, name), values)
    assert found == []
    with pytest.raises(AssertionError if not bad else ValueError, match=f"field 'v'.*{why}"):
        raise ValueError(bad[0])


def test_digits_that_avros_type_does_not_have_are_refused_when_written(registry: Registry) -> None:
    schema = pa.schema([("v", pa.decimal128(12, 4))])
    described = topic(registry, schema, {"v": decimal_of(12, 2)}, "digits")
    with pytest.raises(DataError, match="cannot be written to 'digits' as avro"):
        written(described, schema, [{"v": Decimal("1.2345")}])
