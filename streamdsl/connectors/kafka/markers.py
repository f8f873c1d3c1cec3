"""Where a job's commits are written down: a compacted topic of its own, one record in each transaction.

Not the offsets of a consumer group, which are forgotten after a week without a commit, and which librdkafka can wait for without
end when a broker has been away (librdkafka#5456, #5511). A record is part of the transaction like any other.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from streamdsl.connectors.base import Marker
from streamdsl.connectors.kafka.clients import (
    CALL_S,
    CLIENT_LOG,
    PATIENCE_S,
    Consumer,
    ErrorLog,
    KafkaError,
    KafkaException,
    TopicPartition,
    away,
    create_topic,
    partitions_of,
    patiently,
    translated,
)
from streamdsl.connectors.kafka.writer import Record
from streamdsl.errors import ConnectorError

__all__ = ["markers_topic", "read_marker", "record_of"]

_LEGAL: Final = re.compile(r"[^a-zA-Z0-9._-]")
#: Offsets that are looked at first, from the end; the last marker is among the last few.
_FEW: Final = 256
_SETTINGS: Final = {"cleanup.policy": "compact", "segment.bytes": "16777216"}


def markers_topic(job: str) -> str:
    """Return the name of the topic; jobs of different names have different ones."""
    legal = _LEGAL.sub("_", job)[:200]
    if legal != job:
        legal += "-" + hashlib.blake2b(job.encode(), digest_size=4).hexdigest()
    return f"streamdsl.{legal}.commits"


def record_of(job: str, topics: Sequence[str], marker: Marker) -> Record:
    """Return the record that says what its transaction commits, to which topics."""
    value = json.dumps({"job": job, "checkpoint": marker.checkpoint_id, "digest": marker.digest, "topics": list(topics)})
    return Record(markers_topic(job), ",".join(topics).encode(), value.encode(), 0, None)


def read_marker(options: Mapping[str, Any], job: str, topics: Sequence[str]) -> Marker | None:
    """Return the last marker that was committed with rows of `topics`, else the last of others; the topic is made if there is none.

    Raises
    ------
    ConnectorError
        The cluster cannot be reached, or what stands in the topic is no marker of the job.
    """
    topic = markers_topic(job)
    partitions = partitions_of(options, topic)
    if not partitions:
        create_topic(options, topic, 1, -1, _SETTINGS)
        return None
    if partitions != 1:
        raise ConnectorError(
            f"the topic {topic!r} has {partitions} partitions, a job's commits have one", remedy="give the job another name"
        )
    doing = f"reading the commits of {job!r} in the topic {topic!r}"
    consumer = Consumer(
        {
            **options,
            "logger": CLIENT_LOG,
            "group.id": topic,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "error_cb": ErrorLog(doing),
        }
    )
    try:
        at = TopicPartition(topic, 0)
        low, high = patiently(doing, lambda: consumer.get_watermark_offsets(at, timeout=CALL_S), exists=True)
        few = _FEW
        while True:
            start = max(low, high - few)
            found = _markers(consumer, topic, start, high, job, doing)
            own = [marker for to, marker in found if to == list(topics)]
            if own:
                return own[-1]
            if start == low:
                return replace(found[-1][1], elsewhere=True) if found else None
            few *= 16
    finally:
        consumer.close()


def _markers(consumer: Consumer, topic: str, start: int, high: int, job: str, doing: str) -> list[tuple[list[str], Marker]]:
    """Return the markers of the offsets from `start` to `high`, each with the topics that it is of."""
    consumer.assign([TopicPartition(topic, 0, start)])
    markers: list[tuple[list[str], Marker]] = []
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for message in consumer.consume(1000, 0.1):
            told = message.error()
            if told is None:
                markers.append(_decoded(message.value(), job, topic))
            elif told.code() == KafkaError._PARTITION_EOF:
                # Short of the end: a transaction of before is still being ended.
                if message.offset() >= high:
                    return markers
            elif not away(told):
                raise translated(told, doing)
    raise translated(KafkaException(KafkaError(KafkaError._TIMED_OUT)), doing)


def _decoded(value: bytes | None, job: str, topic: str) -> tuple[list[str], Marker]:
    try:
        known = json.loads(value or b"")
        if known["job"] != job:
            raise ValueError(f"it is of {known['job']!r}")
        return [str(name) for name in known["topics"]], Marker(int(known["checkpoint"]), str(known["digest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectorError(
            f"the topic {topic!r} has a record that is no commit of {job!r}: {error}",
            remedy="nobody else is to write there; give the job another name",
        ) from error
