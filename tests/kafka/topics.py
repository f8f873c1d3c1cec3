"""What tests do with topics, by clients that share no code with the connector; each call is a client of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.kafka.broker import kafka

Isolation = Literal["read_committed", "read_uncommitted"]
_LEVELS = {"read_committed": IsolationLevel.READ_COMMITTED, "read_uncommitted": IsolationLevel.READ_UNCOMMITTED}
#: Between values of the console consumer; no test writes it.
_SEPARATOR = "\x1e"
#: So long the console consumer waits for a further value, the first time and when it has seen less than there is.
_QUIET_MS = (3_000, 15_000, 60_000)
_TIMEOUT_S = 30.0


class Record(NamedTuple):
    """What lies in a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int


def _client(bootstrap: str, **options: Any) -> dict[str, Any]:
    return {"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 500, "log_level": 2, **options}


def create_topic(bootstrap: str, name: str, partitions: int = 1, at: list[list[int]] | None = None, **config: str) -> str:
    """Create a topic and wait until all of its partitions are led; return its name. `config` as in `cleanup_policy="compact"`.

    `at`: the brokers of each partition.
    """
    admin = AdminClient(_client(bootstrap))
    options = {option.replace("_", "."): value for option, value in config.items()}
    admin.create_topics([NewTopic(name, partitions, config=options, **({"replica_assignment": at} if at else {}))])[name].result(_TIMEOUT_S)
    until = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < until:
        told = admin.list_topics(name, timeout=_TIMEOUT_S).topics[name]
        if len(told.partitions) == partitions and all(p.leader >= 0 and p.error is None for p in told.partitions.values()):
            return name
        time.sleep(0.02)
    raise TimeoutError(f"no leaders for topic {name} within {_TIMEOUT_S:.0f} s")


def delete_topic(bootstrap: str, name: str) -> None:
    """Delete a topic and wait until it is gone."""
    admin = AdminClient(_client(bootstrap))
    admin.delete_topics([name])[name].result(_TIMEOUT_S)
    until = time.monotonic() + _TIMEOUT_S
    while name in admin.list_topics(timeout=_TIMEOUT_S).topics:
        if time.monotonic() > until:
            raise TimeoutError(f"topic {name} is still there")
        time.sleep(0.05)


def forget_topics(bootstrap: str, *names: str) -> None:
    """Delete those of the topics that are there: of an example, whose names are fixed, other tests may have left some."""
    there = AdminClient(_client(bootstrap)).list_topics(timeout=_TIMEOUT_S).topics
    for name in names:
        if name in there:
            delete_topic(bootstrap, name)


def produce(bootstrap: str, topic: str, records: Iterable[Any], **options: Any) -> None:
    """Write records, in this order and once, and wait until the broker has them.

    A record is bytes or text, (key, value), or a dict of what `Producer.produce` takes.
    """
    producer = Producer(_client(bootstrap, **({"enable.idempotence": True, "partitioner": "murmur2_random", "linger.ms": 5} | options)))
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: Any) -> None:
        if error is not None:
            refused.append(error)

    for record in records:
        key, value = record if isinstance(record, tuple) else (None, record)
        given = record if isinstance(record, dict) else {"key": key, "value": value}
        while True:
            try:
                producer.produce(topic, on_delivery=delivered, **given)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(_TIMEOUT_S)
    if refused or left:
        raise RuntimeError(f"topic {topic}: {len(refused)} records refused ({refused[:1]}), {left} without an answer")


def end_offsets(bootstrap: str, topic: str, isolation: Isolation = "read_committed") -> dict[int, int]:
    """Return where each partition ends for a reader: at the last stable offset, or at the high watermark."""
    admin = AdminClient(_client(bootstrap))
    partitions = admin.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}
    until = time.monotonic() + _TIMEOUT_S
    while True:
        told = admin.list_offsets(asked, isolation_level=_LEVELS[isolation], request_timeout=_TIMEOUT_S)
        try:
            return {where.partition: future.result(_TIMEOUT_S).offset for where, future in told.items()}
        except KafkaException as error:
            # A broker that has just come back may know less of who leads than the client does.
            behind = error.args[0].code() in (KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH)
            if not (behind or error.args[0].retriable()) or time.monotonic() > until:
                raise
            time.sleep(0.1)
            admin = AdminClient(_client(bootstrap))


def is_settled(bootstrap: str, topic: str) -> bool:
    """Say whether no transaction is open: the last stable offset is the end."""
    return end_offsets(bootstrap, topic, "read_committed") == end_offsets(bootstrap, topic, "read_uncommitted")


def wait_until_settled(bootstrap: str, topic: str, timeout_s: float = 5.0) -> None:
    """Wait until no transaction is open.

    Raises
    ------
    AssertionError
        If one still is after so many seconds: it hangs.
    """
    until = time.monotonic() + timeout_s
    while not is_settled(bootstrap, topic):
        stable, end = end_offsets(bootstrap, topic, "read_committed"), end_offsets(bootstrap, topic, "read_uncommitted")
        assert time.monotonic() < until, f"topic {topic}: a transaction hangs; last stable offsets {stable}, ends {end}"
        time.sleep(0.1)


def consume_all(bootstrap: str, topic: str, isolation: Isolation = "read_committed", timeout_s: float = 60.0) -> list[Record]:
    """Return all that a fresh consumer sees, from the beginning to the end that was there at the call."""
    ends = end_offsets(bootstrap, topic, isolation)
    consumer = Consumer(
        _client(
            bootstrap,
            **{"group.id": "consume-all", "enable.auto.commit": False, "isolation.level": isolation},
            **{"enable.partition.eof": True, "check.crcs": True, "auto.offset.reset": "error"},
        )
    )
    found: list[Record] = []
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        until = time.monotonic() + timeout_s
        while ends:
            if time.monotonic() > until:
                raise TimeoutError(f"topic {topic}: partitions {sorted(ends)} not read to their ends within {timeout_s:.0f} s")
            for message in consumer.consume(10_000, timeout=0.2):
                if (error := message.error()) is None:
                    headers = message.headers() or []
                    found.append(
                        Record(message.partition(), message.offset(), message.key(), message.value(), headers, message.timestamp()[1])
                    )
                elif error.code() == KafkaError._PARTITION_EOF:
                    # Behind the last record there may be the markers of transactions: only this event knows how far it has read.
                    if message.offset() >= ends.get(message.partition(), 0):
                        ends.pop(message.partition(), None)
                elif not error.retriable():
                    raise RuntimeError(f"topic {topic}, partition {message.partition()}: {error}")
    finally:
        consumer.close()
    return sorted(found)


def console_consume(bootstrap: str, topic: str, isolation: Isolation = "read_committed") -> list[bytes]:
    """Return the values that Kafka's own console consumer prints from the beginning; it leaves after a while without any.

    The second opinion: nothing of it is librdkafka. An absent value is printed as `null`. On a busy machine it may leave before it has
    begun to read: one that has seen less than there is looks again, and waits longer.
    """
    there = len(consume_all(bootstrap, topic, isolation))
    for quiet_ms in _QUIET_MS:
        printed = _console_consume(bootstrap, topic, isolation, quiet_ms)
        if len(printed) >= there:
            break
    return printed


def _console_consume(bootstrap: str, topic: str, isolation: Isolation, quiet_ms: int) -> list[bytes]:
    options = {
        "bootstrap-server": bootstrap,
        "topic": topic,
        "isolation-level": isolation,
        "timeout-ms": str(quiet_ms),
        "formatter-property": f"line.separator={_SEPARATOR}",
    }
    command = kafka().command(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "--from-beginning",
        *(part for name, value in options.items() for part in (f"--{name}", value)),
        heap="256m",
    )
    done = subprocess.run(command, capture_output=True, check=False, timeout=120 + quiet_ms / 1000)
    said = done.stderr.decode(errors="replace")
    # It ends by its timeout, which it reports like an error; the line with the count says that it got that far.
    printed = done.stdout.split(_SEPARATOR.encode())[:-1]
    if f"Processed a total of {len(printed)} messages" not in said:
        raise RuntimeError(f"the console consumer failed on topic {topic} (exit code {done.returncode}), {len(printed)} values\n{said}")
    return printed
