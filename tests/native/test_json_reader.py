"""What is read natively is what pyarrow reads, bit for bit; and plain records are read natively."""

from __future__ import annotations

import json
import math
import random
import struct

import pyarrow as pa
import pyarrow.json as pa_json
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamdsl._native.serdes.json_reader import JsonReader

SCHEMA = pa.schema([("id", pa.int64()), ("n", pa.uint64()), ("x", pa.float64()), ("ok", pa.bool_()), ("name", pa.string())])
BOUNDS = [(-(2**63), 2**63 - 1), (0, 0), (0, 0), (0, 0), (0, 0)]
READER = JsonReader(SCHEMA, [False] * 5, BOUNDS)
PARSE = pa_json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN_VALUES = {
    "id": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "n": st.integers(0, 10**19 - 1) | st.none(),
    "x": st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) > 1e-80) | st.integers(-(10**18), 10**18) | st.none(),
    "ok": st.booleans() | st.none(),
    "name": TEXTS | st.none(),
}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(-1e90, 1e90).filter(lambda x: x == 0 or abs(x) > 1e-80) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
#: What a hostile hand would put in: each kind of end, escape and number.
PIECES = [
    *(b'{ } [ ] : , " \\ null true false nul NaN Inf -Infinity 0 -0 00 1. .5 -.5 1e 1e+ 1e5 1E-5 1e400 1e-400 -1 +1'.split()),
    b"", b" ", b"\n", b"\r\n", b"\t", b"\0", b"\x1f", b"\x7f", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4\xb8\xad",
    b"\\u0041", b"\\u0000", b"\\ud83d\\ude00", b"\\ud83d", b"\\ude00", b"\\u12", b"\\x", b"\\/", b'\\"', b"\\u00e9", b"\xf0\x9f\x98\x80",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"18446744073709551615", b"18446744073709551616",
    b"9" * 40, b"0.1000000000000000055511151231257827", b"123456789012345678", b"1" + b"0" * 400, b"5e-324", b"1.7976931348623157e308",
    b'"id"', b'"x"', b'"name":', b'"id":1,', b'{"id":1}', b'"other":{"id":[1,{"x":2}]},', b"[" * 40, b"/*c*/",
]  # fmt: skip


def bits(batch):
    """Return the rows so that only the same bits compare equal."""
    exact = lambda value: struct.pack("d", value) if isinstance(value, float) else value  # noqa: E731
    return [{name: exact(value) for name, value in row.items()} for row in batch.to_pylist()]


def as_pyarrow_has_it(records):
    """Decode good records, one on a line."""
    lines = [record.strip(b" \t\r\n").replace(b"\n", b"\t") for record in records]
    assert all(line.startswith(b"{") for line in lines)
    for line in lines:
        line.decode("utf-8")
    block = b"\n".join(lines)
    table = pa_json.read_json(pa.BufferReader(block), pa_json.ReadOptions(use_threads=False, block_size=len(block) + 1), PARSE)
    assert table.num_rows == len(records)
    return table.select(SCHEMA.names)


def check(records):
    rows, odd = READER.read(records)
    rows.validate(full=True)
    plain = [record for index, record in enumerate(records) if index not in set(odd)]
    assert rows.num_rows == len(plain)
    if plain:
        assert bits(rows) == bits(as_pyarrow_has_it(plain))
    return odd


@st.composite
def plain_records(draw):
    """Objects of asked-for and other members, in any order, written in several ways."""
    value = {name: draw(values) for name, values in PLAIN_VALUES.items() if draw(st.booleans())}
    value.update(draw(st.dictionaries(TEXTS.filter(lambda name: name not in PLAIN_VALUES), ANY, max_size=3)))
    value = dict(draw(st.permutations(list(value.items()))))
    blank = draw(st.sampled_from(["", " ", "\n\t", "\r\n"]))
    ascii_only = draw(st.booleans()) and all(json.dumps(name) == f'"{name}"' for name in value)
    text = json.dumps(value, ensure_ascii=ascii_only, separators=(f"{blank},{blank}", f":{blank}"), allow_nan=False)
    if any("\\" in json.dumps(name, ensure_ascii=False) for name in value):
        text = "{}"  # an escape in a key is odd
    return f"{blank}{text}{blank}".encode()


@st.composite
def hostile_records(draw):
    """A record with pieces put in, taken out and cut off."""
    record = draw(plain_records())
    for _ in range(draw(st.integers(0, 3))):
        first = draw(st.integers(0, len(record)))
        last = min(len(record), first + draw(st.integers(0, 4)))
        record = record[:first] + draw(st.sampled_from(PIECES)) + record[last:]
    return record if draw(st.booleans()) else record[: draw(st.integers(0, len(record)))]


@settings(deadline=None)
@example([b'{"id":-9223372036854775808}'])
@given(st.lists(plain_records(), max_size=8))
def test_plain_records_are_read(records):
    assert check(records) == []


@settings(deadline=None, max_examples=300)
@given(st.lists(hostile_records() | plain_records(), max_size=8))
def test_what_is_read_is_what_pyarrow_reads(records):
    check(records)


@settings(deadline=None)
@given(st.lists(hostile_records() | plain_records(), max_size=8))
def test_a_record_does_not_depend_on_its_neighbours(records):
    rows, odd = READER.read(records)
    alone = [READER.read([record]) for record in records]
    assert odd == [index for index, (_, found) in enumerate(alone) if found]
    assert bits(rows) == [row for found, _ in alone for row in bits(found)]


def test_doubles_are_the_nearest():
    """In every way to write them: few digits, the shortest, too many."""
    chance = random.Random(7)
    texts = []
    for _ in range(5000):
        value = struct.unpack("d", chance.randbytes(8))[0] if chance.random() < 0.3 else chance.uniform(-1e6, 1e6)
        if math.isfinite(value):
            texts += [repr(value), f"{value:.2f}", f"{value:.17e}", f"{value:.25g}", f"{value:.3e}"]
    texts += ["9007199254740992", "9007199254740993", "9007199254740993.0", "1e22", "1e23", "123456789012345678e-22", "0.3", "-0.0", "0e9"]
    odd = set(check([f'{{"x": {text}}}'.encode() for text in texts]))
    read = [text for index, text in enumerate(texts) if index not in odd]
    assert len(read) > 10_000
    rows, _ = READER.read([f'{{"x": {text}}}'.encode() for text in read])
    assert [struct.pack("d", x) for x in rows.column("x").to_pylist()] == [struct.pack("d", float(text)) for text in read]


def test_every_byte_at_every_place():
    """Where words of eight bytes begin and end does not matter, nor where the record does."""
    records = []
    for size in range(18):
        text = b"abcdefghijklmnopqrstuvwxyz"[:size]
        records.append(b'{"name":"%s"}' % text)
        records += [b'{"name":"%s%c%s"}' % (text[:at], byte, text[at:]) for at in (0, size // 2, size) for byte in range(256)]
    odd = check(records)
    assert 0 < len(odd) < len(records)
    whole = b'{"id": 12, "name": "\\u00e9\\ud83d\\ude00x", "x": -1.25e2, "ok": true, "other": {"a": [1, null]}}'
    assert check([whole]) == []
    assert check([whole[:end] for end in range(len(whole))]) == list(range(len(whole)))


@pytest.mark.parametrize(
    "record", [b'{"id": 1, "id": 1}', b'{"i\\u0064": 1}', b'{"id": 1} {}', b"null", b"", b"[]", b'{"id": NaN}', b'{"o": 1e300}']
)
def test_odd_records_are_left(record):
    assert READER.read([b'{"id": 5}', record, b'{"id": 7}'])[1] == [1]


def test_required_and_bounds():
    reader = JsonReader(pa.schema([("id", pa.int64()), ("name", pa.string())]), [True, False], [(-128, 127), (0, 0)])
    texts = ['{"id": -128}', '{"id": 128}', "{}", '{"id": null}', '{"name": null, "id": 127}', '{"name": "a", "id": -129}']
    rows, odd = reader.read([text.encode() for text in texts])
    assert odd == [1, 2, 3, 5]
    assert rows.to_pylist() == [{"id": -128, "name": None}, {"id": 127, "name": None}]


def test_long_records_and_many_members():
    many = {f"other{n}": "y" * n for n in range(300)}
    value = {**many, "name": "x" * 100_000, "id": 3}
    records = [json.dumps(value).encode(), b'{"name": "short"}', json.dumps({**value, "name": "z" * 300_000}).encode()]
    assert check(records) == []


def test_only_bytes_are_read():
    with pytest.raises(TypeError):
        READER.read([b"{}", "{}"])
