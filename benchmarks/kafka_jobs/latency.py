"""How long after its transaction was handed to the producer is an alert visible to a read_committed consumer?"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.kafka_jobs.transactions import Stream

#: So long the job may take to write its first alert.
START_TIMEOUT_S: Final = 120.0
#: Alerts of transactions that were sent before are not counted: the job has just started.
WARM_UP_S: Final = 5.0
#: Sent at once; at 6,000 a second a transaction is late by less than two milliseconds.
TICK_S: Final = 0.001


class Pace(threading.Thread):
    """Sends transactions at a rate until it is told to stop, and remembers when each was sent."""

    def __init__(self, broker: str, topic: str, stream: Stream, rate: int) -> None:
        super().__init__(name="pace", daemon=True)
        options = {"bootstrap.servers": broker, "linger.ms": 0, "enable.idempotence": True, "partitioner": "murmur2_random"}
        self.producer = Producer(options | {"delivery.report.only.error": True})
        self.topic, self.rate = topic, rate
        self.records: Iterator[tuple[str, bytes]] = stream.records()
        #: By transaction: they are numbered from 0 as they are sent.
        self.sent_at: list[float] = []
        self.stopped = threading.Event()
        self.refused: list[Any] = []

    def run(self) -> None:
        began = time.perf_counter()
        while not self.stopped.is_set():
            due = int((time.perf_counter() - began) * self.rate)
            while len(self.sent_at) < due:
                account, value = next(self.records)
                self.sent_at.append(time.perf_counter())
                self.producer.produce(self.topic, key=account, value=value, on_delivery=self._refused)
            self.producer.poll(0)
            time.sleep(TICK_S)
        self.producer.flush(30)

    def stop(self) -> None:
        """Send no more; return when the broker has everything."""
        self.stopped.set()
        self.join()
        if self.refused:
            raise KafkaException(self.refused[0])

    def _refused(self, error: Any, message: Any) -> None:
        self.refused.append(error)


def measure(broker: str, transactions: str, alerts: str, stream: Stream, rate: int, seconds: float) -> dict[str, Any]:
    """Send at the rate for so many seconds, behind a warm-up, while a job runs; return its latencies in ms."""
    options = {"bootstrap.servers": broker, "group.id": f"reader-of-{alerts}", "enable.auto.commit": False}
    consumer = Consumer(options | {"isolation.level": "read_committed", "fetch.wait.max.ms": 10, "auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(alerts, timeout=30).topics[alerts].partitions
    consumer.assign([TopicPartition(alerts, partition, 0) for partition in partitions])
    pace = Pace(broker, transactions, stream, rate)
    pace.start()
    found: list[tuple[float, int]] = []
    give_up, until = time.perf_counter() + START_TIMEOUT_S, float("inf")
    try:
        while (now := time.perf_counter()) < until:
            message = consumer.poll(0.1)
            if message is None:
                if not found and now > give_up:
                    raise TimeoutError(f"the job wrote no alert within {START_TIMEOUT_S:.0f} s")
                continue
            visible_at = time.perf_counter()
            if message.error():
                raise KafkaException(message.error())
            if not found:
                # What was sent before the job was there is in its way only for a moment, which the warm-up covers.
                until = visible_at + WARM_UP_S + seconds
            found.append((visible_at, json.loads(message.value())["transaction_id"]))
    finally:
        pace.stop()
        consumer.close()
    from_ = until - seconds
    latencies = sorted(1000 * (visible_at - pace.sent_at[n]) for visible_at, n in found if pace.sent_at[n] >= from_)
    if not latencies:
        raise TimeoutError(f"no alert of the {seconds:.0f} s that count was visible at their end")
    sent = sum(1 for moment in pace.sent_at if from_ <= moment < until)
    quantiles = {f"p{q}_ms": round(latencies[min(len(latencies) - 1, len(latencies) * q // 100)], 2) for q in (50, 95, 99)}
    return {"alerts": len(latencies), "transactions_per_s": round(sent / seconds), **quantiles}
