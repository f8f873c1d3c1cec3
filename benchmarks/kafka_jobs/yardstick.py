"""The yardstick: confluent-kafka alone, which reads the topic in batches and touches each value."""

from __future__ import annotations

import time
from typing import Final

import confluent_kafka

from benchmarks.kafka_jobs.work import Work, report

BATCH: Final = 10_000


def main() -> None:
    """Read all records; the clock runs from the call that brings the first ones to the last."""
    work = Work.told()
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": work.broker,
            "group.id": work.name,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    topic = consumer.list_topics(work.transactions, timeout=30).topics[work.transactions]
    seen = size = 0
    began = time.perf_counter()
    consumer.assign([confluent_kafka.TopicPartition(work.transactions, partition, 0) for partition in topic.partitions])
    while seen < work.records:
        # Not to wait for more at the end than there are.
        for message in consumer.consume(min(BATCH, work.records - seen), timeout=10):
            if message.error():
                raise confluent_kafka.KafkaException(message.error())
            size += len(message.value())
            seen += 1
    report(seen, time.perf_counter() - began, bytes=size, version=confluent_kafka.version())


if __name__ == "__main__":
    main()
