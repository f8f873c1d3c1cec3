"""Rolling frames of many records of one key: the same as read anew for each record, in about linear time."""

from __future__ import annotations

import random
import time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Schema, Topology, col, count, memory, rolling
from tests.aggregates.jobs import AGGREGATES, SCHEMA
from tests.aggregates.oracle import ROLLING, same
from tests.semantics.jobs import crash, driver

FRAMES = {"long": ("10m", 600_000, False), "others": ("3s", 3_000, True), "short": ("200ms", 200, False)}
#: What is as long as the frame by itself.
SLOW = {("long", name) for name in ("list_s", "list_f", "joined")}


def drawn(seed: int, n: int, jitter: int, nulls: float = 0.1) -> list[dict[str, Any]]:
    """Return records in order of arrival, one a few ms, whose times lie up to `jitter` ms off."""
    rng = random.Random(seed)
    floats = [0.0, -0.0, 1e308, -1e308, 5e-324, 1e-300, 0.1, 1e16, 3.5]

    def maybe(value: Any) -> Any:
        return None if rng.random() < nulls else value

    return [
        {
            "k": "a",
            "i": maybe(rng.randrange(-40, 40)),
            "f": maybe(rng.choice(floats) if rng.random() < 0.2 else rng.uniform(-1e6, 1e6)),
            "s": maybe(rng.choice("abcdefgh") * rng.randrange(5)),
            "b": maybe(rng.random() < 0.5),
            "t": 5_000 + 7 * i + rng.randrange(-jitter, jitter + 1),
        }
        for i in range(n)
    ]


def expected(rows: list[dict[str, Any]], at: int, size: int, exclude: bool) -> list[dict[str, Any]]:
    now = rows[at]["t"]
    return [row for row in rows[: at + (not exclude)] if now - size < row["t"] <= now]


@pytest.mark.parametrize("jitter", [0, 40, 3_000])
def test_every_aggregate_of_long_frames(jitter: int) -> None:
    """Three frames over one store, through checkpoints and crashes; every 41st record is looked at."""
    rows = drawn(jitter, 1_500, jitter)
    columns = {
        f"{frame}_{name}": aggregate.over(rolling(size, exclude_current=exclude))
        for frame, (size, _, exclude) in FRAMES.items()
        for name, aggregate in AGGREGATES.items()
        if (frame, name) not in SLOW
    }
    job = driver(lambda stream: stream.key_by("k").with_columns(**columns), schema=Schema.of(SCHEMA), disorder="10s")
    for start in range(0, len(rows), 400):
        job.send_batch("in", rows[start : start + 400])
        crash(job)
    found = job.read("out")
    assert len(found) == len(rows)
    for at in [*range(0, len(rows), 41), len(rows) - 1]:
        for frame, (_, size, exclude) in FRAMES.items():
            visible = expected(rows, at, size, exclude)
            for name, oracle in ROLLING.items():
                if (frame, name) in SLOW:
                    continue
                assert same(found[at][f"{frame}_{name}"]) == same(oracle(visible)), (at, frame, name)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 20, 900]), st.integers(200, 700), st.integers(1, 4_000))
def test_frames_of_any_size_and_disorder(seed: int, jitter: int, n: int, size: int) -> None:
    """What leaves on the way (the watermark follows the times) leaves no trace."""
    rows = drawn(seed, n, jitter)
    names = ["n", "n_i", "sum_i", "sum_f", "std_f", "max_f", "first_s", "last_f", "unique_s", "unique_f", "min_by", "top", "some"]
    topology = Topology("t")
    keyed = topology.stream(memory("m", schema=SCHEMA, rows=rows), timestamp="t", disorder=2 * jitter + 1).key_by("k")
    found = keyed.with_columns(**{name: AGGREGATES[name].over(rolling(size)) for name in names}).select(*names).collect().to_pylist()
    assert len(found) == n
    for at in range(0, n, 7):
        visible = expected(rows, at, size, False)
        assert {name: same(found[at][name]) for name in names} == {name: same(ROLLING[name](visible)) for name in names}, at


def seconds(n: int, aggregate: Any, jitter: int) -> float:
    rng = random.Random(n)
    times = [max(0, i + rng.randrange(-jitter, jitter + 1)) for i in range(n)] if jitter else list(range(n))
    data = pa.table({"k": ["a"] * n, "b": [i * 31 % 9_973 for i in range(n)], "f": [i / 7 for i in range(n)], "t": times})
    rows = Topology("t").stream(memory("m", schema=data.schema, rows=data), timestamp="t", disorder=2 * jitter + 1).key_by("k")
    began = time.process_time()
    found = rows.with_columns(x=aggregate.over(rolling("1d"))).select("x").collect()
    assert found.num_rows == n
    return time.process_time() - began


@pytest.mark.parametrize("jitter", [0, 25])
@pytest.mark.parametrize(
    "aggregate",
    [
        count(),
        count().filter(col("b") > 100),
        col("b").sum(),
        col("f").sum(),
        col("f").mean(),
        col("f").std(),
        col("b").max(),
        col("f").min(),
        col("b").n_unique(),
        col("b").first(),
        col("b").last(),
        col("b").max_by(col("f")),
        col("b").top_k(3),
    ],
    ids=str,
)
def test_a_busy_key_costs_about_linear_time(aggregate: Any, jitter: int) -> None:
    small = seconds(5_000, aggregate, jitter)
    # Eight times the records: quadratic would be 64.
    assert seconds(40_000, aggregate, jitter) < 20 * max(small, 0.05)
