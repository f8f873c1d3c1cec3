"""Outputs that go on from a checkpoint: what they hold must be what the checkpoint has written, under the columns that are written now."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest

from streamdsl import Config, ConnectorError, StreamError, Topology, files, memory
from streamdsl.connectors.files import Files
from streamdsl.schema import Schema

TIMES = pa.array([0, 0], pa.int64())
AB = Schema.of({"a": int, "b": str})


def rows(schema: Schema) -> pa.RecordBatch:
    values = {"a": [1, 2], "b": ["x", "y"], "c": [0.5, 1.5]}
    return pa.RecordBatch.from_pydict({name: values[name] for name in schema.names}).cast(schema.to_arrow())


def written(sink: Files, schema: Schema = AB, state=None, checkpoint: int = 1):
    """Write two rows as one checkpoint; return its state."""
    writer = sink.open_writer(schema, (), 0, 1, state)
    writer.write(rows(schema), TIMES)
    state = writer.snapshot(checkpoint)
    writer.close()
    return state


def contents(path):
    return {p.name: p.read_bytes() for p in path.iterdir()} if path.is_dir() else path.read_bytes()


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet", "out.arrow"])
@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"a": int, "b": str, "c": float}, "c: double"),
        ({"a": int}, "a: int64"),
        ({"b": str, "a": int}, "b: string, a: int64"),
        ({"a": "int32", "b": str}, "a: int32"),
    ],
    ids=["one more", "one less", "another order", "another type"],
)
def test_other_columns_are_refused_with_both_lists_and_the_output_stays(tmp_path, name, columns, shown):
    sink, path = files(tmp_path / name), tmp_path / name
    state = written(sink)
    before = contents(path)
    with pytest.raises(ConnectorError) as caught:
        sink.open_writer(Schema.of(columns), (), 0, 1, state)
    assert "a: int64, b: string" in str(caught.value) and shown in str(caught.value) and "drop_state" in str(caught.value)
    assert contents(path) == before
    assert written(sink, state=state, checkpoint=2) != state


def test_another_format_is_refused(tmp_path):
    state = written(files(tmp_path / "out", format="csv"))
    with pytest.raises(ConnectorError, match="written csv here, the sink writes json"):
        files(tmp_path / "out", format="json").open_writer(AB, (), 0, 1, state)
    state = written(files(tmp_path / "parts", format="arrow"))
    with pytest.raises(ConnectorError, match="written arrow here, the sink writes parquet"):
        files(tmp_path / "parts", format="parquet").open_writer(AB, (), 0, 1, state)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_file_that_is_gone_is_told_with_what_was_in_it(tmp_path, name):
    sink = files(tmp_path / name)
    state = written(sink)
    size = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    with pytest.raises(ConnectorError, match=f"is gone: the checkpoint has {size} bytes in that file") as caught:
        sink.open_writer(AB, (), 0, 1, state)
    assert "drop_state" in str(caught.value) and not (tmp_path / name).exists()
    (tmp_path / name).write_bytes(b"abc")
    with pytest.raises(ConnectorError, match=f"is 3 bytes long, the checkpoint has {size} bytes"):
        sink.open_writer(AB, (), 0, 1, state)


def test_another_file_in_its_place_is_not_cut(tmp_path):
    state = written(files(tmp_path / "out.jsonl"))
    precious = b"something else that is longer than what was written\n" * 9
    (tmp_path / "other.jsonl").write_bytes(precious)
    with pytest.raises(ConnectorError, match=r"was changed: the checkpoint has .* they end otherwise"):
        files(tmp_path / "other.jsonl").open_writer(AB, (), 0, 1, state)
    assert (tmp_path / "other.jsonl").read_bytes() == precious


def test_a_header_that_was_changed_is_noticed_however_long_the_file_is(tmp_path):
    sink, path, state = files(tmp_path / "out.csv"), tmp_path / "out.csv", None
    for number in range(200):
        state = written(sink, state=state, checkpoint=number + 1)
    changed = path.read_bytes().replace(b'"b"', b'"c"', 1)
    path.write_bytes(changed)
    with pytest.raises(ConnectorError, match=r"begins with .*c.*, the header is .*b"):
        sink.open_writer(AB, (), 0, 1, state)
    assert path.read_bytes() == changed


def test_a_directory_of_parts_that_is_gone_is_told_and_consumed_parts_may_be_gone(tmp_path, caplog):
    sink = files(tmp_path / "out.parquet")
    state = written(sink)
    (tmp_path / "out.parquet").rename(tmp_path / "moved")
    with pytest.raises(ConnectorError, match="is gone: the checkpoint has 1 parts in that directory"):
        sink.open_writer(AB, (), 0, 1, state)
    assert not (tmp_path / "out.parquet").exists()
    (tmp_path / "out.parquet").mkdir()
    written(sink, state=state, checkpoint=2)
    assert "the last part, part-00000001-000.parquet, is gone" in caplog.text
    assert [p.name for p in (tmp_path / "out.parquet").iterdir()] == ["part-00000002-000.parquet"]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_start_that_fails_has_touched_no_output(tmp_path, name):
    written(files(tmp_path / name))
    before = contents(tmp_path / name)
    topology = Topology("t")
    stream = topology.stream(memory("m", schema={"a": int}, rows=[{"a": 1}]))
    stream.to(files(tmp_path / name), name="first")
    stream.to(files(tmp_path / "no" / "directory.csv"), name="second")
    with pytest.raises(ConnectorError, match="there is no directory"):
        topology.run()
    assert contents(tmp_path / name) == before


@pytest.mark.parametrize("name", ["out[1].csv", "*.csv", "what?.csv", "[ab]/out.csv"])
def test_a_path_of_an_output_is_taken_as_it_is(tmp_path, name):
    (tmp_path / "[ab]").mkdir()
    topology = Topology("t")
    topology.stream(memory("m", schema={"a": int}, rows=[{"a": 1}])).to(files(tmp_path / name))
    for _ in range(2):
        topology.run(Config(state_dir=tmp_path / "state"))
    assert (tmp_path / name).read_text().splitlines() == ['"a"', "1"]
    # What exists is read by its very name too.
    assert Topology("r").stream(files(tmp_path / name, schema={"a": int})).collect().column("a").to_pylist() == [1]


@pytest.mark.parametrize(
    ("path", "format", "said"),
    [
        ("out.csv.gz", None, "does not write compressed text"),
        ("out.jsonl.zst", None, "does not write compressed text"),
        (["a.csv", "b.csv"], None, "a sink is one file"),
        ("", "csv", "is a directory"),
        ("no/out.csv", None, "there is no directory"),
        ("file/out.csv", None, "cannot be opened for writing"),
        ("fifo.csv", None, "not a regular file"),
        ("file", "parquet", "is a file; as a sink it is a directory"),
    ],
)
def test_an_output_that_cannot_be_written_says_why(tmp_path, path, format, said):
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "fifo.csv")
    paths = [tmp_path / p for p in path] if isinstance(path, list) else tmp_path / path
    topology = Topology("t")
    rows = topology.stream(memory("m", schema={"a": int}, rows=[{"a": 1}]))
    with pytest.raises(StreamError, match=said):
        rows.to(files(paths, format=format), name="out")
        topology.run()
    assert (tmp_path / "file").read_text() == "x"


def test_rows_in_memory_are_not_mixed_with_others():
    sink = memory("collected")
    writer = sink.open_writer(AB, (), 0, 1, None)
    writer.write(rows(AB), TIMES)
    state = writer.snapshot(1)
    with pytest.raises(ConnectorError, match=r"rows of \(a: int64, b: string\), the sink writes \(a: int64\) now"):
        sink.open_writer(Schema.of({"a": int}), (), 0, 1, state)
    assert len(sink.rows()) == 2
