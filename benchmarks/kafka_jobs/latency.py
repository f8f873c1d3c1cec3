"""How long after its transaction was handed to the producer is an alert visible to a read_committed consumer?"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.kafka_jobs.transactions import Stream
from benchmarks.kafka_jobs.work import cpu_s

#: So long the job may take to write its first alert.
START_TIMEOUT_S: Final = 120.0
#: Alerts of transactions that were sent before are not counted: the job has just started, and until its first alert it gets a tenth of
#: the rate, so that it does not begin with a heap of work.
WARM_UP_S: Final = 10.0
WARM_UP_SHARE: Final = 0.1
#: At the end no more is sent, and all alerts are waited for: who is behind is not spared its slowest ones.
QUIET_S: Final = 5.0
LONGEST_END_S: Final = 120.0


class Pace(threading.Thread):
    """Sends transactions at a rate until it is told to stop, and remembers when each was sent. Every `tick_s` it sends what is due."""

    def __init__(self, broker: str, topic: str, stream: Stream, rate: float, tick_s: float) -> None:
        super().__init__(name="pace", daemon=True)
        options = {"bootstrap.servers": broker, "linger.ms": 0, "enable.idempotence": True, "partitioner": "murmur2_random"}
        self.producer = Producer(options | {"delivery.report.only.error": True})
        self.topic, self.rate, self.tick_s = topic, rate, tick_s
        self.records: Iterator[tuple[str, bytes]] = stream.records()
        #: By transaction: they are numbered from 0 as they are sent.
        self.sent_at: list[float] = []
        self.stopped = threading.Event()
        self.refused: list[Any] = []

    def run(self) -> None:
        due, last = 0.0, time.perf_counter()
        while not self.stopped.is_set():
            now = time.perf_counter()
            due, last = due + (now - last) * self.rate, now
            while len(self.sent_at) < due:
                account, value = next(self.records)
                self.sent_at.append(time.perf_counter())
                self.producer.produce(self.topic, key=account, value=value, on_delivery=self._refused)
            self.producer.poll(0)
            time.sleep(self.tick_s)
        self.producer.flush(30)

    def stop(self) -> None:
        """Send no more; return when the broker has everything."""
        self.stopped.set()
        self.join()
        if self.refused:
            raise KafkaException(self.refused[0])

    def _refused(self, error: Any, message: Any) -> None:
        self.refused.append(error)


class Reader:
    """Reads a topic of alerts, and remembers when each was visible."""

    def __init__(self, broker: str, topic: str) -> None:
        options = {"bootstrap.servers": broker, "group.id": f"reader-of-{topic}", "enable.auto.commit": False}
        self.consumer = Consumer(options | {"isolation.level": "read_committed", "fetch.wait.max.ms": 10, "auto.offset.reset": "earliest"})
        partitions = self.consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self.consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        #: When it was visible, and of which transaction it speaks.
        self.found: list[tuple[float, int]] = []

    def read(self, seconds: float, enough: int | None = None) -> bool:
        """Read for so many seconds, or until so many alerts are found; return whether any was."""
        before, until = len(self.found), time.perf_counter() + seconds
        while time.perf_counter() < until and (enough is None or len(self.found) < enough):
            message = self.consumer.poll(0.1)
            if message is None:
                continue
            visible_at = time.perf_counter()
            if message.error():
                raise KafkaException(message.error())
            self.found.append((visible_at, json.loads(message.value())["transaction_id"]))
        return len(self.found) > before


def measure(
    broker: str, transactions: str, alerts: str, stream: Stream, rate: int, tick_s: float, seconds: float, pid: int
) -> dict[str, Any]:
    """Send at the rate for so many seconds, behind a warm-up, while a job runs as process `pid`; return its latencies in ms.

    `cpu_percent` is what it takes of a core meanwhile.

    Raises
    ------
    TimeoutError
        If the job writes no alert at first, or has not written them all a while after the end.
    """
    reader, pace = Reader(broker, alerts), Pace(broker, transactions, stream, rate * WARM_UP_SHARE, tick_s)
    pace.start()
    try:
        if not reader.read(START_TIMEOUT_S, enough=1):
            raise TimeoutError(f"the job wrote no alert within {START_TIMEOUT_S:.0f} s")
        pace.rate = rate
        reader.read(WARM_UP_S)
        first, began, used_s = len(pace.sent_at), time.perf_counter(), cpu_s(pid)
        reader.read(seconds)
        cpu_percent = round(100 * (cpu_s(pid) - used_s) / (time.perf_counter() - began), 1)
    finally:
        pace.stop()
    sent = len(pace.sent_at) - first
    ended = time.perf_counter()
    while reader.read(QUIET_S):
        if time.perf_counter() - ended > LONGEST_END_S:
            raise TimeoutError(
                f"the job is still behind, {LONGEST_END_S:.0f} s after the last transaction: {rate:,} a second are too many for it"
            )
    reader.consumer.close()
    latencies = sorted(1000 * (visible_at - pace.sent_at[n]) for visible_at, n in reader.found if n >= first)
    quantiles = {f"p{q}_ms": round(latencies[min(len(latencies) - 1, len(latencies) * q // 100)], 2) for q in (50, 95, 99)}
    most = {"max_ms": round(latencies[-1], 2), "cpu_percent": cpu_percent}
    return {"alerts": len(latencies), "transactions_per_s": round(sent / (ended - began)), **quantiles, **most}
