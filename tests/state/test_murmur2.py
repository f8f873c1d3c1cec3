"""The shard of a key is Kafka's partition hash."""

from __future__ import annotations

import pytest

from streamdsl._native.state.murmur2 import hash_key, shard_of_key

# From Kafka's UtilsTest.testMurmur2.
VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), VECTORS.items(), ids=repr)
def test_known_values(key, expected):
    assert hash_key(key) == expected


@pytest.mark.parametrize(("key", "expected"), VECTORS.items(), ids=repr)
def test_shards_are_kafka_partitions(key, expected):
    for shards in (1, 6, 128, 130):
        assert shard_of_key(key, shards) == (expected & 0x7FFFFFFF) % shards


def test_every_tail_length():
    assert len({hash_key(b"x" * n) for n in range(20)}) == 20
