"""Parquet and Arrow by value and by time, on disks and in an object store: each row once, in its directory, and read back."""

from __future__ import annotations

import datetime
import json
import os
import uuid

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from streamdsl import Config, ConnectorError, DataError, Topology, TopologyError, dead_letter, files, memory
from streamdsl.connectors.files import partitioned_writer
from streamdsl.object_stores import opened
from streamdsl.schema import Schema

HOUR_MS = 3_600_000
BEGIN_MS = 1_714_521_600_000  # 2024-05-01
SCHEMA = Schema.of({"id": int, "city": "str | None", "ok": bool, "day": datetime.date})
TEXTS = ["Lima", "a/b=c %", None, "Ñuñoa"]


def rows(first, count=20):
    day = datetime.date(2024, 5, 1)
    return [{"id": i, "city": TEXTS[i % 4], "ok": i % 3 == 0, "day": day + datetime.timedelta(i % 2)} for i in range(first, first + count)]


def put(writer, first, count=20):
    batch = pa.RecordBatch.from_pylist(rows(first, count), schema=SCHEMA.to_arrow())
    writer.write(batch, pa.array([BEGIN_MS + i * HOUR_MS for i in range(first, first + count)], pa.int64()))


def snapshot(writer, checkpoint_id):
    return json.loads(json.dumps(writer.snapshot(checkpoint_id)))


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path):
    return str(tmp_path / "lake.parquet") if request.param == "disk" else f"memory://{uuid.uuid4().hex}/lake.parquet"


def below(place):
    """Return the paths of all parts."""
    if "://" not in place:
        return sorted(os.path.relpath(os.path.join(folder, name), place) for folder, _, names in os.walk(place) for name in names)
    system, path = opened(place)
    return sorted(name.split("lake.parquet/")[1] for name in system.find(path))


def read(place, schema=SCHEMA, **options):
    found = Topology("t").stream(files(place, schema, **options)).collect().to_pylist()
    return sorted(found, key=lambda row: row["id"])


@pytest.mark.parametrize("format", ["parquet", "arrow"])
@pytest.mark.parametrize("by", [("city",), ("ok", "day"), ("city", "ok", "day"), ("id",)])
def test_rows_come_back_with_the_columns_of_their_directories(place, format, by):
    sink = files(place.replace("parquet", format), partition_by=by)
    writer = sink.open_writer(SCHEMA, (), 0, 1, None)
    put(writer, 0, 100)
    snapshot(writer, 1)
    writer.close()
    assert read(place.replace("parquet", format)) == rows(0, 100)


@pytest.mark.parametrize(("period", "more"), [("1d", {}), ("1h", {"hour": int})])
def test_directories_by_event_time(place, period, more):
    writer = files(place, partition_time=period).open_writer(SCHEMA, (), 0, 1, None)
    put(writer, 0, 50)
    snapshot(writer, 1)
    writer.close()
    found = read(place, {**{field.name: field.type for field in SCHEMA.fields}, "city": "str | None", "date": datetime.date, **more})
    for number, row in enumerate(found):
        at = datetime.datetime.fromtimestamp(BEGIN_MS / 1000, datetime.UTC) + datetime.timedelta(hours=number)
        assert row["date"] == at.date() and row.get("hour", at.hour) == at.hour
    assert len(found) == 50 and len(below(place)) == (50 if more else 3)


def test_others_read_it_as_hive_does(tmp_path):
    place = str(tmp_path / "lake.parquet")
    writer = files(place, partition_by=["city", "day"]).open_writer(SCHEMA, (), 0, 1, None)
    put(writer, 0)
    snapshot(writer, 1)
    writer.close()
    # City first: its null is the one that has a name of its own.
    expected = [(row["id"], row["city"], row["day"]) for row in rows(0)]
    found = duckdb.sql(f"select id, city, day from read_parquet('{place}/*/*/*.parquet', hive_partitioning=true) order by id").fetchall()
    assert [(number, city, datetime.date.fromisoformat(str(day))) for number, city, day in found] == expected
    frame = pl.scan_parquet(place, hive_partitioning=True, hive_schema={"city": pl.String, "day": pl.Date}).sort("id").collect()
    assert frame.select("id", "city", "day").rows() == expected


def test_what_no_checkpoint_took_disappears_from_every_directory(place):
    sink = files(place, partition_by="city")
    writer = sink.open_writer(SCHEMA, (), 0, 1, None)
    put(writer, 0)
    state = snapshot(writer, 1)
    put(writer, 100)
    snapshot(writer, 2)
    put(writer, 200, 2)
    for _ in range(2):
        sink.open_writer(SCHEMA, (), 0, 1, state).close()
        assert read(place) == rows(0)
    writer = sink.open_writer(SCHEMA, (), 0, 1, state)
    put(writer, 20)
    snapshot(writer, 2)
    snapshot(writer, 3)
    writer.close()
    assert read(place) == rows(0, 40)
    assert not [name for name in below(place) if "part-" not in name]
    # A run that begins anew removes what another one has left, with its first rows.
    writer = sink.open_writer(SCHEMA, (), 0, 1, None)
    assert len(read(place)) == 40
    put(writer, 900)
    snapshot(writer, 1)
    writer.close()
    assert read(place) == rows(900)


def test_more_directories_than_open_files(place, monkeypatch):
    monkeypatch.setattr(partitioned_writer, "_OPEN_FILES", 3)
    writer = files(place, partition_by="id").open_writer(SCHEMA, (), 0, 1, None)
    put(writer, 0, 10)
    put(writer, 5, 10)
    snapshot(writer, 1)
    writer.close()
    assert [row["id"] for row in read(place)] == sorted([*range(10), *range(5, 15)])


def test_a_job_that_is_killed_writes_each_row_once(tmp_path):
    place = str(tmp_path / "lake.parquet")

    def topology():
        made = Topology("copies")
        source = memory("in", {"id": int, "k": str, "at": int}, [{"id": i, "k": f"k{i % 5}", "at": i * HOUR_MS} for i in range(600)])
        made.stream(source, timestamp="at").to(files(place, partition_by="k", partition_time="1d"))
        return made

    for _ in range(2):
        run = topology().start(Config(state_dir=tmp_path / "state", checkpoint_interval="5ms", batch_rows=10))
        run.wait(0.05)
        run.abandon()
    topology().run(Config(state_dir=tmp_path / "state"))
    found = read(place, {"id": int, "k": str, "date": datetime.date})
    days = [datetime.date(1970, 1, 1) + datetime.timedelta(i // 24) for i in range(600)]
    assert found == [{"id": i, "k": f"k{i % 5}", "date": days[i]} for i in range(600)]


def test_other_partitions_than_before_are_refused(place):
    writer = files(place, partition_by="city").open_writer(SCHEMA, (), 0, 1, None)
    state = snapshot(writer, 1)
    writer.close()
    with pytest.raises(ConnectorError, match="has written it by city, and the sink writes by day now"):
        files(place, partition_by="day").open_writer(SCHEMA, (), 0, 1, state)


def test_an_empty_text_is_a_bad_row(place):
    def topology(**options):
        made = Topology("t")
        made.stream(memory("in", {"id": int, "t": str}, [{"id": i, "t": "x" * (i % 2)} for i in range(6)])).to(
            files(place, partition_by="t"), **options
        )
        return made

    with pytest.raises(DataError, match="is an empty text"):
        topology().run()
    bad = memory("bad")
    topology(errors=dead_letter(bad)).run()
    assert [row["id"] for row in read(place, {"id": int, "t": str})] == [1, 3, 5] and len(bad.rows()) == 3


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: files("x.jsonl", partition_by="city"), "are for Parquet and Arrow"),
        (lambda: files("x.parquet", partition_by="none"), "none"),
        (lambda: files("x.parquet", partition_by=["id", "city", "ok", "day"]), "names every column"),
        (lambda: files("x.parquet", partition_time="5m"), "known: 1d, 1h"),
        (lambda: files("s3://b/x.parquet", partition_by="f"), "'f', which is double"),
    ],
)
def test_what_cannot_be_is_refused_when_the_topology_is_built(made, words):
    schema = {"f": float} if "which is" in words else SCHEMA
    with pytest.raises(TopologyError, match=words):
        Topology("t").stream(memory("in", schema, [])).to(made())


def test_a_value_of_a_directory_that_is_no_value_of_the_column_is_named(tmp_path):
    place = str(tmp_path / "lake.parquet")
    writer = files(place, partition_by="city").open_writer(SCHEMA, (), 0, 1, None)
    put(writer, 0)
    snapshot(writer, 1)
    writer.close()
    with pytest.raises(ConnectorError, match=r"the directory says city=\S+, which is no int64"):
        read(place, {"id": int, "city": "int | None"})
