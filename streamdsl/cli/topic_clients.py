"""Records of a topic as lines of text, for `send` and `tail`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from streamdsl.config import Config
from streamdsl.errors import ConnectorError, DataError

__all__ = ["Line", "options_of", "read", "write"]

_PATIENCE_S: Final = 30.0
_POLL_S: Final = 0.2
#: Of `tail`: nothing is committed to it.
_GROUP: Final = "streamdsl-tail"

Line = tuple[bytes | None, bytes]


def options_of(topic: str, config: Config) -> Mapping[str, Any]:
    """Return how a client reaches the broker."""
    from streamdsl.connectors.kafka import kafka

    return kafka(topic, {"value": bytes}, format="raw").client_options(config)


def keyed(lines: Iterable[bytes], key: str | None) -> Iterator[Line]:
    """Yield (key, value) of lines; `key` names the field of a JSON line that is its key."""
    for number, line in enumerate(lines, 1):
        value = line.rstrip(b"\r\n")
        if not value:
            continue
        if key is None:
            yield None, value
            continue
        try:
            found = json.loads(value)[key]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"line {number} has no field {key!r}", remedy="each line is a JSON object that has it; or leave --key out"
            ) from error
        yield None if found is None else (found if isinstance(found, str) else json.dumps(found)).encode(), value


def write(topic: str, options: Mapping[str, Any], lines: Iterable[Line]) -> int:
    """Write records and return how many, once the cluster has all of them.

    Raises
    ------
    ConnectorError
        It has not taken one.
    """
    from confluent_kafka import Producer

    from streamdsl.connectors.kafka.admin import partitions_of
    from streamdsl.connectors.kafka.clients import CLIENT_LOG, made
    from streamdsl.connectors.kafka.failures import translated
    from streamdsl.connectors.kafka.rights import Access

    if not partitions_of(options, topic):
        raise ConnectorError(f"there is no topic {topic!r}", remedy="streamdsl -A … topics --create makes those of a topology")
    refused: list[Any] = []

    def told(error: Any, message: Any) -> None:
        if error is not None:
            refused.append(error)

    # The partitioner of the Java client and of streamdsl: the same key, the same partition.
    given = {**options, "partitioner": "murmur2_random", "enable.idempotence": True, "logger": CLIENT_LOG}
    doing = f"writing to {topic!r}"
    producer = made(Producer, given, doing)
    count = 0
    for key, value in lines:
        while True:
            try:
                producer.produce(topic, value=value, key=key, on_delivery=told)
                break
            except BufferError:
                producer.poll(_POLL_S)
        producer.poll(0)
        count += 1
    left = producer.flush(_PATIENCE_S)
    if refused:
        error = translated(refused[0], doing, Access((topic,), ("WRITE",)))
        raise ConnectorError(f"{len(refused) + left} of {count} records were not written: {error.message}", remedy=error.remedy)
    if left:
        raise ConnectorError(
            f"{left} of {count} records were not written to {topic!r}: the cluster has not answered for {_PATIENCE_S:g} s",
            remedy="the others are there",
        )
    return count


def read(
    topic: str, options: Mapping[str, Any], *, last: int | None, follow: bool, show: Callable[[Any], None], limit: int | None = None
) -> int:
    """Show the records of a topic: the `last` ones of each partition (None: all), then, with `follow`, what comes. Return how many."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    from streamdsl.connectors.kafka.admin import partitions_of
    from streamdsl.connectors.kafka.clients import CLIENT_LOG, first_and_end, made
    from streamdsl.connectors.kafka.failures import translated
    from streamdsl.connectors.kafka.rights import Access

    partitions = partitions_of(options, topic)
    if not partitions:
        raise ConnectorError(f"there is no topic {topic!r}", remedy="check its name")
    given = {"group.id": _GROUP, "enable.auto.commit": False, "isolation.level": "read_committed", "logger": CLIENT_LOG}
    consumer = made(Consumer, {**options, **given}, f"reading {topic!r}")
    access = Access((topic,), ("READ",), group=_GROUP)
    try:
        bounds = {
            partition: first_and_end(consumer, TopicPartition(topic, partition), f"asking for the end of {topic!r}", access)
            for partition in range(partitions)
        }
        starts = {partition: low if last is None else max(low, high - last) for partition, (low, high) in bounds.items()}
        ends = {partition: high for partition, (_, high) in bounds.items() if starts[partition] < high}
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
        shown, quiet = 0, time.monotonic()
        while (follow or ends) and (limit is None or shown < limit):
            message = consumer.poll(_POLL_S)
            if message is None:
                # Markers of transactions fill the end of a partition, and are never handed out.
                if not follow:
                    at = {one.partition: one.offset for one in consumer.position([TopicPartition(topic, partition) for partition in ends])}
                    ends = {partition: end for partition, end in ends.items() if at[partition] < end}
                    if time.monotonic() - quiet > _PATIENCE_S:
                        raise ConnectorError(f"{topic!r}: the cluster has not answered for {_PATIENCE_S:g} s", remedy="check the broker")
                continue
            quiet = time.monotonic()
            if message.error() is not None:
                if message.error().code() == KafkaError._PARTITION_EOF:
                    continue
                raise translated(message.error(), f"reading {topic!r}", access)
            show(message)
            shown += 1
            if message.offset() + 1 >= ends.get(message.partition(), 1 << 62):
                ends.pop(message.partition(), None)
        return shown
    finally:
        consumer.close()
