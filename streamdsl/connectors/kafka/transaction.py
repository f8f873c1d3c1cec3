"""The job's transaction in a Kafka cluster: its commit point.

librdkafka cannot take up a transaction again that a crash has left (KIP-939 is not in it), so a checkpoint cannot be made
durable first and committed later, as Flink does it: a crash in between would lose what the transaction held. Here the
transaction itself says which checkpoint it commits (see `markers`), and a start restores what the last one names.

After any commit whose outcome is not known the producer is given up (KIP-890: a late answer must not meet the next transaction).

A cluster fences whoever it takes for dead: who has been replaced, and who let a transaction stand open for too long. They are told apart by
the worker of the last commit. Only who was not replaced may start again: `init_transactions` of the other would fence its replacement.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from streamdsl._native.includes.faults import fault, planted
from streamdsl.connectors.kafka.admin import ensure_topic, not_writable
from streamdsl.connectors.kafka.clients import CALL_S, PATIENCE_S, ErrorLog, Waiting, made, patiently
from streamdsl.connectors.kafka.confluent import KafkaError, KafkaException, Producer
from streamdsl.connectors.kafka.failures import FENCED, for_good, translated, unknown_topic
from streamdsl.connectors.kafka.limits import limits_of
from streamdsl.connectors.kafka.markers import claim_of, ensure_markers_topic, last_worker, markers_topic, read_marker, record_of
from streamdsl.connectors.kafka.outbox import NOT_OURS, Deliveries, Outbox, Presence, Record, named_topic_gone, producer_options
from streamdsl.connectors.kafka.rights import Access
from streamdsl.connectors.kafka.topic import LARGEST_BATCH, Topic
from streamdsl.connectors.transaction import Marker, Transaction
from streamdsl.errors import ConfigError, ConnectorError, InternalError

__all__ = ["KafkaTransaction"]

log = logging.getLogger("streamdsl")

#: How long a commit may take.
COMMIT_S: Final = 60.0
#: How long a start that does not fit the last commit waits for one that is being ended.
SETTLE_S: Final = 15.0
#: How long one call may take that somebody waits for who wants to leave.
LEAVE_S: Final = 1.0
#: The cluster aborts a transaction that has been open for so long; brokers allow 15 min unless told otherwise.
LEAST_TIMEOUT_MS, MOST_TIMEOUT_MS = 60_000, 900_000
#: What the client takes.
_LEAST_MS, _MOST_MS = 1_000, 2_147_483_647
#: What a record is told when the transaction has failed: not why. Whoever would begin another transaction is.
UNTOLD: Final = frozenset({KafkaError._STATE, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})


class KafkaTransaction(Transaction):
    """One transactional producer for all sinks of the job in one cluster.

    Parameters
    ----------
    job : str
        The transactional id and the topic of the markers are made of it: one job of that name in a cluster.
    sinks : sequence of Topic
    """

    def __init__(self, job: str, sinks: Sequence[Topic]) -> None:
        self._sinks, self._topics = sinks, sorted({sink.topic for sink in sinks})
        self._job, self._id = job, f"streamdsl.{job}"
        self._own = frozenset((*self._topics, markers_topic(job)))
        self._options = {name: value for name, value in sinks[0].client_options().items() if name != "transaction.timeout.ms"}
        self._doing = f"the transaction of {job!r} at {self._options['bootstrap.servers']}"
        self._timeout_ms = _timeout(sinks[0].options.get("transaction.timeout.ms"), sinks[0].config)
        self._access = Access((*self._topics, markers_topic(job)), ("WRITE",), transactional_id=self._id)
        self._deliveries = Deliveries(self._access, self._own)
        self._producer: Producer | None = None
        self._last: Marker | None = None
        self._settled = 0
        self._unknown = False
        self._worker = ""
        self._fenced: ConnectorError | None = None
        self._looking = threading.Lock()
        self._written: set[str] = set()  # topics of this transaction's records

    def look(self, worker: str, *, again: bool = False, settled: bool = False) -> Marker | None:
        """Return the marker that can be read now; a commit that is under way may follow it, unless it is to be settled."""
        self._ensure_topics()
        self._check_replaced(worker, again)
        return read_marker(self._options, self._job, self._topics, settled=settled, patience=SETTLE_S if settled else PATIENCE_S)

    def open(self, worker: str, *, again: bool = False) -> Marker | None:
        """Take over from whoever ran the job before, and read the marker."""
        self._worker = worker
        self._ensure_topics()
        self._check_replaced(worker, again)
        limits = [limits_of(sink.client_options(), sink.topic).topic for sink in self._sinks]
        limits += [sink.seen.get(LARGEST_BATCH) for sink in self._sinks]
        self._producer = made(
            Producer,
            {
                **producer_options(self._options, limits),
                "transactional.id": self._id,
                "transaction.timeout.ms": self._timeout_ms,
                "socket.timeout.ms": min(int(self._options["socket.timeout.ms"]), self._timeout_ms),
                "on_delivery": self._deliveries,
                "error_cb": ErrorLog(self._doing),
            },
            f"beginning {self._doing}",
        )
        patiently(f"beginning {self._doing}", self._take_over, access=self._access)
        self._step("beginning", lambda producer: producer.begin_transaction())
        self._write(claim_of(self._job, worker))
        self._commit()
        self._last = read_marker(self._options, self._job, self._topics)
        return self._last

    def _check_replaced(self, worker: str, again: bool) -> None:
        other = last_worker(self._options, self._job) if again else None
        if other not in (worker, None):
            raise replaced(f"beginning {self._doing} again", other)

    def _ensure_topics(self) -> None:
        for sink in self._sinks:
            ensure_topic(sink.client_options(), sink.topic, sink.partitions, sink.replication)
        ensure_markers_topic(self._options, self._job)

    def _take_over(self) -> None:
        assert self._producer is not None
        # Connected first: a client that is not when it looks for its coordinator looks again after half a second.
        # In short calls: a signal is heard between them.
        self._producer.list_topics(markers_topic(self._job), timeout=LEAVE_S)
        self._producer.init_transactions(LEAVE_S)

    def begin(self, marker: Marker) -> None:
        """Begin; where the run begins elsewhere than the last one committed, that is committed first, by itself."""
        self._settled = marker.checkpoint_id
        self._step("beginning", lambda producer: producer.begin_transaction())
        if self._last is None or self._last.elsewhere or marker != self._last or marker.accepted != self._last.accepted:
            self._write(self._record_of(marker))
            self._commit()
            self._step("beginning", lambda producer: producer.begin_transaction())

    def _record_of(self, marker: Marker) -> Record:
        return record_of(self._job, self._worker, self._topics, marker)

    def _commit(self) -> None:
        self._unknown = True
        self._step("committing", self._end)
        self._unknown = False
        self._written.clear()

    def _end(self, producer: Producer) -> None:
        """Commit. It is waited for in short calls, each of which goes on with the same commit: between them the client is heard."""
        waiting, topics = Waiting(f"committing {self._doing}", silent_s=CALL_S), Presence(self._own, self._written)
        while True:
            try:
                producer.commit_transaction(1.0)
            except KafkaException as error:
                cause = error.args[0]
                if cause.code() != KafkaError._TIMED_OUT or not cause.retriable() or waiting.seconds > COMMIT_S:
                    raise
                producer.poll(0)
                waiting.say(cause.str())
                topics.check(producer)
            else:
                waiting.over()
                return

    def _write(self, record: Record) -> None:
        outbox = Outbox()
        outbox.add([record])
        until = time.monotonic() + COMMIT_S
        while not self.take(outbox):
            if time.monotonic() > until:
                raise ConnectorError(f"{self._doing}: the client takes no more records", remedy="it is tried again", recoverable=True)
            time.sleep(0.01)

    def commit(self, marker: Marker) -> None:
        """Commit with the marker, and begin the next. Nobody writes meanwhile: all writers stand behind the barrier."""
        fault("FP14")
        if not planted("marker-not-in-transaction"):
            self._write(self._record_of(marker))
        fault("FP17")
        self._commit()
        fault("FP20")
        self._check_deliveries(self._doing)
        self._last = marker
        self._step("beginning", lambda producer: producer.begin_transaction())
        fault("FP22")
        self._settled = marker.checkpoint_id

    def release(self, checkpoint_id: int) -> None:
        """The checkpoint has failed: its rows stay in the transaction."""
        self._settled = max(self._settled, checkpoint_id)

    def settled(self, checkpoint_id: int) -> bool:
        """Whether the checkpoint has been committed or has failed: what stands behind its barrier may follow."""
        return self._settled >= checkpoint_id or planted("outbox-not-held")

    def take(self, outbox: Outbox) -> bool:
        """Hand records to the client; return whether it took them all. From the writers' threads."""
        producer = self._producer
        if producer is None:
            raise InternalError("a transaction that is not open was written to")
        try:
            self._written |= outbox.topics
            everything = outbox.empty_into(producer)
            if everything:
                outbox.topics.clear()
            producer.poll(0)
        except KafkaException as error:
            cause = _cause(producer, error.args[0])
            if cause.code() not in FENCED:
                self._check_deliveries(f"writing in {self._doing}")
            raise self._failed(cause, f"writing in {self._doing}") from error
        self._check_deliveries(f"writing in {self._doing}")
        return everything

    def _check_deliveries(self, doing: str) -> None:
        failed = self._deliveries.failed
        if failed is None:
            return
        assert self._producer is not None
        cause = _cause(self._producer, failed)
        if for_good(cause):
            raise self._failed(cause, doing)
        self._deliveries.check(doing)

    def _step(self, doing: str, call: Callable[[Producer], Any]) -> None:
        assert self._producer is not None
        try:
            call(self._producer)
        except KafkaException as error:
            refused = self._deliveries.failed
            # A record that is refused for good is told here as a transaction to be aborted, which would be tried again without end.
            final = refused is not None and for_good(refused)
            cause = refused if final else _cause(self._producer, error.args[0])
            final = final or for_good(cause)
            failed = self._failed(cause, f"{doing} {self._doing}")
            if self._unknown and not final:
                failed.context["recoverable"] = True
                failed.remedy = "whether it was committed is found out when the job starts again, from its marker"
            raise failed from error

    def _failed(self, cause: KafkaError, doing: str) -> ConnectorError:
        """Return what to raise. Of a fence it is looked up who set it: the first thread that asks does, the others wait for it."""
        if unknown_topic(cause):
            missing = self._missing()
            if missing and not self._own & set(missing):
                return named_topic_gone(doing, missing[0])
            if not missing and not self._written <= self._own:
                return named_topic_gone(doing, None)
            if missing:
                cause = KafkaError(cause.code(), f"there is no topic {', '.join(map(repr, missing))} any more")
        if cause.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return self._not_allowed(cause, doing)
        if cause.code() not in FENCED:
            return translated(cause, doing, self._access)
        with self._looking:
            if self._fenced is None:
                self._fenced = self._fence(doing)
            return self._fenced

    def _missing(self) -> list[str]:
        """Return the topics of this transaction that the cluster does not have now: the client does not say which it means."""
        try:
            there = set() if self._producer is None else set(self._producer.list_topics(timeout=LEAVE_S).topics)
        except KafkaException:
            return []  # it does not answer
        return sorted((self._own | self._written) - there) if there else []

    def _not_allowed(self, cause: KafkaError, doing: str) -> ConnectorError:
        """Return what to raise where a topic may not be written: it is looked up which, the client does not say it."""
        known = sorted(self._own | self._written)
        refused = not_writable(self._options, known)
        if refused and not self._own & set(refused):
            return named_topic_gone(doing, refused[0], NOT_OURS)
        return translated(cause, doing, replace(self._access, topics=tuple(refused or known)))

    def _fence(self, doing: str) -> ConnectorError:
        found = "no other worker has replaced it"
        try:
            other = last_worker(self._options, self._job, CALL_S)
            if other not in (self._worker, None):
                return replaced(doing, other)
        except ConnectorError as error:
            log.debug("%s: who runs the job now cannot be read: %s", doing, error)
            found = "or another worker has replaced it, which is looked up before it starts again"
        return ConnectorError(
            f"{doing}: the cluster has ended the transaction of this worker, which stood still or was out of its reach for longer than "
            f"{self._timeout_ms} ms (transaction.timeout.ms); {found}",
            remedy="it goes on from its last commit; if this comes again, allow transactions longer: "
            'options={"transaction.timeout.ms": ...}',
            recoverable=True,
        )

    def close(self) -> None:
        """Abort what is open and let the producer go. After a commit with unknown outcome, the cluster or the next start ends it."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if not self._unknown:
            try:
                producer.abort_transaction(LEAVE_S)
            except KafkaException:
                pass  # fenced, or the cluster is away: the next start aborts it
        producer.purge()


def _cause(producer: Producer, error: KafkaError) -> KafkaError:
    """Return what an error is about: a client that is beyond repair says in its calls only that it is, and why in its next poll."""
    try:
        if error.code() == KafkaError._FATAL:
            producer.poll(0)
        elif error.code() in UNTOLD:
            producer.begin_transaction()
    except KafkaException as told:
        error = told.args[0]
    return error


def replaced(doing: str, other: str | None) -> ConnectorError:
    """Return the error of a worker that has been replaced by another, which nothing is to disturb."""
    error = translated(KafkaError(KafkaError._FENCED), doing)
    error.message += f" (by process {other})" if other else ""
    error.context["replaced"] = True
    return error


def _timeout(asked: Any, config: Any) -> int:
    """Return ``transaction.timeout.ms``: long enough for a checkpoint to come in time, or the job would never commit one.

    Raises
    ------
    ConfigError
        What was asked for is too short, or the checkpoints are too far apart for any.
    """
    needed: int = config.checkpoint_interval_ms + config.checkpoint_timeout_ms
    if asked is not None:
        if isinstance(asked, bool) or not str(asked).isdecimal() or not _LEAST_MS <= int(asked) <= _MOST_MS:
            raise ConfigError(
                f"transaction.timeout.ms={asked!r} is no whole number of ms from {_LEAST_MS} to {_MOST_MS}",
                remedy='mend options={"transaction.timeout.ms": ...} of the sink',
            )
        if int(asked) < config.checkpoint_interval_ms * 2:
            raise ConfigError(
                f"transaction.timeout.ms={asked} is too short for a checkpoint every {config.checkpoint_interval_ms} ms: "
                "the cluster would abort every transaction before its checkpoint commits it",
                remedy="take checkpoints more often, or allow transactions at least twice as long",
            )
        return int(asked)
    if config.checkpoint_interval_ms * 2 > MOST_TIMEOUT_MS:
        raise ConfigError(
            f"a checkpoint every {config.checkpoint_interval_ms} ms is too rare for exactly once: brokers end a transaction after "
            f"{MOST_TIMEOUT_MS} ms",
            remedy='take checkpoints more often, use delivery="at_least_once", or raise transaction.max.timeout.ms of the brokers and '
            'set options={"transaction.timeout.ms": ...}',
        )
    return min(MOST_TIMEOUT_MS, max(LEAST_TIMEOUT_MS, 2 * needed))
