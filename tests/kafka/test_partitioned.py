"""Topics that are partitioned by the key of the stream behind them."""

from __future__ import annotations

import json
import random
import time

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from streamdsl import DataError, StateError, Topology, TopologyError, col, count, expanding, kafka, memory, tumbling
from streamdsl._native.state.murmur2 import shard_of_key
from tests.kafka.topics import consume_all, create_topic, produce

SCHEMA = {"account": str, "n": "int64"}
PARTITIONS = 6


@pytest.fixture
def topic(broker, topic_name):
    return create_topic(broker.bootstrap, topic_name, PARTITIONS)


def record(key: str | bytes | None, n: int):
    account = key.decode() if isinstance(key, bytes) else key
    return {"key": key, "value": json.dumps({"account": account or "", "n": n}), "timestamp": 1_000 + 10 * n}


def accounts(seed: int, n: int, first: int = 0):
    draw = random.Random(seed)
    return [record(f"account-{draw.randrange(30)}", first + i) for i in range(n)]


def build(topic: str, out: str, **options):
    topology = Topology(f"partitioned-{out}")
    keyed = topology.stream(kafka(topic, SCHEMA, until="latest", **options), name="in", disorder="1h").key_by("account")
    keyed.with_columns(seen=count().over(expanding()), last=col("n").lag()).to(kafka(out, key="account", partitions=2), name="seen")
    counted = memory("counted")
    keyed.window(tumbling("1s")).count().to(counted)
    return topology, counted


def written(broker, out):
    return [json.loads(one.value) for one in consume_all(broker.bootstrap, out)]


def test_the_hash_is_that_of_the_clients(broker, topic):
    draw = random.Random(1)
    keys = [draw.randbytes(draw.randrange(24)) for _ in range(400)] + [b"", b"a", "ñandú".encode(), b"account-17"]
    produce(broker.bootstrap, topic, [{"key": key, "value": b"{}"} for key in keys])
    found = consume_all(broker.bootstrap, topic)
    assert len(found) == len(keys) and {one.partition for one in found} == set(range(PARTITIONS))
    assert all(one.partition == shard_of_key(one.key, PARTITIONS) for one in found)


def test_the_same_rows_with_and_without_at_any_parallelism(broker, topic, topic_name, config, tmp_path):
    produce(broker.bootstrap, topic, accounts(1, 600))
    results = []
    for i, (parallelism, options) in enumerate([(1, {}), (3, {}), (1, {"partitioned_by": "account"}), (3, {"partitioned_by": "account"})]):
        out = f"{topic_name}-out-{i}"
        topology, counted = build(topic, out, **options)
        topology.run(config(parallelism=parallelism, state_dir=tmp_path / str(i)))
        results.append((sorted(one.value for one in consume_all(broker.bootstrap, out)), sorted(map(repr, counted.rows()))))
    assert len(results[0][0]) == 600
    assert len(results[0][1]) > 50
    assert all(result == results[0] for result in results)


def test_a_job_goes_on_at_another_parallelism(broker, topic, topic_name, config):
    out = f"{topic_name}-out"
    for turn, parallelism in enumerate((1, 2, 3, 1)):
        produce(broker.bootstrap, topic, accounts(turn, 150, 150 * turn))
        topology = Topology("partitioned-rescaled")
        keyed = topology.stream(kafka(topic, SCHEMA, partitioned_by="account"), name="in").key_by("account")
        keyed.with_columns(seen=count().over(expanding()), last=col("n").lag()).to(kafka(out, key="account", partitions=2), name="seen")
        run = topology.start(config(parallelism=parallelism))
        try:
            while len(written(broker, out)) < 150 * (turn + 1):
                assert not run.wait(0.2), "the run has ended by itself"
        finally:
            run.stop()
            run.wait()
    seen: dict[str, list[int]] = {}
    expected = [json.loads(one["value"]) for turn in range(4) for one in accounts(turn, 150, 150 * turn)]
    for row in expected:
        seen.setdefault(row["account"], []).append(row["n"])
    wanted = [
        {"account": account, "n": n, "seen": i + 1, "last": numbers[i - 1] if i else None}
        for account, numbers in seen.items()
        for i, n in enumerate(numbers)
    ]
    order = lambda row: row["n"]  # noqa: E731
    assert sorted(written(broker, out), key=order) == sorted(wanted, key=order)


@pytest.mark.parametrize("partitioner", ["consistent", "random"])
def test_a_topic_of_another_partitioner_is_refused(broker, topic, config, topic_name, partitioner):
    produce(broker.bootstrap, topic, accounts(5, 200), partitioner=partitioner)
    topology, _ = build(topic, f"{topic_name}-out", partitioned_by="account")
    with pytest.raises(DataError) as raised:
        topology.run(config(parallelism=2))
    error = raised.value
    at = {(one.partition, one.offset): one.key for one in consume_all(broker.bootstrap, topic)}
    key = at[error.partition, error.offset]
    assert (error.operator, error.field, error.topic) == ("in", "account", topic)
    assert shard_of_key(key, PARTITIONS) != error.partition
    assert repr(key.decode()) in error.message and f"{topic}/{error.partition}" in error.message
    assert "murmur2_random" in error.remedy and "partitioned_by=" in error.remedy


def test_a_column_that_is_not_the_record_key_is_found_out(broker, topic, config, topic_name):
    produce(broker.bootstrap, topic, [{**one, "key": f"other-{i}"} for i, one in enumerate(accounts(6, 200))])
    topology, _ = build(topic, f"{topic_name}-out", partitioned_by="account")
    with pytest.raises(DataError, match="partitioned_by='account'"):
        topology.run(config(parallelism=2))


def test_record_keys_of_any_format_are_keys_as_they_are(broker, topic, config):
    keys = [n.to_bytes(8, "big") for n in range(40)] * 3  # as of a LongSerializer
    produce(broker.bootstrap, topic, [{"key": key, "value": f'{{"n": {i}}}'} for i, key in enumerate(keys)] + [(None, '{"n": -1}')])
    topology, counted = Topology("bytes"), memory("counted")
    stream = topology.stream(kafka(topic, {"n": "int64"}, until="latest", partitioned_by="_key"))
    stream.key_by("_key").window(tumbling("365d")).count().to(counted)
    topology.run(config(parallelism=3))
    assert sorted((row["_key"], row["count"]) for row in counted.rows()) == [(key, 3) for key in sorted(keys[:40])]


def test_what_is_no_record_key_is_refused():
    with pytest.raises(TopologyError, match=r"partitioned_by=\['a', 'b'\]\): it is the name of one column(.|\n)*_key"):
        kafka("t", {"a": str, "b": str}, partitioned_by=["a", "b"])
    with pytest.raises(TopologyError, match=r"'n', which is int64(.|\n)*_key"):
        Topology("ints").stream(kafka("t", SCHEMA, partitioned_by="n"))
    with pytest.raises(TopologyError, match="partitioned_by= is of sources"):
        Topology("sink").stream(kafka("t", SCHEMA)).to(kafka("u", partitioned_by="account"))


def test_another_number_of_partitions_is_refused(broker, topic, config):
    produce(broker.bootstrap, topic, accounts(7, 50))
    out = memory("out")

    def started(partitioned_by="account"):
        topology = Topology("more-partitions")
        stream = topology.stream(kafka(topic, SCHEMA, partitioned_by=partitioned_by), name="in")
        stream.key_by("account").with_columns(seen=count().over(expanding())).to(out)
        return topology.start(config(parallelism=2))

    run = started()
    while not run.metrics()["checkpoints"]["completed"]:
        assert not run.wait(0.05)
    run.stop()
    run.wait()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_partitions([NewPartitions(topic, PARTITIONS + 1)])[topic].result(30)
    with pytest.raises(StateError, match=rf"has {PARTITIONS + 1} splits, the checkpoint {PARTITIONS}: keys are bound to other splits"):
        started().wait()
    # What the error says works: the state goes on, and the new partition is read.
    produce(broker.bootstrap, topic, accounts(7, 20))
    run = started(partitioned_by=None)
    until = time.monotonic() + 20
    while sum(sum(task.get("splits", {}).values()) for task in run.metrics()["tasks"]) < 20 and time.monotonic() < until:
        assert not run.wait(0.05)
    run.stop()
    run.wait()
