"""No value is changed on its way into a table or out of one; what the other side cannot hold is a bad row."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal as D

import psycopg
import pyarrow as pa
import pytest

from streamdsl import ConnectorError, Topology, dead_letter, memory, postgres

UTC = datetime.UTC
ODD = 'a"b.c 100%s {x} – ñ'


def at(microsecond, year=2024):
    return datetime.datetime(year, 1, 1, 0, 0, 0, microsecond, tzinfo=UTC)


def execute(server, text):
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(text)


def query(server, text):
    with psycopg.connect(server.dsn) as connection:
        return connection.execute(text).fetchall()


def put(sink, type_, values):
    """Write values as a column `v` beside a key, and return the keys of those that were refused."""
    schema = pa.schema([pa.field("k", pa.int64(), False), pa.field("v", type_)])
    rows = pa.table([pa.array(range(len(values)), pa.int64()), pa.array(values, type_)], schema=schema)
    letters = memory("letters")
    topology = Topology("puts")
    topology.stream(memory("in", schema, rows), name="in").to(sink, name="out", errors=dead_letter(letters))
    topology.run()
    assert all("'v'" in row["error"] or "COPY" in row["error"] for row in letters.rows())
    return sorted(row["offset"] for row in letters.rows())


@pytest.mark.parametrize(
    ("there", "type_", "kept", "refused"),
    [
        ("numeric(10,2)", pa.decimal128(20, 4), [D("1.2300"), D("-0.01"), D("99999999.99")], [D("1.2345"), D("100000000")]),
        ("numeric(10,-2)", pa.decimal128(20, 4), [D(1200)], [D(1234)]),
        ("numeric(10,2)", pa.float64(), [0.1, 1.25, 99999999.99, math.nan], [1.255, 0.30000000000000004, math.inf]),
        ("numeric", pa.float64(), [1.255, math.inf, 5e-324], []),
        ("real", pa.float32(), [0.5, 1e38], []),
        ("bigint", pa.uint64(), [3], [2**64 - 1]),
        ("timestamptz(0)", pa.timestamp("us", "UTC"), [at(0), at(0, 1)], [at(500_000), at(1)]),
        ("timestamptz(3)", pa.timestamp("us", "UTC"), [at(1_000), at(0, 9999)], [at(1_001)]),
        ("timestamptz", pa.timestamp("ns", "UTC"), [2_000, -2_000], [1, -1]),
        ("varchar(3)", pa.string(), ["abc", "ab "], ["abcd", "ab   ", "a\0"]),
        ("jsonb", pa.list_(pa.string()), [["x"], []], [["a\0"]]),
        ("json", pa.string(), ['{"a": 1}'], ["{a"]),
    ],
)
def test_what_a_column_would_round_or_cut_is_refused(server, table, there, type_, kept, refused):
    execute(server, f"CREATE TABLE {table} (k bigint, v {there})")
    assert put(postgres(server.dsn, table), type_, [*kept, *refused]) == list(range(len(kept), len(kept) + len(refused)))
    assert [k for (k,) in query(server, f"SELECT k FROM {table} ORDER BY k")] == list(range(len(kept)))


@pytest.mark.parametrize(
    ("there", "type_"),
    [("real", "float"), ("double precision", "int"), ("real", "int"), ("name", "str"), ("text[]", pa.list_(pa.string()))],
)
def test_types_that_would_change_values_are_refused_at_the_start(server, table, there, type_):
    execute(server, f"CREATE TABLE {table} (v {there})")
    topology = Topology("puts")
    topology.stream(memory("in", {"v": type_}, []), name="in").to(postgres(server.dsn, table), name="out")
    with pytest.raises(ConnectorError, match="column 'v' is"):
        topology.run()


def test_times_of_a_zone_are_the_same_instants(server, table):
    execute(server, f"CREATE TABLE {table} (k bigint, v timestamp)")
    put(postgres(server.dsn, table), pa.timestamp("ms", "America/Santiago"), [0])
    assert query(server, f"SELECT v FROM {table}") == [(datetime.datetime(1970, 1, 1),)]


def test_nested_values_are_the_json_that_other_sinks_write(server, table):
    type_ = pa.struct(
        [("b", pa.binary()), ("f", pa.list_(pa.float64())), ("t", pa.timestamp("ms", "UTC")), ("m", pa.map_(pa.string(), pa.int64()))]
    )
    put(postgres(server.dsn, table, create=True), type_, [{"b": b"\xff", "f": [math.nan, 0.5], "t": 0, "m": [("a", 1)]}])
    assert query(server, f"SELECT v FROM {table}") == [({"b": "/w==", "f": ["NaN", 0.5], "t": "1970-01-01T00:00:00.000Z", "m": {"a": 1}},)]


def test_a_key_that_is_null_or_not_unique_is_refused(server, table):
    execute(server, f"CREATE TABLE {table} (k bigint, v bigint, UNIQUE (v))")
    assert put(postgres(server.dsn, table, key="v"), pa.int64(), [5, None, 5, None]) == [1, 3]
    assert query(server, f"SELECT k, v FROM {table}") == [(2, 5)]
    with pytest.raises(ConnectorError, match="'k', which the table does not declare as unique"):
        put(postgres(server.dsn, table, key="k"), pa.int64(), [])


def test_keys_that_are_the_same_to_the_table_alone_replace_one_another(server, table):
    execute(server, f"CREATE TABLE {table} (k bigint, v double precision PRIMARY KEY)")
    assert put(postgres(server.dsn, table, key="v"), pa.float64(), [math.nan, math.nan, 1.0]) == []
    assert query(server, f"SELECT k FROM {table} ORDER BY k") == [(1,), (2,)]


def test_odd_names_are_written_read_and_looked_up(server):
    tables = [f"{ODD[:20].replace('.', ' ')}{'x' * 30}{end}" for end in "ab"]
    rows = [{ODD: i, "v": i * 0.5} for i in range(20)]
    for name in tables:
        topology = Topology("writes")
        stream = topology.stream(memory("in", {ODD: int, "v": float}, rows), name="in")
        stream.key_by(ODD).aggregate(v=stream_sum()).to(postgres(server.dsn, name, create=True), name="out")
        topology.run()
        source = postgres(server.dsn, name, {ODD: int, "v": float})
        assert Topology("reads").stream(source, name="in").collect().to_pylist() == rows
        keys = Topology("asks").stream(memory("in", {"k": int}, [{"k": 3}, {"k": 99}]), name="in")
        found = keys.join_lookup(postgres(server.dsn, name, {"v": "float | None"}, key=ODD), on="k").collect().to_pylist()
        assert found == [{"k": 3, "v": 1.5}, {"k": 99, "v": None}]


def stream_sum():
    from streamdsl import col

    return col("v").sum()


def read(server, table, type_, **options):
    letters = memory("letters")
    schema = {"k": int, "v": type_}
    found = Topology("r").stream(postgres(server.dsn, table, schema, errors=dead_letter(letters), **options), name="in").collect()
    assert all("'v'" in row["error"] for row in letters.rows())
    return [row["v"] for row in found.to_pylist()], sorted(row["offset"] for row in letters.rows())


@pytest.mark.parametrize(
    ("there", "values", "type_", "good"),
    [
        ("numeric", "1.5, 2, 'NaN', 1e30", int, {1: 2}),
        ("double precision", "1.5, 2, 'NaN'", int, {1: 2}),
        ("bigint", "300, 2", "int8", {1: 2}),
        ("numeric", "1e400, 0.1", float, {1: 0.1}),
        ("numeric", "1.2345, 1.2, 'NaN', 1e30", pa.decimal128(10, 2), {1: D("1.20")}),
        ("timestamptz", "'infinity', '2024-01-01Z', '0044-03-15 BC', '10000-01-01Z'", "timestamp", {1: at(0)}),
        ("date", "'-infinity', '2024-01-01'", datetime.date, {1: datetime.date(2024, 1, 1)}),
        ("bigint", "NULL, 2", int, {1: 2}),
        ("jsonb", "'[1, 2]', '[\"x\"]', '1'", pa.list_(pa.int64()), {0: [1, 2]}),
        ("text", "'[1]', 'no'", pa.list_(pa.int64()), {0: [1]}),
        ("json", "'{\"x\":  1.50}'", str, {0: '{"x":  1.50}'}),
    ],
)
def test_what_a_declared_type_cannot_hold_is_a_bad_row(server, table, there, values, type_, good):
    execute(server, f"CREATE TABLE {table} (k bigint PRIMARY KEY, v {there})")
    listed = values.split(", ") if there not in ("jsonb",) else values.replace("', '", "'|'").split("|")
    for number, value in enumerate(listed):
        execute(server, f"INSERT INTO {table} VALUES ({number}, {value})")
    found, refused = read(server, table, type_)
    assert found == list(good.values())
    assert refused == [number for number in range(len(listed)) if number not in good]


@pytest.mark.parametrize("key", ["char(5)", "mood", "float8", "timestamptz", "text", "numeric"])
def test_pages_go_on_behind_keys_of_any_type(server, table, key):
    values = {
        "char(5)": "'a' || i",
        "mood": "('m' || i)::mood",
        "float8": "i / 3.0",
        "timestamptz": "to_timestamp(i / 7.0)",
        "text": "'%' || i",
    }
    execute(server, f"DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ({', '.join(repr(f'm{i}') for i in range(1, 31))})")
    execute(server, f"CREATE TABLE {table} (k {key} PRIMARY KEY, v int)")
    execute(server, f"INSERT INTO {table} SELECT {values.get(key, 'i / 7.0')}, i FROM generate_series(1, 30) AS i")
    source = postgres(server.dsn, table, {"v": int})
    reader = source.open_split(table, None, ["v"])
    numbers = []
    for _ in range(7):
        chunk = reader.read(5)
        if not hasattr(chunk, "rows"):
            break
        numbers += chunk.rows["v"].to_pylist()
    reader.close()
    assert sorted(numbers) == list(range(1, 31))
    execute(server, f"DROP TABLE {table}")


@pytest.mark.parametrize(
    ("rows", "words"), [("(1, 1), (NULL, 2)", "is null in a row"), ("(1, 1), (1, 2), (2, 3)", "is the same in several")]
)
@pytest.mark.parametrize("page", [1, 1000])
def test_an_order_that_would_lose_rows_is_refused(server, table, rows, words, page):
    execute(server, f"CREATE TABLE {table} (k int, v int)")
    execute(server, f"INSERT INTO {table} VALUES {rows}")
    reader = postgres(server.dsn, table, {"v": int}, order_by="k").open_split(table, None, ["v"])
    with pytest.raises(ConnectorError, match=words):
        for _ in range(5):
            reader.read(page)
    reader.close()
