"""Three brokers of which one dies, or all: others lead, and nothing is lost, nor seen twice (a minute long: ``make faults-kafka``)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka.admin import AdminClient

from streamdsl import Config, Topology, kafka
from streamdsl.runtime.run import Run
from tests.kafka.broker import Broker, Cluster
from tests.kafka.outages import Outages
from tests.kafka.topics import consume_all, create_topic, produce, wait_until_settled

COUNT = 30_000
#: As `_settings` of the broker has it.
COORDINATORS = 4


def copied(source: str, sink: str, **more) -> Topology:
    topology = Topology(f"job-{source}")
    topology.stream(kafka(source, {"id": "int64"}, **more), name="in").to(kafka(sink, partitions=3, key="id"), name="out")
    return topology


def coordinator_of(cluster: Cluster, transactional_id: str) -> Broker:
    """Return the broker that keeps the transactions of an id: it leads the partition that Java's hash of the id says."""
    code = 0
    for character in transactional_id:
        code = (31 * code + ord(character)) & 0xFFFFFFFF
    code = code - (1 << 32) if code >= 1 << 31 else code
    return cluster.leader_of("__transaction_state", (abs(code) & 0x7FFFFFFF) % COORDINATORS)


def test_the_dead_broker_led_a_sink_or_kept_the_transaction(cluster, topic_name, tmp_path, caplog):
    source, sink = create_topic(cluster.bootstrap, topic_name, 3), f"{topic_name}-out"
    produce(cluster.bootstrap, source, ((str(n), json.dumps({"id": n})) for n in range(COUNT)))
    config = Config(broker=cluster.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="100ms")
    run = copied(source, sink, rate=500.0).start(config)
    try:
        goes_on(run)
        for find in (lambda: cluster.leader_of(sink, 0), lambda: coordinator_of(cluster, f"streamdsl.job-{source}")):
            dies_and_comes_back(run, find, caplog)
        run.stop()
        assert run.wait(30)
    finally:
        run.abandon()
    assert copied(source, sink, until="latest").run(config).finished
    assert sorted(json.loads(record.value)["id"] for record in consume_all(cluster.bootstrap, sink)) == list(range(COUNT))
    wait_until_settled(cluster.bootstrap, sink)


@pytest.mark.crash
def test_the_whole_cluster_is_away_and_comes_back_with_other_leaders(cluster, topic_name, tmp_path):
    problems = Outages(cluster, tmp_path, 8.0, 3, f"{topic_name}-transactions").problems()
    assert not problems, "\n".join(problems)


def test_a_start_finds_the_partitions_that_nobody_has_led(cluster, topic_name, tmp_path):
    """The client of a start has heard that there is no leader; it is to hear of the one that comes."""
    away = cluster[2]
    # One job reads a partition that only this broker has, from a time on; the other has its commits there.
    sources = [f"{topic_name}-read", f"{topic_name}-committed"]
    create_topic(cluster.bootstrap, sources[0], 1, at=[[away.node]])
    create_topic(cluster.bootstrap, sources[1], 1)
    create_topic(cluster.bootstrap, f"streamdsl.job-{sources[1]}.commits", 1, at=[[away.node]], cleanup_policy="compact")
    for source in sources:
        produce(cluster.bootstrap, source, (json.dumps({"id": n}) for n in range(100)))
    away.kill()
    leaderless(cluster, sources[0])

    def run(source: str) -> Run:
        config = Config(broker=cluster.bootstrap, state_dir=tmp_path / source, checkpoint_interval="100ms")
        return copied(source, f"{source}-out", start=1, until="latest").run(config)

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, source) for source in sources]
        revived = threading.Timer(3, away.revive)
        revived.start()
        assert all(started.result().finished for started in runs)
        revived.join()
    for source in sources:
        assert sorted(json.loads(record.value)["id"] for record in consume_all(cluster.bootstrap, f"{source}-out")) == list(range(100))


def leaderless(cluster: Cluster, topic: str) -> None:
    """Wait until the cluster says that nobody leads partition 0 of a topic."""
    admin, until = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 2}), time.monotonic() + 40
    while admin.list_topics(topic, timeout=10).topics[topic].partitions[0].leader >= 0:
        assert time.monotonic() < until, f"{topic} is still led"
        time.sleep(0.1)


def dies_and_comes_back(run: Run, find: Callable[[], Broker], caplog) -> None:
    victim = find()
    caplog.clear()
    victim.kill()
    until = time.monotonic() + 40
    while find() is victim:  # the broker that answers may not have heard of it
        assert time.monotonic() < until, "another broker is to take over"
        time.sleep(0.1)
    goes_on(run)
    assert victim.bootstrap in caplog.text, "the log is to name the broker that is away"
    victim.revive()
    goes_on(run)


def goes_on(run: Run, commits: int = 5, seconds: float = 40.0) -> None:
    """Wait for a few commits more. A run that was started again counts from 0."""
    known, more, until = run.metrics()["checkpoints"]["completed"], 0, time.monotonic() + seconds
    while more < commits:
        assert time.monotonic() < until, f"{more} commits in {seconds:.0f} s"
        time.sleep(0.02)
        seen = run.metrics()["checkpoints"]["completed"]
        more, known = more + (seen > known), seen
