"""Rows that are with their key stay there, and what a join keeps stays within its memory."""

import random

import pytest

from streamdsl import Config, Topology, col, count, memory, tumbling
from streamdsl._native.event_time.clock import ManualClock
from streamdsl.runtime.environment import MemoryEnvironment
from tests.state.stepped import Stepped

A = {"k": str | None, "at": int, "a": int}


def streams(topology, n, keys=9, seed=1):
    chance = random.Random(seed)
    made = []
    for name in "abc":
        rows = [{"k": f"k{chance.randrange(keys)}" if i % 11 else None, "at": i, "a": i} for i in range(n)]
        made.append(topology.stream(memory(name, A, rows), timestamp="at", name=name))
    return made


def exchanges(topology):
    return topology.explain(parallelism=2).split("physical")[-1].count(": hash from")


def joined(how="inner"):
    topology = Topology("t")
    a, b, c = streams(topology, 120)
    first = a.join(b.select("k", "at", b=col("a")).drop("at"), on="k", how=how, within=5)
    return topology, first.join(c.select("k", c=col("a")), on="k", how=how, within=5)


@pytest.mark.parametrize("how", ["inner", "left", "outer"])
def test_two_joins_by_one_key_exchange_once(how):
    topology, twice = joined(how)
    twice.to(memory("out"))
    assert exchanges(topology) == 3
    rows = [joined(how)[1].collect(Config(parallelism=parallelism, batch_rows=7)).to_pylist() for parallelism in (1, 3)]
    assert sorted(map(repr, rows[0])) == sorted(map(repr, rows[1]))
    assert len(rows[0]) > 50


def test_a_table_and_windows_joined_by_their_key_stay():
    topology = Topology("t")
    a, b, _ = streams(topology, 100)
    counts = a.key_by("k").aggregate(n=count(), name="counts")
    windows = b.key_by("k").window(tumbling(10)).aggregate(last=col("a").max(), name="windows")
    windows.join(counts, on="k", how="left").to(memory("out"))
    assert exchanges(topology) == 2


def test_another_key_another_order_and_a_computed_key_are_exchanged():
    topology = Topology("t")
    a, b, c = streams(topology, 10)
    first = a.join(b.select("k", b=col("a")), on="k", within=5)
    first.join(c.select("a", "at"), on="a", within=5, name="other").to(memory("one"))
    first.with_columns(k=col("k") + "x").join(c.select("k"), on="k", within=5, name="computed").to(memory("two"))
    assert exchanges(topology) == 6


@pytest.mark.parametrize("how", ["inner", "outer"])
def test_buffers_ten_times_the_memory_stay_within_it(how):
    limit, keys = 256 << 10, 3_000
    names = [f"key-{i:06d}" for i in range(keys)]
    random.Random(2).shuffle(names)
    topology, sink = Topology("t"), memory("out")
    pieces = [{"k": name, "at": number, "text": "x" * 200} for number, name in enumerate(names * 3)]
    left = topology.stream(memory("left", {"k": str, "at": int, "text": str}, pieces), timestamp="at")
    right = topology.stream(
        memory("right", A, [{"k": name, "at": 20_000 + i, "a": i} for i, name in enumerate(names[: keys // 2])]), timestamp="at"
    )
    left.join(right.drop("at"), on="k", how=how, within="30s").select("k", "at", "a").to(sink)

    def run(**options):
        job = Stepped(topology, MemoryEnvironment(), Config(state_backend="memory", parallelism=1, **options), ManualClock(), 64)
        while job.step():
            pass
        return job, sorted(map(repr, sink.rows()))

    ample, expected = run()
    assert ample.most > 10 * limit, "else there is nothing to see"
    tiny, found = run(state_memory=limit, batch_rows=500)
    assert tiny.most < 1.5 * limit
    assert found == expected
    assert len(found) == (3 * keys // 2 if how == "inner" else 3 * keys)
