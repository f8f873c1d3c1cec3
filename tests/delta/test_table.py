"""Tables of Delta Lake: each row once whatever dies, partitions, types, and what is refused."""

from __future__ import annotations

import datetime
import decimal
import json
import os

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from streamdsl import Config, ConnectorError, DataError, Topology, TopologyError, col, dead_letter, delta, memory
from streamdsl.schema import Schema

SCHEMA = Schema.of({"id": int, "city": "str | None"})


def rows(first, count=10):
    return [{"id": i, "city": None if i % 5 == 4 else f"c{i % 3}/ä"} for i in range(first, first + count)]


def batch(first, count=10):
    return pa.RecordBatch.from_pylist(rows(first, count), schema=SCHEMA.to_arrow())


def put(writer, first, count=10):
    writer.write(batch(first, count), pa.array([0] * count, pa.int64()))


def snapshot(writer, checkpoint_id):
    return json.loads(json.dumps(writer.snapshot(checkpoint_id)))


def opened(sink, state=None):
    return sink.open_writer(SCHEMA, (), 0, 1, state)


def there(path):
    return sorted(DeltaTable(path).to_pyarrow_table().to_pylist(), key=lambda row: row["id"])


def ids(path):
    return [row["id"] for row in there(path)]


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


@pytest.mark.parametrize("partition_by", [(), ("city",)])
@pytest.mark.parametrize("made", [False, True])
def test_a_commit_that_a_crash_has_cut_off_is_made_once(lake, partition_by, made):
    sink = delta(lake, partition_by=partition_by).configured(None, "job")
    writer = opened(sink)
    put(writer, 0)
    snapshot(writer, 1)
    writer.commit(1)
    put(writer, 10)
    state = snapshot(writer, 2)
    assert ids(lake) == list(range(10))
    if made:
        writer.commit(2)  # and nobody heard of it
    put(writer, 900)
    snapshot(writer, 3)  # of no checkpoint that completes
    for _ in range(3):
        writer = opened(sink, state)
        assert there(lake) == rows(0, 20)
    put(writer, 20)
    state = snapshot(writer, 3)
    writer.commit(3)
    writer.close()
    assert there(lake) == rows(0, 30)
    opened(sink, state).close()
    assert ids(lake) == list(range(30))
    history = DeltaTable(lake).history()
    assert [int(one["streamdsl.checkpoint"]) for one in reversed(history) if "streamdsl.checkpoint" in one] == [1, 2, 3]


def test_rows_of_a_checkpoint_that_failed_come_with_the_next(lake):
    writer = opened(delta(lake))
    put(writer, 0)
    snapshot(writer, 1)
    put(writer, 10)
    state = snapshot(writer, 2)
    writer.commit(2)
    put(writer, 20)
    writer.close()
    assert ids(lake) == list(range(20))
    opened(delta(lake), state)
    assert ids(lake) == list(range(20))


def test_a_checkpoint_without_rows_makes_no_commit(lake):
    writer = opened(delta(lake))
    version = DeltaTable(lake).version()
    for number in (1, 2):
        state = snapshot(writer, number)
        writer.commit(number)
    assert DeltaTable(lake).version() == version
    opened(delta(lake), state).close()


def test_an_older_checkpoint_than_the_tables_is_refused(lake):
    writer = opened(delta(lake))
    put(writer, 0)
    old = snapshot(writer, 1)
    writer.commit(1)
    put(writer, 10)
    snapshot(writer, 2)
    writer.commit(2)
    with pytest.raises(ConnectorError, match="it has checkpoint 2 of this job, and the state directory goes on from 1"):
        opened(delta(lake), old)


def test_what_no_checkpoint_has_taken_leaves_no_file(lake):
    writer = opened(delta(lake))
    writer.write(batch(0, 70_000), pa.array([0] * 70_000, pa.int64()))
    writer.close()
    assert not [name for name in os.listdir(lake) if name.endswith(".parquet")]


def test_more_partitions_than_open_files(lake):
    writer = opened(delta(lake, partition_by="id"))
    put(writer, 0, 150)
    snapshot(writer, 1)
    writer.commit(1)
    assert ids(lake) == list(range(150))


def test_others_may_write_and_compact_meanwhile(lake):
    writer = opened(delta(lake))
    put(writer, 0)
    snapshot(writer, 1)
    writer.commit(1)
    write_deltalake(lake, pa.Table.from_batches([batch(100)]), mode="append")
    DeltaTable(lake).optimize.compact()
    put(writer, 10)
    snapshot(writer, 2)
    writer.commit(2)
    assert ids(lake) == [*range(20), *range(100, 110)]


EVERY = {
    "i": int,
    "small": "uint16",
    "f": float,
    "t": str,
    "ok": bool,
    "at": datetime.datetime,
    "day": datetime.date,
    "d": decimal.Decimal,
    "b": bytes,
    "l": list[int],
}


@pytest.mark.parametrize("partition_by", [(), ("t", "i", "ok", "day")])
def test_values_come_back_as_they_were(lake, partition_by):
    made = [
        {
            "i": i,
            "small": 65_535,
            "f": 0.1,
            "t": ["ñ %/=", "x", "a b"][i % 3],
            "ok": bool(i % 2),
            "at": datetime.datetime(1969, 5, 1, 2, 3, 4, 5000, tzinfo=datetime.UTC),
            "day": datetime.date(2024, 5, 1 + i % 2),
            "d": decimal.Decimal("-12345.678900"),
            "b": b"\x00\xff",
            "l": [1, i],
        }
        for i in range(1, 6)
    ]
    topology = Topology("writes")
    topology.stream(memory("in", EVERY, made)).to(delta(lake, partition_by=partition_by))
    topology.run()
    found = Topology("reads").stream(delta(lake, EVERY)).collect().to_pylist()
    assert sorted(found, key=lambda row: row["i"]) == made


def test_an_empty_text_is_no_partition(lake):
    def topology(**options):
        made = Topology("writes")
        texts = memory("in", {"id": int, "t": str}, [{"id": i, "t": "x" * (i % 2)} for i in range(6)])
        made.stream(texts).to(delta(lake, partition_by="t"), **options)
        return made

    with pytest.raises(DataError, match="an empty text is a null"):
        topology().run()
    bad = memory("bad")
    topology(errors=dead_letter(bad)).run()
    assert ids(lake) == [1, 3, 5] and len(bad.rows()) == 3


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_job_that_goes_on_writes_each_row_once(lake, tmp_path, parallelism):
    def topology(count):
        made = Topology("copies")
        made.stream(memory("in", SCHEMA, rows(0, 1_000)[:count], splits=3)).key_by("city").filter(col("id") >= 0).to(delta(lake))
        return made

    run = topology(1_000).start(Config(state_dir=tmp_path / "state", checkpoint_interval="20ms", batch_rows=10, parallelism=parallelism))
    run.abandon()
    topology(1_000).run(Config(state_dir=tmp_path / "state", parallelism=parallelism))
    assert ids(lake) == [i for i in range(1_000) if i % 5 != 4]
    again = topology(1_000).start(Config(state_dir=tmp_path / "state", parallelism=parallelism))
    again.wait()
    assert again.already_finished and len(ids(lake)) == 800


def test_one_version_is_read_however_the_table_goes_on(lake):
    for at in range(3):
        write_deltalake(lake, pa.Table.from_batches([batch(10 * at)]), mode="append")
    source = delta(lake, SCHEMA)
    reader = source.open_split(source.splits()[0], None, ["id", "_topic", "_offset"])
    chunk = reader.read(15)
    position = json.loads(json.dumps(reader.position(chunk, 3)))
    DeltaTable(lake).optimize.compact()
    write_deltalake(lake, pa.Table.from_batches([batch(500)]), mode="append")
    again = source.open_split(source.splits()[0], position, ["id", "_offset"])
    read = []
    while hasattr(more := again.read(4), "rows"):
        read += more.rows.to_pylist()
    assert read == [{"id": i, "_offset": i} for i in range(3, 30)]
    assert len(Topology("t").stream(delta(lake, SCHEMA, version=0)).collect()) == 10
    assert len(Topology("t").stream(delta(lake, SCHEMA)).collect()) == 40


def test_bad_rows_are_a_matter_of_errors(lake):
    write_deltalake(lake, pa.table({"id": [1, 300, 2, None], "city": ["a", "b", "c", "d"]}))
    narrow = Schema.of({"id": "int8", "city": str})
    with pytest.raises(DataError, match="300"):
        Topology("t").stream(delta(lake, narrow)).collect()
    bad = memory("bad")
    stream = Topology("t").stream(delta(lake, narrow, errors=dead_letter(bad)))
    assert [row["id"] for row in stream.collect().to_pylist()] == [1, 2]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (pa.table({"id": [1]}), "no column 'city'"),
        (pa.table({"id": ["x"], "city": ["x"]}), "'id' is string, and the stream's int64"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_at_the_start(lake, made, words):
    write_deltalake(lake, made)
    with pytest.raises(ConnectorError, match=words):
        opened(delta(lake))


def test_other_partitions_than_the_tables_are_refused(lake):
    opened(delta(lake, partition_by="city")).close()
    opened(delta(lake)).close()
    with pytest.raises(ConnectorError, match="it is partitioned by city"):
        opened(delta(lake, partition_by="id"))


@pytest.mark.parametrize(
    ("sink", "schema", "words"),
    [
        (delta("x", version=1), {"a": int}, "has a version"),
        (delta("x"), {"a": "uint64"}, "no type for column 'a', uint64"),
        (delta("x"), {"a": pa.duration("ms")}, "no type for column 'a', duration"),
        (delta("x", partition_by="b"), {"a": int}, "b"),
        (delta("x", partition_by="a"), {"a": float, "b": int}, "'a', which is double"),
        (delta("x", partition_by="a"), {"a": int}, "names every column"),
    ],
)
def test_what_a_table_cannot_hold_is_refused_when_the_topology_is_built(sink, schema, words):
    with pytest.raises(TopologyError, match=words):
        Topology("t").stream(memory("in", schema, [])).to(sink)


def test_a_source_without_a_table_and_a_loop_are_refused(lake):
    with pytest.raises(ConnectorError, match="there is no table"):
        Topology("t").stream(delta(lake, SCHEMA)).collect()
    opened(delta(lake)).close()
    topology = Topology("loop")
    topology.stream(delta(lake, SCHEMA)).to(delta(lake))
    with pytest.raises(TopologyError, match="lake"):
        topology.run()


def test_secrets_are_not_shown():
    for made in (lambda: delta("s3://key:hunter2@bucket/t"), lambda: delta("s3://bucket/t?secret=hunter2")):
        with pytest.raises(TopologyError) as refused:
            made()
        assert "hunter2" not in str(refused.value)
    made = delta("s3://bucket/t", storage_options={"AWS_SECRET_ACCESS_KEY": "hunter2"})
    assert "hunter2" not in repr(made) + str(made.options)


def test_a_withdrawn_row_has_no_place_there(lake):
    table = Topology("t").table(memory("in", {"id": int, "city": "str | None"}, []), key="id")
    with pytest.raises(TopologyError, match="withdraw"):
        table.to(delta(lake))
