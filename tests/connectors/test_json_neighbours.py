"""A JSON record is good or bad by itself: what it is alone, it is beside a bad record, in front of it and behind it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from streamdsl.formats.decode import Csv, JsonLines
from streamdsl.schema import Field

TYPES = {
    "int8": pa.int8(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
    "moment": pa.timestamp("ms", "UTC"),
    "local moment": pa.timestamp("us"),
    "day": pa.date32(),
    "decimal": pa.decimal128(12, 2),
    "wide decimal": pa.decimal256(70, 3),
    "list": pa.list_(pa.int64()),
    "list of floats": pa.list_(pa.float64()),
    "list of decimals": pa.list_(pa.decimal128(12, 2)),
    "list of moments": pa.list_(pa.timestamp("ms", "UTC")),
    "struct": pa.struct([("a", pa.float64())]),
    "map": pa.map_(pa.string(), pa.int64()),
}
#: JSON texts of values of any of the types, and of none. Numbers of a time are out of the range in which their unit is asked for.
VALUES = (
    *(
        "1",
        "-1",
        "0",
        "-0",
        "1.5",
        "1.0",
        "1e2",
        "1E-2",
        "-0.0",
        "0.1",
        "1.005",
        "12345678901.25",
        "12.345",
        "4.5e1",
        "100000000000000000000",
    ),
    *("9223372036854775808", "18446744073709551615", "128", "-129", "1e400", "1e-400", "1e308", "01", "+1", ".5", "1.", "0x1", "1_000"),
    *(
        "true",
        "false",
        "null",
        "NaN",
        "Infinity",
        '""',
        '"1"',
        '"1.5"',
        '"1e2"',
        '" 1"',
        '"a"',
        '"NaN"',
        '"Infinity"',
        '"-inf"',
        '"12.345"',
    ),
    *('"AA=="', '"A"', '"2024-01-01"', '"2024-01-01T00:00:00Z"', '"2024-01-01T00:00:00.123456789+02:00"', '"2024-13-01"', '"0001-01-01"'),
    *(
        "[1]",
        "[1.5]",
        '["1"]',
        "[null]",
        "[]",
        '{"a": 1}',
        '{"a": 1.5}',
        '{"a": "x"}',
        "{}",
        '[["a", 1]]',
        '[["a"]]',
        "[[null, 1]]",
        '[["a", 1, 2]]',
        "[[]]",
        '["ab"]',
        "[NaN]",
        "[1e400]",
        "[true]",
    ),
    *('"\\u00e9"', '"\\ud800"', '"\\u0000"', '"a\\nb"', '["\\ud800"]', '["2024-01-01T00:00:00Z"]', '{"a": NaN}', " 1 ", "1e-999999999"),
    *('"1e-999999999"', "0e-999999999", "1e999999999", '"1e999999999"', "[1e-999999999]", '["1e-999999999"]', '["1.5"]'),
)
BAD = (b'{"v": {"zz": [}', b'{"v": "\xff"}', b'{"v": {"q": {"q": 1}}}')


def judged(field: Field, records: list[bytes]) -> list[str]:
    """Return the value that each record gives, as text."""
    found = JsonLines([field], "the test").decode_records(records)
    kept = range(len(records)) if found.kept is None else found.kept
    values = {index: str(found.rows.column(0).slice(row, 1)) for row, index in enumerate(kept)}
    return [values.get(index, "bad") for index in range(len(records))]


@pytest.mark.parametrize("nullable", [True, False], ids=["nullable", "required"])
@pytest.mark.parametrize("name", list(TYPES))
def test_a_bad_neighbour_changes_nothing(name, nullable):
    field = Field("v", TYPES[name], nullable)
    for text in VALUES:
        record = b'{"v": %s}' % text.encode()
        (alone,) = judged(field, [record])
        for bad in BAD:
            assert judged(field, [record, bad, record]) == [alone, judged(field, [bad])[0], alone], text


@pytest.mark.parametrize("text", ["1e-999999999", "0e-999999999", "1E-100000000", "1e-214748364", "1e999999999"])
@pytest.mark.parametrize("type_", [pa.decimal128(38, 10), pa.decimal256(70, 3)], ids=str)
def test_an_exponent_that_no_decimal_has_is_a_bad_record(text, type_):
    """pyarrow reads beyond its tables of powers for some of them, and the process ends."""
    field = Field("v", type_)
    for value in (text, f'"{text}"'):
        found = JsonLines([field], "the test").decode_records([b'{"v": 1.5}', b'{"v": %s}' % value.encode(), b'{"v": "2.5"}'])
        assert [bad.index for bad in found.bad] == [1] and found.rows.num_rows == 2
    found = Csv([field], ["v"], "the test").decode_block(f"1.5\n{text}\n2.5\n".encode())
    assert [bad.index for bad in found.bad] == [1] and found.rows.num_rows == 2
