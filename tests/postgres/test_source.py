"""A table that is read: in pages, from where a run stopped."""

from __future__ import annotations

import psycopg
import pytest

from streamdsl import ConnectorError, Topology, memory, postgres
from streamdsl.connectors.base import END


def fill(server, table, n, key="PRIMARY KEY"):
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {table} (id bigint {key}, name text, score numeric, at timestamptz)")
        connection.execute(
            f"INSERT INTO {table} SELECT i, 'n' || i, i / 4.0, to_timestamp(i) FROM generate_series(1, {n}) AS i ORDER BY random()"
        )


SCHEMA = {"id": int, "name": str, "score": float, "at": "timestamp"}


def collect(source):
    topology = Topology("read")
    out = memory("out")
    topology.stream(source, timestamp="at").to(out, name="out")
    topology.run()
    return out.rows()


def test_every_row_is_read_in_the_order_of_the_key(server, table):
    fill(server, table, 1_000)
    rows = collect(postgres(server.dsn, table, SCHEMA))
    assert [(row["id"], row["name"], row["score"]) for row in rows] == [(i, f"n{i}", i / 4) for i in range(1, 1_001)]
    assert rows[0]["at"].timestamp() == 1.0


def test_a_position_is_the_last_key(server, table):
    fill(server, table, 100)
    source = postgres(server.dsn, table, SCHEMA)
    reader = source.open_split(table, None, ["name"])
    chunk = reader.read(30)
    position = reader.position(chunk, 17)
    reader.close()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"DELETE FROM {table} WHERE id < 10")
        connection.execute(f"INSERT INTO {table} VALUES (1000, 'late', 1, now())")
    names = []
    again = source.open_split(table, position, ["name", "_offset"])
    while (chunk := again.read(7)) is not END:
        names += chunk.rows.to_pylist()
    again.close()
    assert [row["name"] for row in names] == [*(f"n{i}" for i in range(18, 101)), "late"]
    assert [row["_offset"] for row in names] == list(range(17, 17 + len(names)))


def test_without_a_key_the_order_has_to_be_named(server, table):
    fill(server, table, 10, key="")
    with pytest.raises(ConnectorError, match="order_by="):
        collect(postgres(server.dsn, table, SCHEMA))
    assert len(collect(postgres(server.dsn, table, SCHEMA, order_by=["at", "id"]))) == 10


@pytest.mark.parametrize(
    ("schema", "words"),
    [({"id": int, "nam": str}, "did you mean 'name'"), ({"name": int}, "column 'name' is text in the table, and int64")],
)
def test_a_table_that_does_not_fit_is_refused(server, table, schema, words):
    fill(server, table, 1)
    with pytest.raises(ConnectorError, match=words):
        topology = Topology("read")
        topology.stream(postgres(server.dsn, table, schema)).to(memory("out"), name="out")
        topology.run()
