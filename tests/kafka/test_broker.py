"""The broker of the tests does what its users rely on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from tests.kafka.broker import Broker
from tests.kafka.topics import console_consume, consume_all, create_topic, end_offsets, is_settled, produce, wait_until_settled

ROOT = Path(__file__).resolve().parents[2]


def transactional(bootstrap, name, **options):
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "log_level": 2, **options})
    producer.init_transactions(30)
    return producer


def values(records):
    return sorted(record.value for record in records)


def test_what_is_produced_is_consumed(broker, topic_name):
    create_topic(broker.bootstrap, topic_name, partitions=3)
    written = [(f"k{i % 7}", f"v{i}") for i in range(1000)]
    produce(broker.bootstrap, topic_name, written)
    found = consume_all(broker.bootstrap, topic_name)
    assert sorted((r.key.decode(), r.value.decode()) for r in found) == sorted(written)
    partition_of = {record.key: record.partition for record in found}
    assert len(set(partition_of.values())) > 1
    assert all(partition_of[record.key] == record.partition for record in found)
    assert sum(end_offsets(broker.bootstrap, topic_name).values()) == 1000


def test_a_tombstone_and_headers_survive(broker, topic_name):
    create_topic(broker.bootstrap, topic_name, cleanup_policy="compact")
    produce(broker.bootstrap, topic_name, [{"key": "k", "value": None, "headers": [("h", b"\x00\xff")], "timestamp": 1234}])
    [found] = consume_all(broker.bootstrap, topic_name)
    assert (found.key, found.value, found.headers, found.timestamp_ms) == (b"k", None, [("h", b"\x00\xff")], 1234)


def test_a_topic_is_not_created_by_itself(mortal_broker, topic_name):
    with pytest.raises(RuntimeError, match="refused"):
        produce(mortal_broker.bootstrap, topic_name, ["lost"], **{"message.timeout.ms": 2000})


def test_one_that_went_on_and_does_not_serve_is_started_anew(mortal_broker, topic_name, monkeypatch):
    create_topic(mortal_broker.bootstrap, topic_name)
    produce(mortal_broker.bootstrap, topic_name, ["kept"])
    stuck, fault = mortal_broker.pid, Broker._fault
    monkeypatch.setattr("tests.kafka.broker.RESUMED_TIMEOUT_S", 1.0)
    monkeypatch.setattr(Broker, "_fault", lambda self, admin: "it is stuck" if self.pid == stuck else fault(self, admin))
    mortal_broker.pause()
    with pytest.warns(UserWarning, match="did not serve clients within 1 s: it is stuck"):
        mortal_broker.revive()
    assert mortal_broker.pid != stuck
    assert values(consume_all(mortal_broker.bootstrap, topic_name)) == [b"kept"]


def test_what_is_aborted_is_not_visible(broker, topic_name):
    create_topic(broker.bootstrap, topic_name)
    producer = transactional(broker.bootstrap, topic_name)
    for value, commit in (("a", True), ("b", False), ("c", True)):
        producer.begin_transaction()
        producer.produce(topic_name, value=value)
        producer.flush()
        (producer.commit_transaction if commit else producer.abort_transaction)(30)
    wait_until_settled(broker.bootstrap, topic_name)
    assert values(consume_all(broker.bootstrap, topic_name)) == [b"a", b"c"]
    assert values(consume_all(broker.bootstrap, topic_name, "read_uncommitted")) == [b"a", b"b", b"c"]
    assert console_consume(broker.bootstrap, topic_name) == [b"a", b"c"]


def test_an_open_transaction_is_seen_to_hang_until_the_broker_ends_it(broker, topic_name):
    create_topic(broker.bootstrap, topic_name)
    producer = transactional(broker.bootstrap, topic_name, **{"transaction.timeout.ms": 5000})
    producer.begin_transaction()
    producer.produce(topic_name, value="never")
    producer.flush()
    assert not is_settled(broker.bootstrap, topic_name)
    with pytest.raises(AssertionError, match="a transaction hangs"):
        wait_until_settled(broker.bootstrap, topic_name, timeout_s=0.5)
    wait_until_settled(broker.bootstrap, topic_name, timeout_s=30)
    assert consume_all(broker.bootstrap, topic_name) == []


def test_the_second_producer_of_an_id_fences_the_first(broker, topic_name):
    create_topic(broker.bootstrap, topic_name)
    first = transactional(broker.bootstrap, topic_name)
    first.begin_transaction()
    first.produce(topic_name, value="zombie")
    first.flush()
    transactional(broker.bootstrap, topic_name)
    with pytest.raises(KafkaException) as refused:
        first.commit_transaction(30)
    assert refused.value.args[0].code() == KafkaError._FENCED
    wait_until_settled(broker.bootstrap, topic_name)
    assert consume_all(broker.bootstrap, topic_name) == []


def test_what_was_written_survives_a_kill(mortal_broker, topic_name):
    create_topic(mortal_broker.bootstrap, topic_name, partitions=2)
    produce(mortal_broker.bootstrap, topic_name, [f"before-{i}" for i in range(100)])
    before = mortal_broker.pid
    mortal_broker.kill()
    assert mortal_broker.pid is None
    with pytest.raises(KafkaException):
        ask(mortal_broker.bootstrap, topic_name)
    mortal_broker.start()
    assert mortal_broker.pid not in (None, before)
    produce(mortal_broker.bootstrap, topic_name, ["after"])
    assert values(consume_all(mortal_broker.bootstrap, topic_name)) == sorted([b"after", *(f"before-{i}".encode() for i in range(100))])


def ask(bootstrap, topic):
    """Ask for the topic, without patience."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 2}).list_topics(topic, timeout=1)


def test_a_paused_broker_does_not_answer_and_goes_on(mortal_broker, topic_name):
    create_topic(mortal_broker.bootstrap, topic_name)
    mortal_broker.pause()
    with pytest.raises(KafkaException):
        ask(mortal_broker.bootstrap, topic_name)
    mortal_broker.resume()
    produce(mortal_broker.bootstrap, topic_name, ["on"])
    assert values(consume_all(mortal_broker.bootstrap, topic_name)) == [b"on"]


PARENT = """
import sys, time
from tests.kafka import leash
print(leash.start(["/bin/sleep", "60"], open(sys.argv[1], "wb")).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process dies with its parent on Linux only")
def test_a_broker_dies_with_who_started_it(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert running(child)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 10
    while running(child):
        assert time.monotonic() < until, f"process {child} outlived its parent"
        time.sleep(0.02)


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_topic_of_three_brokers_outlives_one_of_them(cluster, topic_name):
    create_topic(cluster.bootstrap, topic_name, partitions=3)
    leader = cluster.leader_of(topic_name, 0)
    leader.kill()
    produce(cluster.bootstrap, topic_name, [(f"{i}", f"{i}") for i in range(30)])
    assert cluster.leader_of(topic_name, 0) is not leader
    leader.start()
    assert len(consume_all(cluster.bootstrap, topic_name)) == 30
