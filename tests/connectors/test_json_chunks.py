"""A record of a topic is good or bad by itself: its neighbours change neither what it gives nor what is said of it."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl.connectors.kafka.values import JsonValues
from streamdsl.schema import Schema
from tests.native.test_json_reader import hostile_records, plain_records

FLAT = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("x", pa.float64()),
        pa.field("name", pa.string()),
        pa.field("ok", pa.bool_()),
        pa.field("n", pa.uint8()),
    ]
)
#: The same through pyarrow: a column that is not read natively is among them.
OTHER = FLAT.append(pa.field("at", pa.timestamp("ms")))


def decoder(schema):
    return JsonValues(Schema.of(schema).fields, 1 << 20, "t")


def outcome(found, count):
    """Return of each record its row, or what is said of it."""
    of = list(range(count)) if found.of is None else found.of
    result = dict(zip(of, map(repr, found.rows.to_pylist()), strict=True))
    assert not set(result) & set(found.bad)
    return [result.get(index, found.bad.get(index)) for index in range(count)]


@pytest.mark.parametrize("schema", [FLAT, OTHER], ids=["flat", "other"])
@settings(deadline=None)
@given(records=st.lists(hostile_records() | plain_records(), max_size=8))
def test_whole_chunks_are_their_records(schema, records):
    values = decoder(schema)
    found = values.decode(records)
    found.rows.validate(full=True)
    alone = [outcome(values.decode([record]), 1)[0] for record in records]
    assert None not in alone
    assert outcome(found, len(records)) == alone


@settings(deadline=None)
@given(st.lists(hostile_records() | plain_records(), max_size=8))
def test_both_ways_agree(records):
    flat, other = (decoder(schema).decode(records) for schema in (FLAT, OTHER))
    assert flat.bad == other.bad
    assert list(map(repr, flat.rows.to_pylist())) == list(map(repr, other.rows.drop_columns(["at"]).to_pylist()))


GOOD = b'{"id": 1, "x": 2.5, "name": "n", "ok": true, "n": 255}'
BAD = {
    b"{garbage": "not valid JSON",
    b'{"id": 1, "x": "2.5"}': "field 'x': '2.5' is not double",
    b'{"id": 1, "x": 1, "id": 2}': "field 'id' is given twice",
    b'{"id": 1, "name": "\\ud800"}': "a text has half of a surrogate pair",
    b'{"id": 1, "other": "\\ude00"}': "a text has half of a surrogate pair",
    b'{"id": 1.0}': "field 'id': 1.0 is not int64",
    b'{"id": 1, "n": 256}': "field 'n': 256 is not uint8",
    b'{"x": 1}': "field 'id' is missing",
    b'{"id": null}': "field 'id' is null",
    b'{"id": 1, "name": "\xff"}': "invalid UTF-8 at byte 19",
}


@pytest.mark.parametrize("schema", [FLAT, OTHER], ids=["flat", "other"])
@pytest.mark.parametrize("raw", BAD)
def test_many_bad_records_cost_little_more_than_good_ones(schema, raw):
    """Wherever they stand: decoded one by one they would take many seconds."""
    values = decoder(schema)
    records = [raw if index % 5 in (1, 3) else GOOD for index in range(8192)]
    began = time.process_time()
    found = values.decode(records)
    assert time.process_time() - began < 2
    assert set(found.bad) == {index for index, record in enumerate(records) if record == raw}
    assert all(BAD[raw] in reason for reason in found.bad.values())
    assert found.rows.num_rows == 8192 - len(found.bad)


def test_order_is_kept_where_some_are_read_apart():
    """A key with an escape is good, but not plain."""
    records = [json.dumps({"id": n, "other": {"deep": n}}).encode() for n in range(100)]
    records[3:90:7] = [record.replace(b'"id"', b'"i\\u0064"') for record in records[3:90:7]]
    records[5], records[50] = b"bad", b"{}"
    found = decoder(FLAT).decode(records)
    assert found.rows.column("id").to_pylist() == [n for n in range(100) if n not in (5, 50)] == found.of
    assert sorted(found.bad) == [5, 50]
