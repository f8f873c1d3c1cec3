"""A declared column is data, whatever it is called: in files, in memory, in a test driver, behind a binding."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamdsl import Topology, TopologyError, UserCodeError, delta, files, http, kafka, memory, postgres, redis
from streamdsl.connectors.base import METADATA_COLUMNS
from streamdsl.testing import TopologyTestDriver

SCHEMA = dict.fromkeys(METADATA_COLUMNS, str) | {"a": int}
ROWS = [{**{name: f"{name} {n}" for name in METADATA_COLUMNS}, "a": n} for n in range(3)]


def sources(path):
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, path / "a.parquet")
    with pa.OSFile(str(path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    (path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (path / "a.csv").write_text(",".join(SCHEMA) + "\n" + "".join(",".join(map(str, row.values())) + "\n" for row in ROWS))
    yield from (files(path / name, schema=SCHEMA) for name in ("a.parquet", "a.arrow", "a.jsonl", "a.csv"))
    yield memory("m", schema=SCHEMA, rows=ROWS)
    yield memory("m", rows=table)


def test_declared_columns_are_data_in_every_source(tmp_path):
    for source in sources(tmp_path):
        assert Topology("t").stream(source).collect().to_pylist() == ROWS, source
        assert Topology("t").stream(source).select("_offset", "a").collect().to_pylist() == [
            {"_offset": row["_offset"], "a": row["a"]} for row in ROWS
        ]


def test_declared_columns_are_data_in_a_driver():
    topology = Topology("t")
    topology.stream(memory("m", schema=SCHEMA)).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send_batch("m", ROWS)
    assert driver.read("out") == ROWS


def test_declared_columns_are_data_behind_a_binding(tmp_path):
    topology = Topology("t")
    rows = topology.stream(memory("m", schema=SCHEMA))
    for source in sources(tmp_path):
        assert rows.collect(bind={"m": source}).to_pylist() == ROWS


def test_metadata_stays_metadata_behind_a_source_that_has_such_columns(tmp_path):
    rows = Topology("t").stream(memory("m", schema={"a": int})).select("a", "_offset")
    for source in sources(tmp_path):
        assert rows.collect(bind={"m": source}).to_pylist() == [{"a": n, "_offset": n} for n in range(3)]


def test_data_is_no_position_of_an_error():
    rows = Topology("t").stream(memory("m", schema=SCHEMA, rows=ROWS))
    with pytest.raises(UserCodeError) as caught:
        rows.map(lambda row: {"a": 1 // row.a}, schema={"a": int}).collect()
    assert not {"topic", "partition", "offset"} & {name for name, value in caught.value.context.items() if value is not None}
    assert rows.map(lambda row: {"a": 1 // row.a}, schema={"a": int}, errors="skip").collect().num_rows == 2


def test_a_column_without_data_is_told():
    rows = Topology("t").stream(memory("m", schema=SCHEMA))
    with pytest.raises(TopologyError, match="has no column '_topic'"):
        rows.collect(bind={"m": memory("other", schema={"a": int}, rows=[{"a": 1}])})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: memory(ROWS, schema=SCHEMA), "memory: name= is a text, not a list"),
        (lambda: memory(pa.table({"a": [1]})), "memory: name= is a text, not a Table"),
        (lambda: kafka(["a", "b"], {"a": int}), r"kafka\(\['a', 'b'\]\) names no topic"),
        (lambda: postgres({"host": "db"}, "t"), "postgres: dsn= is a text, not a dict"),
        (lambda: postgres("postgresql://db", 5), "postgres: table= is a text, not a int"),
        (lambda: redis("redis://cache", b"k"), "redis: key= is a text, not a bytes"),
        (lambda: http(5), "http: url= is a text, not a int"),
        (lambda: delta(5, {"a": int}), "delta: uri= is a text, not a int"),
        (lambda: Topology("t").stream(memory("m", {"a": int}), name=5), "stream: name=5 is no name"),
        (lambda: Topology("t").table(memory("m", {"a": int}), key="a", name=["x"]), "table: name=.*is no name"),
        (lambda: Topology("t").stream(memory("m", {"a": int})).to(memory("o"), name=5), "to: name=5 is no name"),
    ],
)
def test_what_is_no_text_is_no_name(make, why):
    with pytest.raises(TopologyError, match=why) as caught:
        make()
    assert caught.value.remedy
