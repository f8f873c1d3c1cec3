"""State that does not fit: rows go cold and come back, and nobody sees it in what comes out."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamdsl import Aggregate, Config, Processor, Topology, col, count, expanding, hopping, memory, rolling, row, tumbling
from streamdsl.checkpoint.inspect import count_keys

KEYS, ROWS = 3_000, 20_000
SCHEMA = {"key": str, "at": int, "x": float}


def rows(seed: int = 1) -> list[dict[str, Any]]:
    """Every key comes now and then, some often; the time moves on by 1 ms a row."""
    draw = random.Random(seed)
    return [{"key": f"key-{int(KEYS * draw.random() ** 2)}", "at": 1_000 + i, "x": draw.randrange(100) / 4} for i in range(ROWS)]


class Numbered(Processor):
    """The row's number among those of its key, the last three of them, and the sum so far by a map."""

    output = {"key": str, "n": int, "last": str, "sum": float}

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int)
        self.last = ctx.state.list("last", int)
        self.sums = ctx.state.map("sums", str, float)

    def process(self, row: Any, ctx: Any) -> Any:
        self.n.set((self.n.get() or 0) + 1)
        self.last.append(row.at)
        if len(self.last) > 3:
            self.last.set(list(self.last)[-3:])
        self.sums["x"] = (self.sums.get("x") or 0.0) + row.x
        yield {"key": row.key, "n": self.n.get(), "last": str(list(self.last)), "sum": self.sums["x"]}


class Quiet(Processor):
    """Says, 500 ms behind each key's first record, how many have come until then."""

    output = {"key": str, "n": int}

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int)
        self.until = ctx.state.value("until", int)

    def process(self, row: Any, ctx: Any) -> None:
        if not self.n.get():
            self.until.set(ctx.timestamp + 500)
            ctx.set_timer(ctx.timestamp + 500)
        if ctx.timestamp <= self.until.get():  # later ones may come in the same batch: the timer fires behind it
            self.n.set((self.n.get() or 0) + 1)

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        yield {"key": ctx.key, "n": self.n.get()}


def frames(stream: Any) -> Any:
    return stream.with_columns(
        n=count().over(rolling("2s")), mean=col("x").mean().over(expanding(exclude_current=True)), previous=col("x").lag()
    )


def windows(stream: Any) -> Any:
    return stream.window(tumbling("3s")).aggregate(n=count(), total=col("x").sum(), values=col("x").to_list())


def hopped(stream: Any) -> Any:
    return stream.window(hopping("2s", "500ms"), grace="1s").aggregate(n=count(), low=col("x").min())


class Summed(Processor):
    output = {"key": str, "n": int, "total": float}

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        yield {"key": key, "n": len(rows), "total": sum(row.x for row in rows)}


JOBS = {
    "frames": frames,
    "aggregate": lambda stream: stream.aggregate(n=count(), total=col("x").sum(), names=col("x").n_unique()).to_stream(),
    "best rows": lambda stream: stream.aggregate(best=row().top_k(3, by="x", then_by="at")).to_stream(),
    "processor": lambda stream: stream.process(Numbered(), name="numbered"),
    "timers": lambda stream: stream.process(Quiet(), name="quiet"),
    "reduce": lambda stream: stream.reduce(lambda a, b: {**b.asdict(), "x": a.x + b.x}).to_stream(),
    "windows": windows,
    "hopping": hopped,
    "process windows": lambda stream: stream.window(tumbling("2s")).process(Summed(), name="summed"),
}


def outcome(job: str, config: Config, given: list[dict[str, Any]]) -> tuple[Counter[str], dict[str, int]]:
    topology = Topology("evicting")
    sink = memory("out")
    stream = topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="at", disorder="5ms", name="in").key_by("key")
    JOBS[job](stream).to(sink, name="out")
    run = topology.run(config)
    return Counter(repr(sorted(row.items())) for row in sink.rows()), run.metrics()["state"]


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("job", JOBS)
def test_what_is_evicted_comes_back(job: str, backend: Any, tmp_path: Path) -> None:
    given = rows()
    expected, ample = outcome(job, Config(state_backend="memory"), given)
    assert ample["evicted"] == ample["reads"] == ample["cold_keys"] == 0
    tiny = Config(state_backend=backend, state_memory="96KiB", parallelism=1, checkpoint_interval="20ms", state_dir=tmp_path)
    found, figures = outcome(job, tiny, given)
    assert found == expected
    assert figures["evicted"] > KEYS / 3 and figures["reads"] > 0


def test_two_tasks_share_the_memory(tmp_path: Path) -> None:
    given = rows(2)
    expected, _ = outcome("frames", Config(state_backend="memory"), given)
    found, figures = outcome("frames", Config(state_memory="96KiB", parallelism=2, checkpoint_interval="5ms", state_dir=tmp_path), given)
    assert found == expected and figures["evicted"] > 0


@pytest.mark.parametrize("job", ["table", "windows"])
def test_what_a_users_aggregate_holds_is_counted(job: str, tmp_path: Path) -> None:
    """Python values are not in the rows: 2,000 lists of strings take more than 8 MiB, which is more than there may be."""
    kept = Aggregate(list, lambda held, x: [*held, str(x) * 1_000], merge=lambda a, b: a + b, result=len, type=int)(col("x"))
    given = [{"key": f"key-{i % 2_000}", "at": 1_000 + i // 100, "x": float(i % 7)} for i in range(4_000)]
    topology, sink = Topology("users aggregates"), memory("out")
    keyed = topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="at", name="in").key_by("key")
    if job == "table":
        keyed.aggregate(n=kept, name="kept").to(sink, name="out")
    else:
        keyed.window(tumbling("1h")).aggregate(n=kept, name="kept").to(sink, name="out")
    run = topology.run(Config(state_memory="4MiB", batch_rows=64, checkpoint_interval="20ms", state_dir=tmp_path))
    figures = run.metrics()["state"]
    assert figures["evicted"] > 500
    assert Counter({row["key"]: row["n"] for row in sink.rows()}) == Counter({f"key-{i}": 2 for i in range(2_000)})


def test_keys_that_come_once_are_not_looked_for() -> None:
    given = [{"key": f"key-{i}", "at": 1_000 + i, "x": 0.0} for i in range(ROWS)]
    _, figures = outcome("processor", Config(state_backend="memory", state_memory="64KiB"), given)
    assert figures["evicted"] > ROWS / 2
    assert figures["reads"] < ROWS / 20, "a key that cannot be there costs no read, but for a few that the filter takes for others"


class Forgetful(Processor):
    """Whether the key has been seen within the last half minute."""

    output = {"key": str, "seen": bool}

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state.value("seen", bool, ttl="30s")

    def process(self, row: Any, ctx: Any) -> Any:
        yield {"key": row.key, "seen": self.seen.get() is not None}
        self.seen.set(True)


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_what_has_expired_in_the_database_is_removed(backend: Any, tmp_path: Path) -> None:
    """A key that comes once must not stay for ever, wherever its row is: until an hour behind its time, for records that are late."""
    given = [{"key": f"key-{i}", "at": 1_000 + 2_000 * i, "x": 0.0} for i in range(ROWS)]
    topology = Topology("forgetful")
    stream = topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="at", disorder="5ms", name="in").key_by("key")
    stream.process(Forgetful(), name="forgetful").to(memory("out"), name="out")
    topology.run(Config(state_backend=backend, state_memory="64KiB", checkpoint_interval="20ms", batch_rows=16, state_dir=tmp_path))
    assert sum(count_keys(tmp_path).values()) < ROWS / 4
