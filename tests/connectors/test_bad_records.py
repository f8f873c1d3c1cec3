"""Bad records are set apart, with their place and the reason, and cost nobody else anything."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamdsl import Topology, dead_letter, memory
from streamdsl.connectors.base import END
from streamdsl.connectors.files import files
from streamdsl.connectors.files.text_reader import TextReader
from streamdsl.schema import Schema
from tests.connectors.cases import read_all

SCHEMA = Schema.of(pa.schema([pa.field("id", pa.int32(), False), pa.field("amount", pa.float64()), pa.field("name", pa.string(), False)]))

CSV = [
    (b"1,1.5,a", None),
    (b"x,1,b", "field 'id': 'x' is not int32"),
    (b"", ...),
    (b"3,,c", None),
    (b"4,one,d", "field 'amount': 'one' is not double"),
    (b",1,e", "field 'id' is empty"),
    (b"6,1", "2 fields where the header has 3"),
    (b"7,1,h,i", "4 fields where the header has 3"),
    (b"8,1,\xff\xfe", "invalid UTF-8 at byte 4"),
    (b"3000000000,1,j", "field 'id': '3000000000' is not int32"),
    (b'10,1,"k\nk"', None),
    (b"11,1,", None),
    (b'12,1,5" pipe', None),
    (b"13,1," + b"y" * 400, "the record is longer than 300 bytes"),
    (b'14,1,"never closed', "a quoted field begins here and does not end"),
    (b"15,1,z", None),
]
JSON = [
    (b'{"id":1,"amount":1.5,"name":"a"}', None),
    (b'{"id":"x","name":"b"}', "field 'id': 'x' is not int32"),
    (b" ", ...),
    (b'{"name":"","id":3}', None),
    (b'{"id":4,"amount":"one","name":"d"}', "field 'amount': 'one' is not double"),
    (b'{"id":null,"name":"e"}', "field 'id' is null"),
    (b'{"id":6}', "field 'name' is missing"),
    (b"null", "not a JSON object: 'null'"),
    (b'[{"id":8,"name":"g"}]', 'not a JSON object: \'[{"id":8,"name":"g"}]\''),
    (b'{"id":9,"name":"\xff"}', "invalid UTF-8 at byte 16"),
    (b'{"id":3000000000,"name":"i"}', "field 'id': 3000000000 is not int32"),
    (b'{"id":11,"name":"k"}{"id":12,"name":"l"}', "not valid JSON: Extra data: line 1 column 21 (char 20)"),
    (b'{"id":13,"name":"m"', "not valid JSON: Expecting ',' delimiter: line 1 column 20 (char 19)"),
    (b'{"id":14,"name":"' + b"y" * 400 + b'"}', "the record is longer than 300 bytes"),
    (b'{"id":15,"name":"\\n\\"o\\u00f1","more":{"x":[1]}}', None),
    (b'{"id":16,"id":17,"name":"p"}', "field 'id' is given twice"),
    (b'{"id":18.5,"name":"q"}', "field 'id': 18.5 is not int32"),
    (b'{"id":19,"name":"z"}', None),
]
CASES = {"csv": (b"id,amount,name\n", CSV), "json": (b"", JSON)}


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    header, records = CASES[request.param]
    path = tmp_path / "bad.txt"
    path.write_bytes(header + b"\n".join(record for record, _ in records))
    return str(path), request.param == "csv", [(raw, reason) for raw, reason in records if reason is not ...]


def opened(case, position=None, block_bytes=1 << 20):
    path, is_csv, _ = case
    return TextReader(path, 0, SCHEMA, ["id", "amount", "name", "_offset"], position, is_csv=is_csv, block_bytes=block_bytes, limit=300)


def events(reader, size=1000):
    """Return what is read in order: row numbers, and rejected records."""
    result = []
    while (chunk := reader.read(size)) is not END:
        result += in_order(chunk, 0, chunk.rows.num_rows)
    return result


def in_order(chunk, first, stop):
    result = []
    last = stop == chunk.rows.num_rows
    for row in range(first, stop + 1):
        for bad in chunk.rejected:
            if bad.before_row == row and (row < stop or last):
                result.append((bad.offset, bad.reason))
        if row < stop:
            result.append((chunk.rows["_offset"][row].as_py(), None))
    return result


@pytest.mark.parametrize("block_bytes", [1, 16, 64, 200, 301, 1 << 20])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_each_bad_record_is_found_whatever_the_cuts(case, block_bytes, size):
    expected = [(i, reason) for i, (_, reason) in enumerate(case[2])]
    assert events(opened(case, block_bytes=block_bytes), size) == expected


def test_the_raw_bytes_are_kept(case):
    reader, bad = opened(case), []
    while (chunk := reader.read(1000)) is not END:
        bad += chunk.rejected
    assert [record.raw for record in bad if "longer" not in record.reason] == [
        raw.strip() for raw, reason in case[2] if reason and "longer" not in reason
    ]
    assert {(record.topic, record.partition) for record in bad} == {(case[0], 0)}


@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_row_that_is_refused_later_is_the_record_it_came_as(case, block_bytes, size):
    """The runtime refuses rows for their time: the reader knows what they came as, and where it stood."""
    reader = opened(case, block_bytes=block_bytes)
    found = []
    while (chunk := reader.read(size)) is not END:
        refused = [reader.rejected(chunk, row, "too late") for row in range(chunk.rows.num_rows)]
        assert [record.before_row for record in refused] == list(range(chunk.rows.num_rows))
        assert [record.offset for record in refused] == chunk.rows["_offset"].to_pylist()
        found += refused
    assert [record.raw for record in found] == [raw for raw, reason in case[2] if reason is None]
    assert {(record.topic, record.partition, record.reason) for record in found} == {(case[0], 0, "too late")}


@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_each_comes_once_across_a_resume(case, block_bytes, size):
    whole = events(opened(case))
    done = []
    reader = opened(case, block_bytes=block_bytes)
    while (chunk := reader.read(size)) is not END:
        for rows in range(chunk.rows.num_rows + 1):
            if not chunk.rows.num_rows and chunk.rejected and rows == 0:
                continue
            position = json.loads(json.dumps(reader.position(chunk, rows)))
            before = done + in_order(chunk, 0, rows)
            assert before + events(opened(case, position, block_bytes=200)) == whole
        done += in_order(chunk, 0, chunk.rows.num_rows)
    assert done == whole


def test_what_is_bad_does_not_depend_on_the_columns_asked_for(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id":1,"name":"a"}\n{"id":2,"name":5}\n')
    schema = Schema.of({"id": "int64", "name": "string"})
    assert [len(c) for c in read_all(files(path, schema), ["id"])[0]] == [2]
    assert len(read_all(files(path, schema), ["id", "name"])[1]) == 1


def test_two_objects_on_a_line_and_one_on_two_lines_do_not_cancel_out(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id":1}{"id":2}\n{"id":3,"x":\n{"y":1}}\n{"id":4,"x":"} {"}\n')
    chunks, bad = read_all(files(path, {"id": "int64"}), ["id", "_offset"])
    # What stands on the third line is an object and a bracket too much.
    assert chunks == [[{"id": 4, "_offset": 3}]]
    assert [record.offset for record in bad] == [0, 1, 2]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_typed_files_have_bad_records_too(tmp_path, suffix):
    path = tmp_path / f"in.{suffix}"
    rows = pa.table({"id": pa.array([1, 2**40, None, 4], pa.int64()), "amount": [1.0, 2.0, 3.0, 4.0], "name": ["a", "b", "c", "d"]})
    if suffix == "parquet":
        pq.write_table(rows, path)
    else:
        with pa.ipc.new_file(str(path), rows.schema) as writer:
            writer.write_table(rows)
    chunks, bad = read_all(files(path, SCHEMA), ["id", "_offset"])
    assert chunks == [[{"id": 1, "_offset": 0}, {"id": 4, "_offset": 3}]]
    assert [(record.before_row, record.offset, record.reason) for record in bad] == [
        (1, 1, f"field 'id': {2**40} is not int32"),
        (1, 2, "field 'id' is null"),
    ]
    assert json.loads(bad[0].raw) == {"id": 2**40}


def test_records_without_a_time_are_dead_letters_as_they_came(tmp_path):
    lines = [b'{"id": 0, "at":5}', b'{"at" : null,"id": 1}', b"bad", b'{"id": 3}', b'{"id": 4, "at": 6}']
    table = pa.table({"id": [0, 1, 3, 4], "at": [5, None, None, 6]})
    (tmp_path / "in.jsonl").write_bytes(b"\n\n".join(lines))
    (tmp_path / "in.csv").write_bytes(b"id,at\n0,5\n1,\nbad\n3,\n4,6")
    pq.write_table(table, tmp_path / "in.parquet")
    expected = {
        "in.jsonl": [(b'{"at" : null,"id": 1}', 1), (b"bad", 2), (b'{"id": 3}', 3)],
        "in.csv": [(b"1,", 1), (b"bad", 2), (b"3,", 3)],
        "in.parquet": [(b'{"id": 1, "at": null}', 1), (b'{"id": 3, "at": null}', 2)],
    }
    for name, letters in expected.items():
        topology, dead, out = Topology("job"), memory("dead"), memory("out")
        source = files(tmp_path / name, {"id": "int64", "at": "int64"})
        topology.stream(source, timestamp="at", errors=dead_letter(dead), name="in").select("id").to(out)
        topology.run()
        assert [row["id"] for row in out.rows()] == [0, 4]
        assert [(row["value"], row["offset"]) for row in dead.rows()] == letters
        assert {(row["topic"], row["partition"], row["operator"]) for row in dead.rows()} == {(str(tmp_path / name), 0, "in")}
