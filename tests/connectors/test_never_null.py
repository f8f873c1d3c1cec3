"""A null in a column that is never null is a bad record, whatever it came through."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamdsl import StreamError, Topology, dead_letter, files, memory
from streamdsl.connectors.base import END, Chunk, Source, SplitReader, no_metadata
from streamdsl.connectors.memory.memory import Memory
from streamdsl.schema import Schema

ROWS = [{"k": "a", "v": 1.5}, {"k": None, "v": 2.5}, {"k": "c", "v": None}, {"k": "d", "v": 4.5}]


@dataclass
class Optional:
    k: str = "none"
    v: float = -1.0


class Own(Source):
    """A source of one's own that does not look at its rows."""

    name, bounded = "own", True

    def __init__(self, schema, errors="fail"):
        self.schema, self.errors = Schema.of(schema), errors

    def splits(self):
        return ["only"]

    def open_split(self, split, position, columns):
        return OwnReader(0 if position is None else position["start"] + position["skip"], columns)


class OwnReader(SplitReader):
    def __init__(self, at, columns):
        self.at, self.columns = at, columns

    def read(self, max_rows):
        if self.at >= len(ROWS):
            return END
        first, self.at = self.at, len(ROWS)
        types = {"k": pa.string(), "v": pa.float64()}
        rows = {
            name: pa.array([row[name] for row in ROWS[first:]], types[name]) if name in types else no_metadata(name, len(ROWS) - first)
            for name in self.columns
        }
        return Chunk(pa.RecordBatch.from_pydict(rows), first)


def _json(folder, schema, errors):
    (folder / "in.jsonl").write_text("".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in ROWS))
    return files(folder / "in.jsonl", schema, errors=errors)


def _packed(folder, schema, errors):
    (folder / "in.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    return files(folder / "in.jsonl.gz", schema, errors=errors)


def _parquet(folder, schema, errors):
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "in.parquet")
    return files(folder / "in.parquet", schema, errors=errors)


def _arrow(folder, schema, errors):
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(str(folder / "in.arrow"), table.schema) as file:
        file.write_table(table)
    return files(folder / "in.arrow", schema, errors=errors)


def _memory(folder, schema, errors):
    source = memory("m", schema, ROWS)
    kind = type("Told", (Memory,), {"errors": errors})
    return kind(**{item.name: getattr(source, item.name) for item in fields(source)})


SOURCES = {
    "json": _json,
    "compressed json": _packed,
    "parquet": _parquet,
    "arrow": _arrow,
    "memory": _memory,
    "own": lambda folder, *given: Own(*given),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "schema", [{"k": str, "v": float}, pa.schema([pa.field("k", pa.string(), False), pa.field("v", pa.float64(), False)])]
)
def test_it_is_dealt_with_as_the_policy_says(tmp_path, source, schema):
    with pytest.raises(StreamError, match="'k'"):
        Topology("t").stream(SOURCES[source](tmp_path, schema, "fail")).collect()
    kept = Topology("t").stream(SOURCES[source](tmp_path, schema, "skip")).collect().to_pylist()
    assert kept == [ROWS[0], ROWS[3]]
    letters, out = memory("letters"), memory("out")
    topology = Topology("t")
    topology.stream(SOURCES[source](tmp_path, schema, dead_letter(letters))).to(out)
    topology.run()
    assert out.rows() == [ROWS[0], ROWS[3]]
    assert [row["error"].split("'")[1] for row in letters.rows()] == ["k", "v"]


@pytest.mark.parametrize("source", SOURCES)
def test_columns_that_may_be_null_keep_their_nulls(tmp_path, source):
    schema = {"k": str | None, "v": "float64 | None"}
    assert Topology("t").stream(SOURCES[source](tmp_path, schema, "fail")).collect().to_pylist() == ROWS


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "own"])
def test_a_default_stands_where_there_is_no_value(tmp_path, source):
    found = Topology("t").stream(SOURCES[source](tmp_path, Optional, "fail")).collect().to_pylist()
    assert found == [{"k": row["k"] or "none", "v": -1.0 if row["v"] is None else row["v"]} for row in ROWS]


def test_a_default_stands_for_a_column_and_for_an_empty_field_of_csv(tmp_path):
    (tmp_path / "in.csv").write_text("k,other\na,1\n,2\n")
    found = Topology("t").stream(files(tmp_path / "in.csv", Optional)).collect().to_pylist()
    assert found == [{"k": "a", "v": -1.0}, {"k": "none", "v": -1.0}]
    (tmp_path / "in.csv").write_text("other\n1\n")
    with pytest.raises(StreamError, match="no column 'k', 'v'"):
        Topology("t").stream(files(tmp_path / "in.csv", Optional)).collect()


@pytest.mark.parametrize("verb", ["map", "flat_map", "map_batches"])
def test_a_function_that_returns_none_for_it_has_made_a_bad_row(verb):
    made = {
        "map": lambda row: {"v": None if row.a == 2 else 1.0},
        "flat_map": lambda row: [{"v": None if row.a == 2 else 1.0}],
        "map_batches": lambda batch: pa.RecordBatch.from_pydict({"v": pa.array([1.0, None, 1.0], pa.float64())}),
    }[verb]
    rows = Topology("t").stream(memory("m", schema={"a": int}, rows=[{"a": 1}, {"a": 2}, {"a": 3}]))
    with pytest.raises(StreamError, match="'v'"):
        getattr(rows, verb)(made, schema={"v": float}).collect()
    found = getattr(rows, verb)(made, schema={"v": float | None}).collect().column("v").to_pylist()
    assert found == [1.0, None, 1.0]
