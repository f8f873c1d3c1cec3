"""What a source promises, of each connector that reads, against its real server."""

from __future__ import annotations

import json
import uuid
from typing import Any

import fsspec
import psycopg
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyarrow import parquet

from streamdsl import ConnectorError, DataError, Topology, dead_letter, delta, files, memory, postgres
from streamdsl.connectors.base import END, Source
from streamdsl.schema import Schema
from tests.contract.link import Link
from tests.contract.places import SCHEMA, rows

ARROW = SCHEMA.to_arrow()
SOURCES = ["postgres", "delta", "delta in S3", "parquet", "parquet in S3"]


class Given:
    """Rows that stand somewhere; `source` reads them as `schema`, and there is a `link` to the server."""

    def __init__(self, request: pytest.FixtureRequest, folder: str) -> None:
        self.kind, self.link = request.param, None
        store: Any = request.getfixturevalue("store") if "S3" in self.kind else None
        self._where = f"{'s3://bucket' if store else folder}/{uuid.uuid4().hex}"
        self._options, self._fsspec = (store.options, store.fsspec) if store else (None, {})
        if store:
            self.link: Any = store.link
        if self.kind == "postgres":
            self._server = request.getfixturevalue("database")
            self.link = Link(self._server.port)
            self._table = f"t_{uuid.uuid4().hex[:12]}"

    def put(self, given: list[dict[str, Any]], schema: pa.Schema = ARROW) -> None:
        """Have the rows stand there, in two files or pages."""
        table = pa.Table.from_pylist(given, schema=schema)
        if self.kind == "postgres":
            types = {pa.int64(): "bigint", pa.string(): "text", pa.float64(): "double precision", pa.bool_(): "boolean"}
            columns = ", ".join(f'"{field.name}" {types[field.type]}' for field in schema)
            with psycopg.connect(self._server.dsn, autocommit=True) as connection:
                connection.execute(f"CREATE TABLE {self._table} ({columns}, PRIMARY KEY (id))")  # type: ignore[call-overload]
                names, marks = ", ".join(f'"{name}"' for name in schema.names), ", ".join(["%s"] * len(schema.names))
                if given:
                    connection.cursor().executemany(
                        f"INSERT INTO {self._table} ({names}) VALUES ({marks})",  # type: ignore[arg-type]
                        [tuple(row[name] for name in schema.names) for row in given],
                    )
        elif self.kind.startswith("delta"):
            write_deltalake(self._where, table, storage_options=self._options)
        else:
            self._write_parts(table)

    def _write_parts(self, table: pa.Table) -> None:
        system = fsspec.filesystem("s3" if "S3" in self.kind else "file", **self._fsspec)
        if "S3" not in self.kind:
            system.makedirs(f"{self._where}/part=a")
        with system.open(f"{self._where}/part=a/x.parquet", "wb") as file:
            parquet.write_table(table, file)

    def source(self, schema: Any = SCHEMA, **options: Any) -> Source:
        if self.kind == "postgres":
            dsn = self._server.dsn.replace(str(self._server.port), str(self.link.port))
            return postgres(dsn, self._table, schema, **options)
        if self.kind.startswith("delta"):
            return delta(self._where, schema, storage_options=self._options, **options)
        return files(self._where, schema, format="parquet", **options)


@pytest.fixture(params=SOURCES)
def given(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    made = Given(request, str(tmp_path))
    yield made
    if made.kind == "postgres":
        made.link.close()
    elif made.link is not None:
        made.link.come_back()


def read(source: Source, size: int = 7, position: Any = None, columns: Any = SCHEMA.names) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    reader = source.open_split(source.splits()[0], position, columns)
    while (chunk := reader.read(size)) is not END:
        found += chunk.rows.to_pylist()
    assert reader.read(size) is END
    reader.close()
    return found


def test_rows_come_as_they_are_and_end(given):
    given.put(rows(0, 40))
    source = given.source()
    assert source.bounded and list(source.splits()) == list(source.splits())
    assert read(source) == rows(0, 40)
    assert read(source, columns=["_offset", "id"]) == [{"_offset": i, "id": i} for i in range(40)]
    assert len(read(source, columns=[])) == 40


def test_no_rows_end_at_once(given):
    given.put([])
    assert read(given.source()) == []


def test_reading_goes_on_at_every_position(given):
    given.put(rows(0, 12))
    source = given.source()
    reader = source.open_split(source.splits()[0], None, SCHEMA.names)
    done = 0
    while (chunk := reader.read(5)) is not END:
        for count in range(chunk.rows.num_rows + 1):
            position = json.loads(json.dumps(reader.position(chunk, count)))
            assert read(source, position=position) == rows(0, 12)[done + count :]
        done += chunk.rows.num_rows
    reader.close()


NARROW = Schema.of({"id": int, "name": str, "Größe №": float, "ok": "bool | None"})


def test_rows_that_do_not_fit_are_bad_and_keep_their_places(given):
    given.put(rows(0, 12))
    bad = [row["id"] for row in rows(0, 12) if row["name"] is None or row["Größe №"] is None]
    with pytest.raises(DataError, match=r"'name'|'Größe №'"):
        Topology("t").stream(given.source(NARROW), name="in").collect()
    letters = memory("letters")
    found = Topology("t").stream(given.source(NARROW, errors=dead_letter(letters)), name="in").collect().to_pylist()
    assert found == [row for row in rows(0, 12) if row["id"] not in bad]
    assert sorted(row["offset"] for row in letters.rows()) == bad


@pytest.mark.parametrize(
    ("schema", "words"), [({"id": int, "nam": str}, "nam"), ({"id": bool, "name": str}, "id"), ({"id": int, "name": int}, "name")]
)
def test_other_columns_are_refused_by_name(given, schema, words):
    given.put(rows(0, 2))
    with pytest.raises((ConnectorError, DataError), match=f"'{words}'"):
        Topology("t").stream(given.source(Schema.of(schema)), name="in").collect()


def test_what_is_not_there_is_named(given):
    if given.kind == "postgres":
        given._table = "absent"
    with pytest.raises(ConnectorError, match=r"there is no|no object|no file|no such|not exist|cannot be found|No such"):
        Topology("t").stream(given.source(), name="in").collect()


def test_a_server_that_goes_and_comes_back(given):
    if given.link is None:
        return
    given.put(rows(0, 400))
    source = given.source()
    out = memory("out")
    topology = Topology("t")
    topology.stream(source, name="in").to(out, name="out")
    given.link.slow(0.002)
    given.link.cut()
    topology.run()
    given.link.slow(0)
    assert sorted(out.rows(), key=lambda row: row["id"]) == rows(0, 400)
