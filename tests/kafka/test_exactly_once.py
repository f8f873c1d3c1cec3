"""Rows through a real broker: what a reader that waits for commits sees is exactly what the topology promises."""

from __future__ import annotations

import json

import pytest

from streamdsl import Config, Topology, col, kafka
from tests.kafka.topics import consume_all, create_topic, produce

SCHEMA = {"id": "int64", "account": "string", "amount": "float64"}


def row(number):
    return (f"a{number % 7}", json.dumps({"id": number, "account": f"a{number % 7}", "amount": number / 4}))


def doubled(broker, source, sink, **more):
    topology = Topology(f"job-{source}")
    (
        topology.stream(kafka(source, SCHEMA, until="latest", **more), name="in")
        .with_columns(twice=col("amount") * 2)
        .to(kafka(sink, partitions=2, key="account"), name="out")
    )
    return topology


def config(broker, tmp_path, **more):
    return Config(broker=broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="100ms", **more)


def values(broker, topic):
    return [json.loads(record.value) for record in consume_all(broker.bootstrap, topic)]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_rows_come_through(broker, topic_name, tmp_path, parallelism):
    create_topic(broker.bootstrap, topic_name, 3)
    produce(broker.bootstrap, topic_name, [row(n) for n in range(1000)])
    doubled(broker, topic_name, f"{topic_name}-out").run(config(broker, tmp_path, parallelism=parallelism))
    found = consume_all(broker.bootstrap, f"{topic_name}-out")
    rows = sorted((json.loads(record.value) for record in found), key=lambda r: r["id"])
    assert rows == [{"id": n, "account": f"a{n % 7}", "amount": n / 4, "twice": n / 2} for n in range(1000)]
    assert all(record.key == json.loads(record.value)["account"].encode() for record in found)
