"""The rule on limits: customers looked up in PostgreSQL."""

from __future__ import annotations

import csv

import psycopg
import pytest

from examples.fraud import customers, data, topology
from streamdsl import Config, ConnectorError, files, memory
from tests.postgres.conftest import _server, server  # noqa: F401 - fixtures

ACCOUNTS, SEED = 120, 5


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return data.generate(tmp_path_factory.mktemp("customers"), 6_000, ACCOUNTS, SEED, kind="habits")


@pytest.fixture
def known(server, monkeypatch):  # noqa: F811
    monkeypatch.setenv("FRAUD_POSTGRES", server.dsn)
    made = customers.customers(ACCOUNTS, SEED)
    customers.load(made)
    return {customer.account_number: customer for customer in made}


def over_limit(sample, parallelism=1):
    out = memory("alerts")
    source = files(sample.transactions, schema=topology.Transaction)
    topology.build("all", parts=["customers"]).run(Config(parallelism=parallelism), bind={"transactions": source, "alerts": out})
    return sorted((row["transaction_id"], row["detail"]) for row in out.rows() if row["rule"] == "OVER_LIMIT")


def transactions(sample):
    for path in sample.transactions:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


@pytest.mark.parametrize("parallelism", [1, 3])
def test_what_is_above_the_limit_is_an_alert(sample, known, parallelism):
    expected = []
    for row in transactions(sample):
        customer, amount = known[row["account_number"]], float(row["amount"])
        if amount > customer.transaction_limit:
            limit = f"the limit of {customer.transaction_limit:.2f} of a {customer.segment} customer"
            expected.append((int(row["transaction_id"]), f"{amount:.2f} {row['currency']} is above {limit}"))
    assert len(expected) > 10
    assert over_limit(sample, parallelism) == sorted(expected)


def test_unknown_customers_have_no_limit(sample, known, server):  # noqa: F811
    with psycopg.connect(server.dsn) as connection:
        connection.execute("delete from customers")
    assert over_limit(sample) == []


def test_a_missing_table_is_named(sample, known, server):  # noqa: F811
    with psycopg.connect(server.dsn) as connection:
        connection.execute("drop table customers")
    with pytest.raises(ConnectorError, match="customers"):
        over_limit(sample)


def test_customers_are_written_for_the_sample(tmp_path, capsys):
    assert customers.main(["--output", str(tmp_path / "customers.csv")]) == 0
    assert sum(1 for _ in (tmp_path / "customers.csv").open()) == 5_001
    assert capsys.readouterr().out == "5,000 customers\n"
