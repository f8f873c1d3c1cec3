"""Files: what is particular to them."""

from __future__ import annotations

import json
import os
import stat

import pyarrow as pa
import pytest

from streamdsl.connectors.files import files
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.schema import Schema
from tests.connectors.cases import SCHEMA, json_text, read_all, table


@pytest.mark.parametrize(
    ("path", "format"),
    [
        ("a.csv", "csv"),
        ("a.JSONL", "json"),
        ("a.json", "json"),
        ("a.ndjson", "json"),
        ("a.parquet", "parquet"),
        ("a.arrow", "arrow"),
        ("a.feather", "arrow"),
        ("a.ipc", "arrow"),
        ("dir/*.csv", "csv"),
    ],
)
def test_the_suffix_tells_the_format(path, format):
    assert files(path).format == format


def test_a_format_can_be_given():
    assert files("a.txt", format="jsonl").format == "json"
    with pytest.raises(TopologyError, match="xml"):
        files("a.txt", format="xml")
    with pytest.raises(TopologyError, match="format="):
        files("a.txt")
    with pytest.raises(TopologyError, match="several formats"):
        files(["a.csv", "a.json"])


def test_a_pattern_is_sorted_and_partitions_follow(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.jsonl").write_text(json_text(table(2)))
    source = files(tmp_path / "*.jsonl", SCHEMA)
    assert source.splits() == tuple(str(tmp_path / f"{name}.jsonl") for name in "abc")
    chunks, _ = read_all(source, ["_partition"], split=source.splits()[2])
    assert chunks == [[{"_partition": 2}] * 2]


def test_paths_keep_their_order(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text("id\n1\n")
    paths = [str(tmp_path / "b.csv"), str(tmp_path / "a.csv")]
    assert files(paths, {"id": "int64"}).splits() == tuple(paths)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConnectorError) as caught:
        files("in-*.csv", {"id": "int64"}).splits()
    assert "in-*.csv" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    (tmp_path / "in.csv").write_text("idd,amount\n1,2\n")
    schema = Schema.of(pa.schema([pa.field("id", pa.int64(), False), pa.field("amount", pa.float64())]))
    with pytest.raises(ConnectorError) as caught:
        files(tmp_path / "in.csv", schema).open_split(str(tmp_path / "in.csv"), None, ["id"])
    text = str(caught.value)
    assert "in.csv" in text and "'id'" in text and "idd, amount" in text and "did you mean 'idd'?" in text


def test_a_missing_column_that_may_be_null_is_null(tmp_path):
    (tmp_path / "in.csv").write_text("id\n1\n")
    assert read_all(files(tmp_path / "in.csv", {"id": "int64", "city": "string | None"}), ["id", "city"])[0] == [[{"id": 1, "city": None}]]


@pytest.mark.parametrize("content", [b"", b"id\n", b"\xef\xbb\xbfid\r\n", b"\n\nid\n\n\n"])
def test_a_csv_file_without_records(tmp_path, content):
    (tmp_path / "in.csv").write_bytes(content)
    chunks, bad = read_all(files(tmp_path / "in.csv", {"id": "int64"}), ["id"])
    assert not any(chunks) and not bad


def test_finer_times_are_floored(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"at":"1969-12-31T23:59:59.999999Z"}\n{"at":"2024-03-01T00:00:00Z"}\n')
    rows = read_all(files(tmp_path / "in.jsonl", {"at": pa.timestamp("ms", "UTC")}), ["at"])[0][0]
    assert [row["at"].isoformat() for row in rows] == ["1969-12-31T23:59:59.999000+00:00", "2024-03-01T00:00:00+00:00"]


def test_a_file_that_changed_is_refused(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(json_text(table(30)))
    source = files(path, SCHEMA)
    reader = source.open_split(str(path), None, ["id"])
    position = reader.position(reader.read(1000), 30)
    with path.open("a") as file:
        file.write(json_text(table(1, start=30)))
    assert read_all(source, ["id"], position=position)[0] == [[{"id": 30}]]
    path.write_text(json_text(table(30)).replace('"id": 29', '"id": 28'))
    with pytest.raises(ConnectorError, match="has changed"):
        source.open_split(str(path), position, ["id"])
    path.write_text(json_text(table(3)))
    with pytest.raises(ConnectorError, match="has changed"):
        source.open_split(str(path), position, ["id"])


def test_a_damaged_file_is_an_error_not_a_crash(tmp_path):
    for name in ("in.arrow", "in.parquet"):
        (tmp_path / name).write_bytes(b"ARROW1\0\0" + b"\xff" * 200)
        with pytest.raises(ConnectorError, match="cannot be read"):
            files(tmp_path / name, SCHEMA).open_split(str(tmp_path / name), None, ["id"])


def test_a_type_that_does_not_convert(tmp_path):
    with pa.ipc.new_file(str(tmp_path / "in.arrow"), pa.schema([("id", pa.list_(pa.int64()))])):
        pass
    with pytest.raises(ConnectorError, match="does not convert"):
        files(tmp_path / "in.arrow", SCHEMA).open_split(str(tmp_path / "in.arrow"), None, ["id"])


def test_an_output_that_shrank_is_refused(tmp_path):
    sink = files(tmp_path / "out.jsonl")
    writer = sink.open_writer(SCHEMA, (), 0, 1, None)
    writer.write(table(3).to_batches()[0], pa.array([0, 0, 0], pa.int64()))
    state = writer.snapshot(1)
    writer.close()
    assert state["length"] == os.path.getsize(tmp_path / "out.jsonl")
    os.truncate(tmp_path / "out.jsonl", 5)
    with pytest.raises(ConnectorError, match="was changed"):
        sink.open_writer(SCHEMA, (), 0, 1, state)
    assert os.path.getsize(tmp_path / "out.jsonl") == 5


def test_an_output_that_is_no_file(tmp_path):
    with pytest.raises(ConnectorError, match="regular file"):
        files("/dev/null", format="json").open_writer(SCHEMA, (), 0, 1, None)
    with pytest.raises(ConnectorError, match="cannot be opened"):
        files(tmp_path / "no" / "out.jsonl").open_writer(SCHEMA, (), 0, 1, None)


def test_an_output_has_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files(tmp_path / "out.jsonl").open_writer(SCHEMA, (), 0, 1, None).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o640


def test_foreign_files_among_the_parts_stay(tmp_path):
    directory = tmp_path / "out.parquet"
    directory.mkdir()
    (directory / "notes.txt").write_text("mine")
    (directory / ".part-0.tmp").write_text("left behind")
    writer = files(directory).open_writer(SCHEMA, (), 0, 1, None)
    writer.snapshot(1)
    writer.close()
    assert [entry.name for entry in directory.iterdir()] == ["notes.txt"]


def test_parts_are_a_source(tmp_path):
    sink = files(tmp_path / "out.parquet", SCHEMA)
    writer = sink.open_writer(SCHEMA, (), 0, 1, None)
    for number in (9, 10):
        writer.write(table(2, start=number).to_batches()[0], pa.array([0, 0], pa.int64()))
        writer.snapshot(number)
    writer.close()
    assert [name.rsplit("/", 1)[1] for name in sink.splits()] == ["part-00000009-000.parquet", "part-00000010-000.parquet"]
    assert read_all(sink, ["id"])[0] == [[{"id": 9}, {"id": 10}]]


def test_csv_cannot_hold_nested_columns(tmp_path):
    schema = Schema.of({"tags": pa.list_(pa.string())})
    (tmp_path / "in.csv").write_text("tags\na\n")
    with pytest.raises(ConnectorError, match="tags"):
        files(tmp_path / "in.csv", schema).open_split(str(tmp_path / "in.csv"), None, ["tags"])
    with pytest.raises(ConnectorError, match="tags"):
        files(tmp_path / "out.csv").open_writer(schema, (), 0, 1, None)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id":1}\n' + b"x" * 5_000_000 + b'\n{"id":2}\n')
    chunks, bad = read_all(files(path, {"id": "int64"}), ["id", "_offset"])
    assert [row for chunk in chunks for row in chunk] == [{"id": 1, "_offset": 0}, {"id": 2, "_offset": 2}]
    assert [(len(record.raw), record.reason) for record in bad] == [(65536, "the record is longer than 1048576 bytes")]


def test_json_positions_are_small(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(json_text(table(30)))
    reader = files(path, SCHEMA).open_split(str(path), None, ["id"])
    assert len(json.dumps(reader.position(reader.read(10), 5))) < 120
