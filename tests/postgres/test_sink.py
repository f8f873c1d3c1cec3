"""Rows in a table: exactly once, by key, and clear errors."""

from __future__ import annotations

import datetime
import random
import subprocess
import sys
import time
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest

from streamdsl import (
    Config,
    ConfigError,
    ConnectorError,
    DataError,
    Topology,
    TopologyError,
    col,
    count,
    dead_letter,
    kafka,
    memory,
    postgres,
)
from streamdsl.connectors.postgres.transaction import PostgresTransaction
from tests import silence
from tests.held import Held
from tests.postgres.job import read
from tests.postgres.job import topology as sums
from tests.postgres.server import PASSWORD, Server


def query(server: Server, text: str) -> list[tuple]:
    with psycopg.connect(server.dsn) as connection:
        return connection.execute(text).fetchall()


def execute(server: Server, text: str) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(text)


def copying(rows, sink, schema=None, errors=None):
    topology = Topology("copy")
    topology.stream(memory("rows", schema=schema or {"id": int, "name": str}, rows=rows)).to(sink, name="out", errors=errors)
    return topology


TYPES = pa.schema(
    [
        ("b", pa.bool_()),
        ("i8", pa.int8()),
        ("i", pa.int64()),
        ("u", pa.uint64()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("raw", pa.binary()),
        ("at", pa.timestamp("ms", tz="UTC")),
        ("day", pa.date32()),
        ("money", pa.decimal128(18, 2)),
        ("tags", pa.list_(pa.string())),
    ]
)
NOON = datetime.datetime(2024, 2, 29, 12, 0, 0, 1000)
VALUES = [
    [
        True,
        -128,
        -(2**63),
        2**64 - 1,
        0.1,
        'a "b", c\n\\N',
        b"\x00\xff",
        datetime.datetime(2024, 2, 29, 12, 0, 0, 1000),
        "2024-02-29",
        "12.34",
        ["x"],
    ],
    [False, 127, 2**63 - 1, 0, float("-inf"), "", b"", datetime.datetime(1969, 12, 31, 23, 59, 59), "0001-01-01", "-0.01", []],
    [None] * 11,
]


def test_values_of_every_type(server, table):
    rows = []
    for values in VALUES:
        row = dict(zip(TYPES.names, values, strict=True))
        row["day"] = None if row["day"] is None else datetime.date.fromisoformat(row["day"])
        row["money"] = None if row["money"] is None else Decimal(row["money"])
        row["at"] = None if row["at"] is None else row["at"].replace(tzinfo=datetime.UTC)
        rows.append(row)
    copying(rows, postgres(server.dsn, table, create=True), TYPES).run()
    found = query(server, f"SELECT * FROM {table} ORDER BY i8 NULLS LAST")
    assert [dict(zip(TYPES.names, row, strict=True)) for row in found] == [
        {**row, "u": None if row["u"] is None else Decimal(row["u"])} for row in rows
    ]


def test_a_tables_rows_replace_their_key_and_withdrawn_ones_are_deleted(server, table):
    topology = Topology("last")
    events = topology.stream(
        memory("rows", schema={"k": str, "v": int}, rows=[{"k": k, "v": v} for k, v in [("a", 1), ("b", 2), ("a", 3)]])
    )
    events.key_by("k").aggregate(v=col("v").sum(), n=count()).to(postgres(server.dsn, table, create=True), name="out")
    topology.run()
    assert query(server, f"SELECT * FROM {table} ORDER BY k") == [("a", 4, 2), ("b", 2, 1)]


def test_rows_of_a_stream_by_key(server, table):
    rows = [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}, {"id": 1, "name": "z"}]
    copying(rows, postgres(server.dsn, table, key="id", create=True)).run()
    assert query(server, f"SELECT * FROM {table} ORDER BY id") == [(1, "z"), (2, "y")]


def test_a_second_run_appends(server, table, state):
    for start in (0, 2):
        rows = [{"id": i, "name": "x"} for i in range(start + 2)]
        copying(rows, postgres(server.dsn, table, create=True)).run(Config(state_dir=state))
    assert sorted(query(server, f"SELECT id FROM {table}")) == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("SELECT 1", "there is no table"),
        ("CREATE TABLE {} (id bigint)", "no column 'name'"),
        ("CREATE TABLE {} (id bigint, name_ text)", "did you mean 'name_'"),
        ("CREATE TABLE {} (id text, name text)", "column 'id' is text in the table, and int64"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(server, table, prepare, words):
    execute(server, prepare.format(table))
    with pytest.raises(ConnectorError, match=words):
        copying([{"id": 1, "name": "x"}], postgres(server.dsn, table)).run()


def test_a_wrong_password_is_refused_and_not_shown(server, table):
    wrong = server.dsn.replace(PASSWORD.replace(" ", "%20"), "hunter2secret")
    with pytest.raises(ConnectorError, match="authentication") as caught:
        copying([{"id": 1, "name": "x"}], postgres(wrong, table)).run()
    assert "hunter2secret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {postgres(wrong, table)!r}"


def test_a_connection_string_that_cannot_be_read_is_not_shown():
    with pytest.raises(ConnectorError) as caught:
        copying([{"id": 1, "name": "x"}], postgres("postgresql://u:hunter2secret@:x:/", "t")).run()
    assert "hunter2secret" not in f"{caught.value} {caught.value.__cause__!r}"


def test_a_row_that_the_table_refuses_follows_the_policy(server, table):
    execute(server, f"CREATE TABLE {table} (id bigint CHECK (id <> 13), name varchar(5))")
    rows = [{"id": i, "name": "x" * (6 if i == 7 else 5)} for i in range(30)]
    with pytest.raises(DataError, match=r"value too long|violates check"):
        copying(rows, postgres(server.dsn, table)).run()
    assert query(server, f"SELECT count(*) FROM {table}") == [(0,)]
    letters = memory("letters")
    copying(rows, postgres(server.dsn, table), errors=dead_letter(letters)).run()
    assert sorted(query(server, f"SELECT id FROM {table}")) == [(i,) for i in range(30) if i not in (7, 13)]
    assert len(letters.rows()) == 2


def test_two_transactions_are_refused(server, table):
    topology = copying([{"id": 1, "name": "x"}], postgres(server.dsn, table))
    topology.stream(memory("more", schema={"a": int}, rows=[])).to(kafka("t", broker="localhost:1"), name="topic")
    with pytest.raises(ConfigError, match=r"two places|two clusters"):
        topology.run()


def test_at_least_once_needs_a_key(server, table):
    with pytest.raises(TopologyError, match="twice after a crash"):
        copying([], postgres(server.dsn, table, delivery="at_least_once"))
    copying([{"id": 1, "name": "x"}] * 3, postgres(server.dsn, table, delivery="at_least_once", key="id", create=True)).run()
    assert query(server, f"SELECT * FROM {table}") == [(1, "x")]


N = 4_000


def written(path):
    draw = random.Random(5)
    rows = [(i, f"a{draw.randrange(20)}", draw.randrange(100)) for i in range(N)]
    path.write_text("id,account,amount\n" + "".join(f"{i},{a},{m}\n" for i, a, m in rows))
    return rows


def check(server, table, rows):
    totals: dict[str, list[int]] = {}
    for _, account, amount in rows:
        found = totals.setdefault(account, [0, 0])
        found[0] += 1
        found[1] += amount
    assert query(server, f"SELECT account, n, total FROM {table}_sums ORDER BY account") == sorted(
        (a, n, t) for a, (n, t) in totals.items()
    )
    assert sorted(query(server, f"SELECT id, account, amount FROM {table}_rows")) == rows


def prepare(server, table):
    execute(server, f"CREATE TABLE {table}_sums (account text PRIMARY KEY, n bigint, total bigint)")
    execute(server, f"CREATE TABLE {table}_rows (id bigint, account text, amount bigint)")


@pytest.mark.crash
def test_a_worker_that_is_killed_writes_each_row_once(server, table, state, tmp_path):
    rows = written(tmp_path / "in.csv")
    prepare(server, table)
    draw = random.Random(7)
    for kill in range(5):
        command = [sys.executable, "-m", "tests.postgres.job", str(tmp_path / "in.csv"), server.dsn, table, str(state), "2000"]
        worker = subprocess.Popen(command)
        before = query(server, f"SELECT count(*) FROM {table}_rows")[0][0]
        until = time.monotonic() + 30
        while worker.poll() is None and time.monotonic() < until and query(server, f"SELECT count(*) FROM {table}_rows")[0][0] == before:
            time.sleep(0.02)
        time.sleep(draw.random() * 0.2)
        worker.kill()
        worker.wait()
        found = [i for (i,) in query(server, f"SELECT id FROM {table}_rows ORDER BY id")]
        assert found == list(range(len(found))), f"kill {kill}"
    sums(str(tmp_path / "in.csv"), server.dsn, table).run(Config(state_dir=state))
    check(server, table, rows)


@pytest.mark.crash
def test_a_server_that_is_killed_loses_nothing(server, table, state, tmp_path):
    rows = written(tmp_path / "in.csv")
    prepare(server, table)
    source = Held(read(str(tmp_path / "in.csv"), rate=2_000))
    run = sums(source, server.dsn, table).start(Config(state_dir=state, checkpoint_interval="50ms"))
    for _ in range(2):
        time.sleep(0.4)
        server.kill()
        time.sleep(0.2)
        server.start()
    source.over.set()
    assert run.wait(60)
    check(server, table, rows)


def test_a_worker_that_was_replaced_commits_nothing(server, table, tmp_path):
    rows = written(tmp_path / "in.csv")
    prepare(server, table)
    source = Held(read(str(tmp_path / "in.csv")), rows=N // 2)
    first = sums(source, server.dsn, table).start(Config(checkpoint_interval="50ms"))
    until = time.monotonic() + 30
    while not query(server, f"SELECT 1 FROM {table}_rows LIMIT 1") and time.monotonic() < until:
        time.sleep(0.02)
    # Another worker takes the job over: it begins anew, without a state directory.
    sums(str(tmp_path / "in.csv"), server.dsn, table).run()
    source.over.set()
    with pytest.raises(ConnectorError, match="another worker runs the job"):
        first.wait(30)
    found = [i for (i,) in query(server, f"SELECT id FROM {table}_rows")]
    before = len(found) - N
    assert sorted(found) == sorted([*range(N), *range(before)])
    assert 0 < before < N == len(rows)


def test_a_commit_while_a_start_looks_around_does_not_refuse_it(server, table, tmp_path, monkeypatch):
    rows = written(tmp_path / "in.csv")
    prepare(server, table)
    looked: list[str] = []

    def look(transaction, worker, *, again=False):
        marker = found(transaction, worker, again=again)
        if not looked:
            looked.append(worker)
            # The worker that runs the job meanwhile commits once more.
            sums(str(tmp_path / "in.csv"), server.dsn, table).run()
        return marker

    found = PostgresTransaction.look
    monkeypatch.setattr(PostgresTransaction, "look", look)
    sums(str(tmp_path / "in.csv"), server.dsn, table).run()
    assert len(looked) == 1
    assert sorted(i for (i,) in query(server, f"SELECT id FROM {table}_rows")) == sorted([*range(len(rows))] * 2)


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_stop_does_not_wait_for_a_server_that_falls_silent(server, table, tmp_path, delivery):
    link = silence.Link(server.port)
    dsn = server.dsn.replace(str(server.port), str(link.port))
    sink = postgres(dsn, table, key="v", delivery=delivery, create=True)
    silence.check_stop(silence.run_of(tmp_path, lambda rows: rows.to(sink, name="out")), link)
