"""Rows through a real broker: what a reader that waits for commits sees is exactly what the topology promises."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from streamdsl import Config, ConfigError, ConnectorError, StateError, StreamError, Topology, col, kafka, memory
from streamdsl.connectors.kafka import transaction
from streamdsl.connectors.kafka.clients import patiently
from streamdsl.connectors.kafka.markers import markers_topic, read_marker, record_of
from streamdsl.connectors.kafka.outbox import Deliveries, Outbox, Record
from streamdsl.connectors.transaction import Marker
from tests.kafka.topics import consume_all, create_topic, delete_topic, produce, wait_until_settled

SCHEMA = {"id": "int64", "account": "string", "amount": "float64"}


def records(*numbers):
    return [(f"a{n % 7}", json.dumps({"id": n, "account": f"a{n % 7}", "amount": n / 4})) for n in range(*numbers)]


def doubled(source, sink, **more):
    topology = Topology(f"job-{source}")
    (
        topology.stream(kafka(source, SCHEMA, **more), name="in")
        .with_columns(twice=col("amount") * 2)
        .to(kafka(sink, partitions=2, key="account"), name="out")
    )
    return topology


def ids(broker, topic, isolation="read_committed"):
    return sorted(json.loads(record.value)["id"] for record in consume_all(broker.bootstrap, topic, isolation))


def wait_for(what, seconds=20.0):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "did not come"
        time.sleep(0.05)


@pytest.mark.parametrize("parallelism", [1, 2])
def test_rows_come_through(broker, source, sink, config, parallelism):
    produce(broker.bootstrap, source, records(1000))
    run = doubled(source, sink, until="latest").run(config(parallelism=parallelism))
    assert run.finished
    found = consume_all(broker.bootstrap, sink)
    rows = sorted((json.loads(record.value) for record in found), key=lambda r: r["id"])
    assert rows == [{"id": n, "account": f"a{n % 7}", "amount": n / 4, "twice": n / 2} for n in range(1000)]
    assert all(record.key == json.loads(record.value)["account"].encode() for record in found)
    wait_until_settled(broker.bootstrap, sink)


def test_a_run_goes_on_where_it_was(broker, source, sink, config):
    for part in range(3):
        produce(broker.bootstrap, source, records(100 * part, 100 * part + 100))
        run = doubled(source, sink).start(config())
        wait_for(lambda wanted=100 * part + 100: len(ids(broker, sink)) == wanted)
        run.stop()
        assert run.wait(20)
    assert ids(broker, sink) == list(range(300))


def test_a_run_that_is_left_at_once(broker, source, sink, config):
    """What was written behind the last barrier is not seen, whenever that is, and comes again."""
    produce(broker.bootstrap, source, records(6000))
    for lives in range(6):
        run = doubled(source, sink, until="latest", rate=2000.0).start(config(checkpoint_interval="20ms"))
        time.sleep(0.25 + 0.04 * lives)
        run.abandon()
    assert doubled(source, sink, until="latest").run(config()).finished
    assert ids(broker, sink) == list(range(6000))


def test_what_was_read_is_noted_for_lag_tools(broker, source, sink, config):
    from confluent_kafka import Consumer, TopicPartition

    produce(broker.bootstrap, source, records(100))
    run = doubled(source, sink).start(config())
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": f"job-{source}"})
    try:
        asked = [TopicPartition(source, partition) for partition in range(3)]
        wait_for(lambda: sum(max(at.offset, 0) for at in consumer.committed(asked, timeout=5)) == 100)
        assert {name: lag for task in run.metrics()["tasks"] for name, lag in task["lag"].items()} == {
            f"{source}/{partition}": 0 for partition in range(3)
        }
    finally:
        consumer.close()
        run.stop()
        run.wait(20)


def test_nothing_is_seen_before_its_checkpoint(broker, source, sink, config):
    produce(broker.bootstrap, source, records(50))
    run = doubled(source, sink).start(config(checkpoint_interval="5m", state_dir=None))
    try:
        wait_for(lambda: len(ids(broker, sink, "read_uncommitted")) == 50)
        assert ids(broker, sink) == []
    finally:
        run.abandon()
    wait_until_settled(broker.bootstrap, sink)
    assert ids(broker, sink) == []


def test_a_second_worker_is_refused(source, sink, config):
    run = doubled(source, sink).start(config())
    with pytest.raises(StateError, match="is in use by process"):
        doubled(source, sink).start(config())
    run.stop()
    assert run.wait(20)


def test_a_start_that_is_refused_leaves_the_running_worker_alone(broker, source, sink, config, tmp_path):
    """Another directory, a source that is not there, a plan that does not fit: nobody is fenced before all of it has been looked at."""
    produce(broker.bootstrap, source, records(100))
    run = doubled(source, sink).start(config())
    try:
        wait_for(lambda: len(ids(broker, sink)) == 100)
        with pytest.raises(StateError, match="does not have it"):
            doubled(source, sink).start(config(state_dir=tmp_path / "other"))
        mistyped = Topology(f"job-{source}")
        mistyped.stream(kafka(f"{source}-typo", SCHEMA), name="in").to(kafka(sink), name="out")
        with pytest.raises(ConnectorError, match="does not exist"):
            mistyped.start(Config(broker=broker.bootstrap))
        produce(broker.bootstrap, source, records(100, 200))
        wait_for(lambda: len(ids(broker, sink)) == 200)
        run.stop()
        assert run.wait(20)
    finally:
        run.abandon()
    assert ids(broker, sink) == list(range(200))


def test_duplicates_are_accepted_once(broker, source, sink, config, caplog):
    """`accept_duplicates_from` that is left in a unit file: the second start goes on where the first one was."""
    for part in range(3):
        produce(broker.bootstrap, source, records(10 * part, 10 * part + 10))
        run = doubled(source, sink).start(config(accept_duplicates_from=0))
        wait_for(lambda wanted=10 * part + 10: len(ids(broker, sink)) == wanted)
        run.stop()
        assert run.wait(20)
    assert ids(broker, sink) == list(range(30))
    assert "has counted at an earlier start and is ignored" in caplog.text


def test_a_lost_state_directory_is_not_begun_anew(broker, source, sink, config, tmp_path):
    produce(broker.bootstrap, source, records(100))
    doubled(source, sink, until="latest").run(config())
    with pytest.raises(StateError, match="does not have it") as refused:
        doubled(source, sink, until="latest").run(config(state_dir=tmp_path / "other"))
    assert "accept_duplicates_from" in str(refused.value)
    produce(broker.bootstrap, source, records(100, 150))
    doubled(source, sink, until="latest").run(config(state_dir=tmp_path / "other", accept_duplicates_from=0))
    assert ids(broker, sink) == sorted([*range(100), *range(150)])
    # And it is the one that counts now. Said again where it is lost again, it counts again.
    assert doubled(source, sink, until="latest").run(config(state_dir=tmp_path / "other")).already_finished
    with pytest.raises(StateError, match=r"does not have it|is not the one"):
        doubled(source, sink, until="latest").run(config())


def test_a_marker_that_is_gone_is_told(broker, source, sink, config, tmp_path):
    produce(broker.bootstrap, source, records(10))
    doubled(source, sink, until="latest").run(config())
    delete_topic(broker.bootstrap, markers_topic(f"job-{source}"))
    with pytest.raises(StateError, match="knows no commit of it"):
        doubled(source, sink, until="latest").run(config())


def transaction_of(broker, record):
    """Begin a transaction that holds one record."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": f"by-hand-{uuid.uuid4()}"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(record.topic, record.value, record.key)
    producer.flush(20)
    return producer


def test_a_commit_that_cannot_be_read_yet_counts(broker, source, sink, config, monkeypatch):
    """The cluster says that a commit is done before it can be read. The last one that can is too old for the directory then."""
    produce(broker.bootstrap, source, records(100))
    run = doubled(source, sink).start(config())
    wait_for(lambda: len(ids(broker, sink)) == 100)
    run.stop()
    assert run.wait(20)
    job = f"job-{source}"
    last = read_marker({"bootstrap.servers": broker.bootstrap}, job, [sink])
    assert last is not None
    transaction_of(broker, record_of(job, "somebody", [sink], Marker(last.checkpoint_id + 100, "of another one"))).commit_transaction(20)
    ending = transaction_of(broker, record_of(job, "somebody", [sink], last))
    produce(broker.bootstrap, source, records(100, 150))
    with monkeypatch.context() as short, pytest.raises(StateError, match="but a commit is under way") as refused:
        short.setattr(transaction, "SETTLE_S", 0.5)
        doubled(source, sink).start(config())
    assert refused.value.context["recoverable"]
    timer = threading.Timer(1.0, ending.commit_transaction, [20])
    timer.start()
    run = doubled(source, sink).start(config())
    timer.join()
    wait_for(lambda: len(ids(broker, sink)) == 150)
    run.stop()
    assert run.wait(20)
    assert ids(broker, sink) == list(range(150))


def test_other_topics_are_another_beginning(broker, source, sink, config, tmp_path):
    produce(broker.bootstrap, source, records(10))
    doubled(source, sink, until="latest").run(config())
    doubled(source, f"{sink}-2", until="latest").run(config(state_dir=tmp_path / "other"))
    assert ids(broker, f"{sink}-2") == list(range(10))
    # Each goes on from its own.
    assert doubled(source, sink, until="latest").run(config()).already_finished
    assert doubled(source, f"{sink}-2", until="latest").run(config(state_dir=tmp_path / "other")).already_finished


def test_a_job_that_gets_another_sink_goes_on(broker, source, sink, config):
    produce(broker.bootstrap, source, records(10))
    run = doubled(source, sink).start(config())
    wait_for(lambda: len(ids(broker, sink)) == 10)
    run.stop()
    assert run.wait(20)
    produce(broker.bootstrap, source, records(10, 20))
    topology = Topology(f"job-{source}")
    rows = topology.stream(kafka(source, SCHEMA, until="latest"), name="in").with_columns(twice=col("amount") * 2)
    rows.to(kafka(sink, partitions=2, key="account"), name="out")
    rows.to(kafka(f"{sink}-2", partitions=1), name="more")
    topology.run(config())
    assert ids(broker, sink) == list(range(20))
    assert ids(broker, f"{sink}-2") == list(range(10, 20))


def test_without_a_state_directory_a_run_is_fresh(broker, source, sink, config):
    produce(broker.bootstrap, source, records(10))
    for _ in range(2):
        doubled(source, sink, until="latest").run(config(state_dir=None))
    assert ids(broker, sink) == sorted([*range(10)] * 2)


def test_a_commit_of_unknown_outcome_is_found_out(broker, source, sink, config, monkeypatch):
    """The commit reaches the cluster and its answer does not reach us; or neither does. Within one run, nobody is asked."""
    from streamdsl.connectors.kafka.transaction import KafkaTransaction

    real, failures = KafkaTransaction._step, iter([True, False, True, False])

    def lossy(self, doing, call):
        committing = doing == "committing" and threading.current_thread().name == "streamdsl-commit"
        sent = next(failures, None) if committing else None
        if sent is not False:
            real(self, doing, call)
        if sent is not None:
            raise ConnectorError("the answer was lost", recoverable=True)

    monkeypatch.setattr(KafkaTransaction, "_step", lossy)
    produce(broker.bootstrap, source, records(500))
    run = doubled(source, sink, until="latest", rate=200.0).run(config())
    assert run.finished
    assert ids(broker, sink) == list(range(500))
    wait_until_settled(broker.bootstrap, sink)


def test_a_failed_checkpoint_keeps_its_rows(broker, source, sink, config, monkeypatch):
    from streamdsl.checkpoint.storage import DirectoryStorage

    real, failures = DirectoryStorage.publish, iter([True, True, False, True])

    def failing(self, checkpoint_id, manifest):
        if next(failures, False):
            raise OSError(28, "No space left on device")
        return real(self, checkpoint_id, manifest)

    monkeypatch.setattr(DirectoryStorage, "publish", failing)
    produce(broker.bootstrap, source, records(300))
    run = doubled(source, sink, until="latest", rate=200.0).run(config())
    assert run.metrics()["checkpoints"]["failed"] == 3
    assert ids(broker, sink) == list(range(300))


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_what_a_topic_refuses_for_good_ends_the_run(broker, source, sink, config, delivery):
    """Started again, it would be refused again, without end."""
    create_topic(broker.bootstrap, sink, max_message_bytes="2000")
    produce(broker.bootstrap, source, [("a", json.dumps({"id": 1, "account": random.Random(1).randbytes(4000).hex(), "amount": 0.5}))])
    topology = Topology(f"job-{source}")
    topology.stream(kafka(source, SCHEMA)).to(kafka(sink, delivery=delivery))
    run = topology.start(config())
    try:
        with pytest.raises(StreamError, match=r"raise message\.max\.bytes here and max\.message\.bytes of the topic"):
            assert run.wait(20), "it is tried again and again"
    finally:
        run.abandon()


def test_who_is_fenced_is_not_started_again():
    """Whatever tells it: the commit, or a record that was not taken."""
    deliveries = Deliveries()
    deliveries(KafkaError(KafkaError._FENCED), None)
    with pytest.raises(ConnectorError, match="has been fenced off") as told:
        deliveries.check("writing")
    assert not told.value.context["recoverable"]


def test_who_is_fenced_while_it_writes_says_so(broker, sink):
    """The client itself says of a later record only that it is beyond repair."""
    described = kafka(sink, partitions=1).configured(Config(broker=broker.bootstrap), f"job-{sink}")
    first, second = (described.new_transaction(f"job-{sink}", [described]) for _ in range(2))
    try:
        first.open("first")
        first.begin(Marker(0, ""))
        second.open("second")
        with pytest.raises(ConnectorError, match="has been fenced off") as told:
            for _ in range(40):
                outbox = Outbox()
                outbox.add([Record(sink, None, b"{}", 0, None)])
                first.take(outbox)
                time.sleep(0.5)
        assert not told.value.context.get("recoverable")
    finally:
        first.close()
        second.close()


def test_a_topic_that_was_seen_is_waited_for():
    """A client that has just been made, or a broker that is busy, may not have heard of it yet."""
    answers = iter([KafkaError(KafkaError._UNKNOWN_PARTITION), KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)])

    def look():
        error = next(answers, None)
        if error is not None:
            raise KafkaException(error)
        return 7

    assert patiently("looking", look, exists=True) == 7
    answers = iter([KafkaError(KafkaError._UNKNOWN_PARTITION)])
    with pytest.raises(ConnectorError, match="create the topic"):
        patiently("looking", look)


def test_two_clusters_have_no_common_transaction(config):
    topology = Topology("two")
    rows = topology.stream(memory("in", SCHEMA, []))
    rows.to(kafka("a", broker="one:9092"))
    rows.to(kafka("b", broker="two:9092"))
    with pytest.raises(ConfigError, match="no transaction spans both"):
        topology.run(config(state_dir=None))


def test_a_transaction_outlives_the_checkpoints(config, source, sink):
    with pytest.raises(ConfigError, match="too rare"):
        doubled(source, sink).run(config(checkpoint_interval="10m"))
    topology = Topology("short")
    topology.stream(memory("in", SCHEMA, [])).to(kafka("a", options={"transaction.timeout.ms": 5000}))
    with pytest.raises(ConfigError, match="too short"):
        topology.run(config(checkpoint_interval="5s"))


def test_a_broker_that_comes_late(mortal_broker, source, sink, config):
    broker = mortal_broker
    produce(broker.bootstrap, source, records(100))
    broker.kill()
    later = threading.Timer(3.0, broker.revive)
    later.start()
    run = doubled(source, sink, until="latest").run(config())
    later.join()
    assert run.finished
    assert ids(broker, sink) == list(range(100))


def test_a_broker_that_goes_and_comes_back(mortal_broker, source, sink, config):
    broker = mortal_broker
    produce(broker.bootstrap, source, records(400))
    run = doubled(source, sink, until="latest", rate=100.0).start(config())
    wait_for(lambda: len(ids(broker, sink)) >= 50)
    broker.kill()
    time.sleep(2)
    broker.revive()
    assert run.wait(90)
    assert ids(broker, sink) == list(range(400))
    wait_until_settled(broker.bootstrap, sink)
