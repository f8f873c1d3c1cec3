"""Where a job's commits are written down: a compacted topic of its own, one record in each transaction.

Each says which worker it is of, and a worker that takes over writes one record that says nothing else. So the last one that is committed
names the worker that runs the job: whoever was stopped or cut off finds out there whether it has been replaced.

Not the offsets of a consumer group, which are forgotten after a week without a commit, and which librdkafka can wait for without
end when a broker has been away (librdkafka#5456, #5511). A record is part of the transaction like any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from streamdsl.connectors.kafka.admin import create_topic, partitions_of
from streamdsl.connectors.kafka.clients import CLIENT_LOG, PATIENCE_S, ErrorLog, first_and_end, made
from streamdsl.connectors.kafka.confluent import Consumer, KafkaError, KafkaException, TopicPartition
from streamdsl.connectors.kafka.failures import away, translated
from streamdsl.connectors.kafka.outbox import Record
from streamdsl.connectors.kafka.rights import Access
from streamdsl.connectors.transaction import Marker
from streamdsl.errors import ConnectorError

__all__ = ["claim_of", "ensure_markers_topic", "last_worker", "markers_topic", "read_marker", "record_of"]

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


def record_of(job: str, worker: str, topics: Sequence[str], marker: Marker) -> Record:
    """Return the record that says what its transaction commits, to which topics."""
    known = {"job": job, "worker": worker, "checkpoint": marker.checkpoint_id, "digest": marker.digest, "topics": list(topics)}
    if marker.accepted is not None:
        known["accepted"] = marker.accepted
    return Record(markers_topic(job), ",".join(topics).encode(), json.dumps(known).encode(), 0, None)


def claim_of(job: str, worker: str) -> Record:
    """Return the record by which a worker says that it runs the job from now on."""
    # A key of its own, which is that of no topics: compaction must not let it take a marker's place.
    return Record(markers_topic(job), b"", json.dumps({"job": job, "worker": worker}).encode(), 0, None)


def ensure_markers_topic(options: Mapping[str, Any], job: str) -> None:
    """Make the topic of a job's commits if there is none."""
    topic = markers_topic(job)
    partitions = partitions_of(options, topic)
    if not partitions:
        create_topic(options, topic, 1, -1, _SETTINGS)
    elif partitions != 1:
        raise ConnectorError(
            f"the topic {topic!r} has {partitions} partitions, a job's commits have one", remedy="give the job another name"
        )


def read_marker(
    options: Mapping[str, Any], job: str, topics: Sequence[str], *, settled: bool = False, patience: float = PATIENCE_S
) -> Marker | None:
    """Return the last marker that was committed with rows of `topics`, else the last of others.

    Unless it is to be `settled`, transactions that are open or being ended are not waited for. The cluster says that a commit is done
    before it can be read: while the broker that leads the topic is away, that takes long.

    Raises
    ------
    ConnectorError
        The cluster cannot be reached, what stands in the topic is no marker of the job, or a transaction has not ended.
    """
    commits: list[_Commit] = []
    with contextlib.closing(_back(options, job, patience, settled)) as back:
        for commits in back:
            own = [commit.marker for commit in commits if commit.topics == tuple(topics)]
            if own:
                return own[-1]
    others = [commit.marker for commit in commits if commit.marker is not None]
    return replace(others[-1], elsewhere=True) if others else None


def last_worker(options: Mapping[str, Any], job: str, patience: float = PATIENCE_S) -> str | None:
    """Return the worker of the last commit, None if there has been none. The topic is there.

    Raises
    ------
    ConnectorError
        As `read_marker`.
    """
    with contextlib.closing(_back(options, job, patience)) as back:
        return next((commits[-1].worker for commits in back if commits), None)


@dataclass(frozen=True, slots=True)
class _Commit:
    """A record of the topic. Without a marker (and topics) it is a worker's claim."""

    worker: str
    topics: tuple[str, ...] = ()
    marker: Marker | None = None


def _back(options: Mapping[str, Any], job: str, patience: float, settled: bool = False) -> Generator[list[_Commit], None, None]:
    """Yield the last few commits, then more of them, in the end all."""
    topic = markers_topic(job)
    doing = f"reading the commits of {job!r} in the topic {topic!r}"
    settings = {
        **options,
        "logger": CLIENT_LOG,
        "group.id": topic,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        # The end is told by an answer that is empty, for which the broker would wait half a second.
        "fetch.wait.max.ms": 10,
        "error_cb": ErrorLog(doing),
    }
    consumer = made(Consumer, {**settings, "isolation.level": "read_committed"}, doing)
    try:
        at = TopicPartition(topic, 0)
        readable = Access((topic,), ("READ",))
        # For such a consumer the end is where the first transaction begins that has not ended.
        low, high = first_and_end(consumer, at, doing, readable, patience)
        if settled:
            with contextlib.closing(made(Consumer, {**settings, "isolation.level": "read_uncommitted"}, doing)) as of_all:
                high = first_and_end(of_all, at, doing, readable, patience)[1]
        few = _FEW
        start = high + 1
        while start > low:
            start = max(low, high - few)
            yield _commits(consumer, topic, start, high, job, doing, patience)
            few *= 16
    finally:
        consumer.close()


def _commits(consumer: Consumer, topic: str, start: int, high: int, job: str, doing: str, patience: float) -> list[_Commit]:
    """Return what was committed from offset `start` on, at least up to `high`."""
    consumer.assign([TopicPartition(topic, 0, start)])
    commits: list[_Commit] = []
    until, short = time.monotonic() + patience, False
    while time.monotonic() < until:
        message = consumer.poll(0.1)
        if message is None:
            continue
        told = message.error()
        if told is None:
            commits.append(_decoded(message.value(), job, topic))
            if message.offset() >= high:
                return commits  # somebody goes on writing: the end may never be reached
        elif told.code() == KafkaError._PARTITION_EOF:
            # Short of the end: a transaction of before is still being ended.
            short = message.offset() < high
            if not short:
                return commits
        elif not away(told):
            raise translated(told, doing, Access((topic,), ("READ",), group=topic))
    if short:
        raise ConnectorError(
            f"{doing}: a transaction has not ended within {patience:.0f} s",
            remedy="start again: the cluster ends it when its worker does, or when its time is over",
            recoverable=True,
        )
    raise translated(KafkaException(KafkaError(KafkaError._TIMED_OUT)), doing)


def _decoded(value: bytes | None, job: str, topic: str) -> _Commit:
    try:
        known = json.loads(value or b"")
        if known["job"] != job:
            raise ValueError(f"it is of {known['job']!r}")
        worker = str(known["worker"])
        if "checkpoint" not in known:
            return _Commit(worker)
        accepted = None if known.get("accepted") is None else int(known["accepted"])
        marker = Marker(int(known["checkpoint"]), str(known["digest"]), accepted=accepted)
        return _Commit(worker, tuple(map(str, known["topics"])), marker)
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectorError(
            f"the topic {topic!r} has a record that is no commit of {job!r}: {error}",
            remedy="nobody else is to write there; give the job another name",
        ) from error
