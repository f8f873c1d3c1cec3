"""Rows that are looked up in a table while the stream goes on."""

from __future__ import annotations

import psycopg
import pytest

from streamdsl import Config, ConnectorError, Topology, TopologyError, files, memory, postgres
from tests import silence

CUSTOMER = {"customer": int, "segment": str, "limit": float}


@pytest.fixture
def customers(server, table):
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            f'CREATE TABLE {table} (customer bigint, country text, segment text, "limit" numeric, PRIMARY KEY (customer, country))'
        )
        connection.execute(f"INSERT INTO {table} SELECT i, 'CL', 's' || i % 3, i * 10 FROM generate_series(1, 500) AS i")
    return table


def joined(lookup, n=1_000, on="customer", **options):
    topology = Topology("orders")
    out = memory("out")
    rows = [{"order": i, "customer": i % 600, "country": "CL"} for i in range(n)]
    orders = topology.stream(memory("orders", schema={"order": int, "customer": int, "country": str}, rows=rows))
    orders.join_lookup(lookup, on=on, **options).to(out, name="out")
    topology.run(Config(parallelism=1))
    return out.rows()


@pytest.mark.parametrize("options", [{}, {"cache_ttl": "1h"}, {"ordered": False}, {"capacity": 1_000}])
def test_columns_of_the_table_are_added(server, customers, options):
    rows = joined(postgres(server.dsn, customers, CUSTOMER), **options)
    assert sorted(row["order"] for row in rows) == list(range(1_000))
    for row in rows:
        known = 1 <= row["customer"] <= 500
        assert (row["segment"], row["limit"]) == ((f"s{row['customer'] % 3}", row["customer"] * 10.0) if known else (None, None))


def test_a_key_of_two_columns_under_other_names(server, customers):
    lookup = postgres(server.dsn, customers, {"segment": str}, key=["customer", "country"])
    rows = joined(lookup, on=["customer", "country"], on_miss="drop")
    assert [row["segment"] for row in rows[:3]] == ["s1", "s2", "s0"]
    assert len(rows) == sum(1 <= i % 600 <= 500 for i in range(1_000))


def test_what_does_not_fit_is_named(server, customers):
    for lookup, words in [
        (postgres(server.dsn, f"{customers}_x", CUSTOMER), "there is no table"),
        (postgres(server.dsn, customers, {**CUSTOMER, "colour": str}), "no column 'colour'"),
    ]:
        with pytest.raises(ConnectorError, match=words):
            joined(lookup)
    with pytest.raises(TopologyError, match="needs schema="):
        joined(postgres(server.dsn, customers))
    with pytest.raises(TopologyError, match="2 columns, and postgres"):
        joined(postgres(server.dsn, customers, CUSTOMER, key="customer"), on=["customer", "country"])


def test_a_key_with_several_rows_is_an_error(server, customers):
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"INSERT INTO {customers} VALUES (1, 'AR', 'x', 1)")
    with pytest.raises(Exception, match="must be unique"):
        joined(postgres(server.dsn, customers, CUSTOMER), retry=0)


def test_an_answer_that_is_refused_is_tried_again(server, customers):
    lookup = postgres(server.dsn, customers, CUSTOMER)
    topology = Topology("orders")
    out = memory("out")
    orders = topology.stream(
        memory(
            "orders",
            schema={"customer": int},
            rows=[{"customer": 1 + i % 500} for i in range(3_000)],
        )
    )
    orders.join_lookup(lookup, on="customer", capacity=5, retry=5).to(out, name="out")
    run = topology.start(Config(parallelism=1))
    for _ in range(5):
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'streamdsl'")
    run.wait(60)
    assert len(out.rows()) == 3_000 and all(row["segment"] for row in out.rows())


def test_a_stop_does_not_wait_for_a_server_that_falls_silent(server, customers, tmp_path):
    link = silence.Link(server.port)
    lookup = postgres(server.dsn.replace(str(server.port), str(link.port)), customers, {"limit": float}, key="customer")
    looked_up = {"on": "v", "timeout": "1m", "cache_size": 0}
    run = silence.run_of(tmp_path, lambda rows: rows.join_lookup(lookup, **looked_up).to(files(tmp_path / "out.jsonl"), name="out"))
    silence.check_stop(run, link)
