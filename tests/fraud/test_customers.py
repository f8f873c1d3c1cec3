"""The rule on limits: customers looked up in PostgreSQL."""

from __future__ import annotations

import csv
import dataclasses

import psycopg
import pytest

from examples.fraud import customers, data, topology
from streamdsl import Config, ConnectorError, files, memory

ACCOUNTS, SEED = 120, 5


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return data.generate(tmp_path_factory.mktemp("customers"), 6_000, ACCOUNTS, SEED, kind="habits")


@pytest.fixture
def known(database, monkeypatch):
    monkeypatch.setenv("FRAUD_POSTGRES", database.dsn)
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


def as_of(sample, events, tmp_path, parallelism=1):
    out, changes = memory("alerts"), tmp_path / "customers.jsonl"
    customers.write_changes(events, changes)
    bind = {
        "transactions": files(sample.transactions, schema=topology.Transaction),
        "customers": files(changes, customers.Customer, format="debezium-json"),
        "alerts": out,
    }
    topology.build("all", parts=["customer-changes"]).run(Config(parallelism=parallelism), bind=bind)
    return sorted((row["transaction_id"], row["detail"]) for row in out.rows() if row["rule"] == "OVER_LIMIT")


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_table_of_changes_gives_the_same_alerts(sample, known, parallelism, tmp_path):
    events = [customers.event("r", None, customer) for customer in known.values()]
    assert as_of(sample, events, tmp_path, parallelism) == over_limit(sample)


def test_a_changed_limit_holds_from_its_own_time_on(sample, tmp_path):
    made = customers.customers(ACCOUNTS, SEED)
    rows = sorted(transactions(sample), key=lambda row: int(row["event_time"]))
    middle, later = int(rows[len(rows) // 2]["event_time"]), int(rows[3 * len(rows) // 4]["event_time"])
    events, limits = [], {}
    for number, customer in enumerate(made):
        events.append(customers.event("r", None, customer))
        history = [(customer.changed_at, customer)]
        if number % 3 == 0:
            changed = dataclasses.replace(customer, transaction_limit=1.0, segment="plus", changed_at=middle)
            events.append(customers.event("u", customer, changed))
            history.append((middle, changed))
        if number % 3 == 1:
            gone = dataclasses.replace(customer, changed_at=later)
            events.append(customers.event("d", gone, None))
            history.append((later, None))
        limits[customer.account_number] = history
    # As a topic has them: in the order in which the table changed.
    events.sort(key=lambda one: one["ts_ms"])
    expected = []
    for row in rows:
        amount, at = float(row["amount"]), int(row["event_time"])
        customer = [one for since, one in limits[row["account_number"]] if since <= at][-1]
        if customer is not None and amount > customer.transaction_limit:
            limit = f"the limit of {customer.transaction_limit:.2f} of a {customer.segment} customer"
            expected.append((int(row["transaction_id"]), f"{amount:.2f} {row['currency']} is above {limit}"))
    assert as_of(sample, events, tmp_path) == sorted(expected)
    assert any("of 1.00" in detail for _, detail in expected)


@pytest.mark.parametrize(
    "asked", [["--with", "customer-changes"], ["--customers", "f"], ["--broker", "b:1", "--with", "customers,customer-changes"]]
)
def test_where_customers_come_from_is_asked_for(asked, capsys):
    with pytest.raises(SystemExit):
        topology.arguments(asked)
    assert "customer" in capsys.readouterr().err


def test_unknown_customers_have_no_limit(sample, known, database):
    with psycopg.connect(database.dsn) as connection:
        connection.execute("delete from customers")
    assert over_limit(sample) == []


def test_a_missing_table_is_named(sample, known, database):
    with psycopg.connect(database.dsn) as connection:
        connection.execute("drop table customers")
    with pytest.raises(ConnectorError, match="customers"):
        over_limit(sample)


def test_customers_are_written_for_the_sample(tmp_path, capsys):
    assert customers.main(["--output", str(tmp_path / "customers.csv")]) == 0
    assert sum(1 for _ in (tmp_path / "customers.csv").open()) == 5_001
    assert customers.main(["--changes", str(tmp_path / "customers.jsonl")]) == 0
    assert sum(1 for _ in (tmp_path / "customers.jsonl").open()) == 5_000
    assert capsys.readouterr().out == 2 * "5,000 customers\n"
