"""Rows that have no form as a record, or are too large for one: refused before any row of the call is taken."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from confluent_kafka import KafkaException, Producer
from hypothesis import given
from hypothesis import strategies as st

from streamdsl import DataError, kafka
from streamdsl.connectors.kafka.layout import Layout
from streamdsl.connectors.kafka.limits import Limits
from streamdsl.connectors.kafka.outbox import Record
from streamdsl.schema import Schema

MOST = 2_000


def layout(**options):
    described = kafka("t", {"v": bytes}, format="raw", broker="localhost:9092", options={"message.max.bytes": MOST}, **options)
    return Layout(described, SCHEMA, (), Limits(MOST))


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


def test_a_time_that_kafka_has_not_is_the_first_that_it_has():
    """0 is what a client takes for its clock: a record of 1970 would be one of today, and all that follow it late."""
    rows = pa.record_batch({"v": pa.array([b"a", b"b", b"c", b"d", b"e"])})
    times = pa.array([-(10**15), -1, 0, 1, 1_700_000_000_000], pa.int64())
    assert [record.timestamp for record in layout().records(rows, times)] == [1, 1, 1, 1, 1_700_000_000_000]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_compresses_well_may_be_larger_than_the_topic_takes(compression):
    limits = Limits(1_000_000, 2_000, compression)
    assert limits.over(Record("t", b"k", b"x" * 1_900, 0, [("n", b"v")])) is None
    assert (limits.over(Record("t", b"k", b"x" * 10_000, 0, None)) is None) is (compression != "none")
    over = limits.over(Record("t", b"k", random.Random(7).randbytes(2_100), 0, None))
    assert over is not None and over[0] > 2_000 and over[1] == 2_000


SIZES = st.integers(0, 1_200) | st.integers(900, 1_100)
LIMITS = st.integers(300, 2_500)


@given(st.lists(st.tuples(SIZES | st.none(), SIZES | st.none()), max_size=3), LIMITS, LIMITS | st.none(), st.booleans())
def test_what_a_topic_surely_takes_it_takes(sizes, client, topic, compacted):
    keys = [None if size is None else b"k" * size for size, _ in sizes]
    values = [None if size is None else b"v" * size for _, size in sizes]
    for oldest_ms, dated in ((None, True), (1_000, False), (1_000, True)):
        limits = Limits(client, topic, oldest_ms=oldest_ms, compacted=compacted)
        for given_keys in (keys, None):
            if limits.surely_take(given_keys, values, dated=dated):
                for key, value in zip(given_keys or [None] * len(values), values, strict=True):
                    assert limits.why_not(Record("t", key, value, 5 if dated else 0, None), 100_000) is None


def test_most_records_are_taken_at_a_glance():
    assert Limits(1_000_000, 1_048_588).surely_take([b"k"] * 3, [b"x" * 400_000] * 3, dated=True)
    assert Limits(1_000_000).surely_take(None, [b"x"], dated=True)
    assert not Limits(1_000_000, oldest_ms=1).surely_take(None, [b"x"], dated=True)
    assert not Limits(1_000_000, compacted=True).surely_take(None, [b"x"], dated=True)
    assert not Limits(1_000_000).surely_take([b"k", None], [b"x", b"x"], dated=True)
