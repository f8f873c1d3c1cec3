"""The yardstick: confluent-kafka alone, which reads the topic in batches and touches each value.

Of transactions that come as they are sent (`Work.records` 0) it forwards one in so many, with no guarantee: two journeys through the broker
and nothing between them, the least that any latency can be.
"""

from __future__ import annotations

import time
from typing import Final, NoReturn

import confluent_kafka

from benchmarks.kafka_jobs.work import Work, report

BATCH: Final = 10_000
#: About as many transactions are there for an alert.
FORWARDED: Final = 80


def main() -> None:
    """Read all records, or forward some until SIGTERM."""
    work = Work.told()
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": work.broker,
            "group.id": work.name,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            # As the job: by default, who reads as fast as this waits for a second whenever the client's queue has been full.
            "fetch.queue.backoff.ms": 10,
        }
    )
    topic = consumer.list_topics(work.transactions, timeout=30).topics[work.transactions]
    consumer.assign([confluent_kafka.TopicPartition(work.transactions, partition, 0) for partition in topic.partitions])
    if work.records:
        read(work, consumer)
    else:
        forward(work, consumer)


def read(work: Work, consumer: confluent_kafka.Consumer) -> None:
    """Read all; the clock runs from the call that brings the first ones to the last."""
    seen = size = 0
    began = time.perf_counter()
    while seen < work.records:
        # Not to wait for more at the end than there are.
        for message in consumer.consume(min(BATCH, work.records - seen), timeout=10):
            if message.error():
                raise confluent_kafka.KafkaException(message.error())
            size += len(message.value())
            seen += 1
    report(seen, time.perf_counter() - began, bytes=size, version=confluent_kafka.version())


def forward(work: Work, consumer: confluent_kafka.Consumer) -> NoReturn:
    """Forward some."""
    options = {"bootstrap.servers": work.broker, "linger.ms": 0, "enable.idempotence": True}
    producer = confluent_kafka.Producer(options)
    seen = 0
    while True:
        message = consumer.poll(1.0)
        producer.poll(0)
        if message is None:
            continue
        if message.error():
            raise confluent_kafka.KafkaException(message.error())
        if seen % FORWARDED == 0:
            producer.produce(work.alerts, key=message.key(), value=message.value())
        seen += 1


if __name__ == "__main__":
    main()
