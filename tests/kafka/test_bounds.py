"""Values that are small and would become huge, deep or slow: bad records, found before anything is made of them."""

from __future__ import annotations

import io
import json
import resource
import time

import pyarrow as pa
import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from streamdsl.connectors.kafka.arrow_values import ArrowValues
from streamdsl.connectors.kafka.avro_bounds import AvroBounds
from streamdsl.schema import Schema

LIMIT = 1 << 20


def ipc(*batches: pa.RecordBatch, **options) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return out.getvalue().to_pybytes()


def batch(**columns) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def decoded(value: bytes, type_: str = "int64"):
    """Decode a value among two good ones, in bounded memory and time; return the rows and why it is bad."""
    schema = pa.schema([pa.field("a", type_)])
    good = ipc(pa.RecordBatch.from_pylist([{}], schema=schema))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    found = ArrowValues(Schema.of(schema).fields, LIMIT, "t").decode([good, value, good])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 << 10, f"{grown} KiB"
    assert time.monotonic() - began < 5
    return found.rows, found.bad.get(1)


def with_length(value: bytes, old: int, new: int) -> bytes:
    """Say another number of rows: in the batch and in its columns."""
    assert old.to_bytes(8, "little") in value
    return value.replace(old.to_bytes(8, "little"), new.to_bytes(8, "little"))


NULLS = ipc(pa.record_batch([pa.nulls(123_457)], ["a"]))
BOMBS = {
    "two billion nulls": with_length(NULLS, 123_457, 2_000_000_000),
    "more rows than the most": with_length(NULLS, 123_457, 1 << 62),
    "a negative number of rows": with_length(NULLS, 123_457, 2**64 - 5),
    "zstd": ipc(batch(a=pa.array(["\0" * (200 << 20)])), compression="zstd"),
    "a dictionary": ipc(batch(a=pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int8()), ["x" * 100_000]))),
    "runs": ipc(batch(a=pa.RunEndEncodedArray.from_arrays(pa.array([1_000_000], pa.int32()), pa.array(["x" * 100_000])))),
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_a_small_value_that_becomes_huge_is_bad(name):
    assert len(BOMBS[name]) < LIMIT
    rows, why = decoded(BOMBS[name], "string")
    assert why is not None and rows.num_rows == 2, why
    assert "not an Arrow IPC stream" in why


def test_what_is_within_the_bounds_is_read():
    for value in (
        ipc(batch(a=pa.array(range(1000))), compression="zstd"),
        ipc(batch(a=pa.array(range(1000))), compression="lz4"),
        ipc(batch(a=pa.array(range(10))), batch(a=pa.array(range(990)))),
        ipc(batch(a=pa.array([n % 7 for n in range(1000)]).dictionary_encode())),
    ):
        rows, why = decoded(value)
        assert why is None and rows.num_rows == 1002


@given(st.data())
def test_damaged_streams_are_bad_records_and_nothing_worse(data):
    """Bytes of real streams, changed, cut and put together."""
    value = bytearray(data.draw(st.sampled_from([NULLS, ipc(batch(a=pa.array(range(50))), compression="zstd"), BOMBS["a dictionary"]])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value) - 1))
        value[at] = data.draw(st.integers(0, 255))
    value = value[: data.draw(st.integers(0, len(value)))]
    rows, _ = decoded(bytes(value))
    assert rows.num_rows >= 2


# ---------------------------------------------------------------------------------------------------- Avro

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
TREE = {"type": "record", "name": "Tree", "fields": [{"name": "next", "type": ["null", "Tree"]}]}
WIDE = {"type": "record", "name": "Wide", "fields": [{"name": "items", "type": {"type": "array", "items": "null"}}]}
AMOUNT = {
    "type": "record",
    "name": "A",
    "fields": [{"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}],
}
HARMLESS = {
    "type": "record",
    "name": "H",
    "fields": [
        {"name": "m", "type": {"type": "map", "values": ["null", "long", {"type": "array", "items": "string"}]}},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
        {"name": "f", "type": {"type": "fixed", "name": "F", "size": 3}},
        {"name": "x", "type": ["null", "double", "float", "boolean", "bytes", "int"]},
    ],
}


def bounds(schema) -> AvroBounds:
    named: dict = {}
    parsed = parse_schema(schema, named_schemas=named)
    return AvroBounds(lambda _: (parsed, named), lambda value: 1)


def zigzag(number: int) -> bytes:
    out, number = bytearray(), (number << 1) ^ (number >> 63)
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize(
    ("schema", "value", "why"),
    [
        (TREE, b"\x02" * 10_000 + b"\x00", "nests deeper"),
        (TREE, b"\x02" * (LIMIT - 9), "nests deeper"),
        (WIDE, zigzag(2**40) + b"\x00", "items without bytes"),
        (WIDE, zigzag(-(2**40)) + zigzag(0) + b"\x00", "items without bytes"),
        (WIDE, (zigzag(60_000)) * 300_000 + b"\x00", "items without bytes"),
        (AMOUNT, zigzag(500_000) + b"\x7f" * 500_000, "a decimal of"),
        (TREE, b"\x04", "no branch"),
        (TREE, b"\x80" * 20, "more than 64 bits"),
    ],
)
def test_deep_and_empty_avro_is_bad(schema, value, why):
    began = time.monotonic()
    with pytest.raises(ValueError, match=why):
        bounds(schema).check(b"\0\0\0\0\1" + value)
    assert time.monotonic() - began < 5


VALUES = st.recursive(st.none(), lambda inner: st.builds(lambda one: {"next": one}, inner), max_leaves=30)


@given(VALUES.filter(bool), st.integers(0, 1000), st.decimals(-9999, 9999, places=2))
def test_what_fastavro_writes_is_within_the_bounds(tree, empty, amount):
    for schema, value in ((TREE, tree), (WIDE, {"items": [None] * empty}), (AMOUNT, {"d": amount})):
        out = io.BytesIO()
        schemaless_writer(out, parse_schema(json.loads(json.dumps(schema))), value)
        bounds(schema).check(b"\0\0\0\0\1" + out.getvalue())


def test_other_schemas_cost_nothing():
    """Where the bytes of a value bound what it becomes it is not walked: even one that is no value passes."""
    bounds(HARMLESS).check(b"\0\0\0\0\1")


def test_the_schema_is_asked_for_once():
    asked = []
    named: dict = {}
    parsed = parse_schema(TREE, named_schemas=named)
    one = AvroBounds(lambda number: asked.append(number) or (parsed, named), lambda value: value[0])
    for _ in range(3):
        one.check(b"\x07\0\0\0\0\0")
    assert asked == [7]
