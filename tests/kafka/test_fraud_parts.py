"""Statistics and customers by Kafka, with a real broker: the same rows as from files."""

from __future__ import annotations

import dataclasses
import json

import pytest

from examples.fraud import activity, customers, data, topology
from streamdsl import Config, files, kafka, memory
from streamdsl.connectors.kafka.markers import markers_topic
from tests.kafka.crash import fill
from tests.kafka.topics import consume_all, create_topic, forget_topics

ACCOUNTS, SEED = 60, 5


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return data.generate(tmp_path_factory.mktemp("kafka"), 1_500, ACCOUNTS, SEED, kind="habits")


def changes():
    """Return the events of customers, some of whom get another limit on the way."""
    events = []
    for number, customer in enumerate(customers.customers(ACCOUNTS, SEED)):
        events.append(customers.event("r", None, customer))
        if number % 3 == 0:
            later = dataclasses.replace(customer, transaction_limit=1.0, changed_at=customer.changed_at + 60 * 86_400_000)
            events.append(customers.event("u", customer, later))
    return sorted(events, key=lambda one: one["ts_ms"])


def figures(rows):
    return sorted((row["subject"], row["name"], row["period"], *(row[name] for name in ("transactions", "largest"))) for row in rows)


def alerts(rows):
    return sorted((row["transaction_id"], row["rule"], row["severity"], row["detail"]) for row in rows)


def test_rows_are_those_of_the_embedded_job(broker, sample, tmp_path):
    events = changes()
    customers.write_changes(events, tmp_path / "customers.jsonl")
    job = topology.build("all", parts=["statistics", "customer-changes"])
    found, statistics = memory("alerts"), memory("statistics")
    embedded = {
        "transactions": files(sample.transactions, schema=topology.Transaction),
        "customers": files(tmp_path / "customers.jsonl", customers.Customer, format="debezium-json"),
        "alerts": found,
        "statistics": statistics,
    }
    job.run(Config(), bind=embedded)

    at = broker.bootstrap
    made = (topology.ALERTS, activity.STATISTICS, customers.CHANGES)
    forget_topics(at, topology.TRANSACTIONS, *made, markers_topic(job.name))
    fill(at, sample, topology.TRANSACTIONS)
    for name in made:
        create_topic(at, name, topology.PARTITIONS)
    customers.send_changes(events, at)
    bounded = {
        "transactions": kafka(topology.TRANSACTIONS, topology.Transaction, partitions=topology.PARTITIONS, until="latest"),
        "customers": kafka(customers.CHANGES, customers.Customer, partitions=3, format="debezium-json", until="latest"),
    }
    topology.build("all", parts=["statistics", "customer-changes"]).run(Config(broker=at, state_dir=tmp_path / "state"), bind=bounded)

    sent = [json.loads(record.value) for record in consume_all(at, topology.ALERTS)]
    assert alerts(sent) == alerts(found.rows())
    assert any(row["rule"] == "OVER_LIMIT" and "limit of 1.00" in row["detail"] for row in sent)
    counted = [json.loads(record.value) for record in consume_all(at, activity.STATISTICS)]
    assert figures(counted) == figures(statistics.rows())
    assert len(counted) > 1_000
