"""Rows that have no form as a record, or are too large for one: refused before any row of the call is taken."""

from __future__ import annotations

import pyarrow as pa
import pytest
from confluent_kafka import KafkaException, Producer

from streamdsl import DataError, kafka
from streamdsl.connectors.kafka.layout import Layout
from streamdsl.connectors.kafka.outbox import Record
from streamdsl.schema import Schema

MOST = 2_000


def layout(**options):
    return Layout(
        kafka("t", {"v": bytes}, format="raw", broker="localhost:9092", options={"message.max.bytes": MOST}, **options), SCHEMA, (), MOST
    )


SCHEMA = Schema.of({"v": bytes})


@pytest.mark.parametrize("key", [None, b"k", b"k" * 100])
@pytest.mark.parametrize("headers", [None, [("n", b"v")], [("name", b"v" * 70), ("other", None)]])
def test_the_size_is_what_the_client_reckons_with(key, headers):
    producer = Producer({"bootstrap.servers": "localhost:1", "message.max.bytes": MOST, "log_level": 0})
    empty = Record("t", key, b"", 0, headers).wire_size
    producer.produce("t", b"x" * (MOST - empty), key, headers=headers or [])
    with pytest.raises(KafkaException):
        producer.produce("t", b"x" * (MOST - empty + 1), key, headers=headers or [])
    producer.purge()


def test_a_record_that_is_too_large_is_a_bad_record():
    rows = pa.record_batch({"v": pa.array([b"small", b"x" * MOST])})
    with pytest.raises(DataError, match="to the topic 't': its record takes"):
        layout().records(rows, pa.array([0, 0]))
    assert len(layout().records(rows.slice(0, 1), pa.array([0]))) == 1
