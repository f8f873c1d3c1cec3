"""Files in an object store, as sources and as sinks."""

from __future__ import annotations

import io
import uuid

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from streamdsl import Config, ConnectorError, Topology, TopologyError, col, files, memory, object_stores

SCHEMA = {"k": str, "v": int}
ROWS = [{"k": f"k{i}", "v": i} for i in range(50)]


@pytest.fixture
def place(monkeypatch):
    """A URL of an empty place in memory."""
    monkeypatch.setattr(object_stores, "_PAUSE_S", 0.001)
    return f"memory://{uuid.uuid4().hex}"


def put(url, data):
    with fsspec.open(url, "wb") as file:
        file.write(data)


def content(suffix, rows):
    if suffix == "csv":
        return b"k,v\n" + "".join(f"{row['k']},{row['v']}\n" for row in rows).encode()
    if suffix == "jsonl":
        return "".join(f'{{"k": "{row["k"]}", "v": {row["v"]}}}\n' for row in rows).encode()
    buffer, table = io.BytesIO(), pa.Table.from_pylist(rows)
    if suffix == "parquet":
        parquet.write_table(table, buffer)
    else:
        with pa.ipc.new_file(buffer, table.schema) as writer:
            writer.write_table(table)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "arrow"])
def test_objects_of_every_format_are_read(place, suffix):
    put(f"{place}/a-1.{suffix}", content(suffix, ROWS[:20]))
    put(f"{place}/a-2.{suffix}", content(suffix, ROWS[20:]))
    put(f"{place}/b.{suffix}", content(suffix, ROWS[:1]))
    for path, rows in ((f"{place}/a-*.{suffix}", ROWS), (f"{place}/b.{suffix}", ROWS[:1])):
        topology = Topology("t")
        read = topology.stream(files(path, SCHEMA), name="in")
        assert sorted(read.collect().to_pylist(), key=lambda row: row["v"]) == rows
        assert set(read.select(at=col("_topic")).collect()["at"].to_pylist()) <= {f"{place}/{n}.{suffix}" for n in ("a-1", "a-2", "b")}


def test_a_compressed_object_and_a_folder_are_read(place):
    import gzip

    put(f"{place}/in/x.csv.gz", gzip.compress(content("csv", ROWS)))
    topology = Topology("t")
    assert topology.stream(files(f"{place}/in", SCHEMA, format="csv")).collect().num_rows == len(ROWS)


def test_a_job_goes_on_where_it_was_and_reads_what_came(place, tmp_path):
    out = memory("out")
    put(f"{place}/1.csv", content("csv", ROWS[:10]))

    def job():
        topology = Topology("t")
        topology.stream(files(f"{place}/*.csv", SCHEMA), name="in").to(out, name="out")
        return topology.run(Config(state_dir=tmp_path / "s"))

    job()
    assert job().already_finished
    put(f"{place}/2.csv", content("csv", ROWS[10:]))
    job()
    assert [row["v"] for row in out.rows()] == list(range(50))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_sink_writes_a_part_for_each_checkpoint(place, suffix, tmp_path):
    target = f"{place}/out.{suffix}"
    topology = Topology("t")
    topology.stream(memory("in", SCHEMA, ROWS), name="in").to(files(target), name="out")
    topology.run(Config(state_dir=tmp_path / "s"))
    again = Topology("again")
    rows = again.stream(files(target, SCHEMA, format=suffix)).collect().to_pylist()
    assert rows == ROWS


def test_what_no_checkpoint_covers_is_removed(place):
    target = f"{place}/out.parquet"
    put(f"{target}/part-00000007-000-000.parquet", content("parquet", ROWS))
    put(f"{target}/notes.txt", b"mine")
    topology = Topology("t")
    topology.stream(memory("in", SCHEMA, ROWS), name="in").to(files(target), name="out")
    topology.run()
    names = sorted(name.rpartition("/")[2] for name in fsspec.filesystem("memory").find(target.partition("://")[2]))
    assert names == ["notes.txt", "part-00000001-000-000.parquet"]


def test_requests_that_fail_are_made_again(place, monkeypatch):
    put(f"{place}/a.csv", content("csv", ROWS))
    system = fsspec.filesystem("memory")
    faults = {"get_file": 2, "put_file": 2}
    for method in list(faults):
        plain = getattr(type(system), method)

        def fails(self, *arguments, plain=plain, method=method, **options):
            if faults[method] > 0:
                faults[method] -= 1
                raise ConnectionError("gone")
            return plain(self, *arguments, **options)

        monkeypatch.setattr(type(system), method, fails)
    topology = Topology("t")
    topology.stream(files(f"{place}/a.csv", SCHEMA), name="in").to(files(f"{place}/out.parquet"), name="out")
    topology.run()
    assert faults == {"get_file": 0, "put_file": 0}
    faults["get_file"] = 99
    with pytest.raises(ConnectorError, match="cannot be read: ConnectionError"):
        topology.run()


def test_what_cannot_be_is_refused(place):
    topology = Topology("t")
    read = topology.stream(memory("in", SCHEMA, ROWS), name="in")
    with pytest.raises(TopologyError, match="cannot grow"):
        read.to(files(f"{place}/out.csv"))
    with pytest.raises(TopologyError, match="some are URLs"):
        files([f"{place}/a.csv", "b.csv"], SCHEMA)
    with pytest.raises(TopologyError, match="page of the web"):
        files("https://example.com/a.csv", SCHEMA)
    with pytest.raises(ConnectorError, match="no object matches"):
        Topology("u").stream(files(f"{place}/none-*.csv", SCHEMA)).collect()
    with pytest.raises(ConnectorError, match="cannot be used"):
        Topology("u").stream(files("nothing://a/b.csv", SCHEMA)).collect()


@pytest.mark.parametrize(
    ("read", "written"),
    [
        ("in.parquet", "./in.parquet"),
        ("in//a.parquet", "in"),
        ("sub/../out.parquet", "out.parquet"),
        (".", "out.parquet"),
        ("*/*.parquet", "out"),
        ("**/*.parquet", "out.parquet"),
        ("*/part-*.parquet", "out.parquet/"),
    ],
)
def test_a_place_that_is_read_is_not_written(place: str, read: str, written: str) -> None:
    topology = Topology("t")
    rows = topology.stream(files(f"{place}/{read}", schema=SCHEMA, format="parquet"), name="in")
    rows.to(files(f"{place}/{written}", format="parquet"), name="out")
    with pytest.raises(TopologyError, match="'out' writes what the source 'in' reads"):
        topology.run(Config())


@pytest.mark.parametrize(("one", "other"), [("out", "out/"), ("out", "./out"), ("out", "out/in"), ("a/../out", "out")])
def test_two_sinks_need_two_places(place: str, one: str, other: str) -> None:
    topology = Topology("t")
    read = topology.stream(memory("in", SCHEMA, ROWS), name="in")
    for number, target in enumerate((one, other)):
        read.to(files(f"{place}/{target}", format="parquet"), name=f"out{number}")
    with pytest.raises(TopologyError, match="write to the same place"):
        topology.run(Config())
