"""Rows that stay native are those that the record batch of them says."""

from __future__ import annotations

from array import array

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.flow.native_rows import NativeRows
from streamdsl._native.serdes.json_reader import JsonReader
from streamdsl.connectors.kafka.values import JsonValues
from streamdsl.schema import Field
from tests.native.test_json_reader import READER, SCHEMA, bits, hostile_records, plain_records

FIELDS = [Field(name, SCHEMA.field(name).type) for name in SCHEMA.names]
MORE = {"_topic": pa.string(), "_partition": pa.int64(), "_offset": pa.int64()}


@settings(deadline=None)
@given(st.data())
def test_columns_are_put_where_they_belong(data):
    records = data.draw(st.lists(plain_records(), max_size=8))
    rows, odd = READER.read(records)
    assert not odd
    offsets = array("q", data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=len(records), max_size=len(records))))
    values = {"_topic": data.draw(st.text(max_size=9)).encode(), "_partition": data.draw(st.integers(0, 2**31)), "_offset": offsets}
    expected, schema, inserted = rows.to_arrow(), SCHEMA, []
    for name in data.draw(st.permutations(list(MORE)).map(lambda names: names[: len(records) % 4])):
        # As the reader of a partition puts them: by place, the first one first.
        place = data.draw(st.integers(inserted[-1][0] + 1 if inserted else 0, len(schema)))
        inserted.append((place, values[name]))
        schema = schema.insert(place, pa.field(name, MORE[name]))
        column = list(offsets) if name == "_offset" else [values[name].decode() if name == "_topic" else values[name]] * len(records)
        columns = expected.columns
        columns.insert(place, pa.array(column, MORE[name]))
        expected = pa.RecordBatch.from_arrays(columns, schema=schema)
    made = rows.with_columns(inserted, schema)
    made.to_arrow().validate(full=True)
    assert made.schema is schema
    assert bits(made) == bits(expected)
    first = data.draw(st.integers(0, len(records)))
    count = data.draw(st.integers(0, len(records) - first))
    assert bits(made.slice(first, count)) == bits(expected.slice(first, count))
    assert bits(made.slice(first)) == bits(expected.slice(first))


@settings(deadline=None, max_examples=200)
@given(st.lists(hostile_records() | plain_records() | st.none(), max_size=8))
def test_what_is_decoded_does_not_depend_on_whether_it_may_stay_native(values):
    native, usual = (getattr(JsonValues(FIELDS, 200, "t"), how)(values) for how in ("decode_native", "decode"))
    assert isinstance(usual.rows, pa.RecordBatch)
    assert (native.of, native.bad) == (usual.of, usual.bad)
    assert bits(native.rows) == bits(usual.rows)


def test_plain_records_stay_native():
    found = JsonValues(FIELDS, 200, "t").decode_native([b'{"id": 1}', b'{"id": 2}'])
    assert isinstance(found.rows, NativeRows)
    assert found.rows.num_rows == 2
    narrow = JsonValues([Field("id", pa.int8())], 200, "t").decode_native([b'{"id": 1}'])
    assert isinstance(narrow.rows, pa.RecordBatch)
    assert narrow.rows.schema.types == [pa.int8()]


def test_what_does_not_fit_is_refused():
    rows, _ = JsonReader(pa.schema([("id", pa.int64())]), [False], [(0, 9)]).read([b'{"id": 1}', b'{"id": 2}'])
    schema = pa.schema([("n", pa.int64()), ("id", pa.int64())])
    for numbers in (array("q", [1]), array("i", [1, 2])):
        with pytest.raises(ValueError, match=r"numbers of type .* for 2 rows"):
            rows.with_columns([(0, numbers)], schema)
    with pytest.raises(TypeError):
        rows.with_columns([(0, b"text")], schema).to_arrow()
    for places in ((0, 0), (0, 3)):
        with pytest.raises(ValueError, match="do not fit 3 columns"):
            rows.with_columns([(place, 1) for place in places], schema)
    for first, count in ((3, 0), (1, 2), (-1, 1), (0, -1)):
        with pytest.raises(IndexError, match="of 2"):
            rows.slice(first, count)
    with pytest.raises(TypeError, match="decoder"):
        NativeRows()
    assert rows.to_arrow() is rows.to_arrow()
