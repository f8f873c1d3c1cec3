"""Watermarks, idleness and timers: what is ignored, and what a crash may not change."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from streamdsl import Config, Processor, Schema, StreamError, Topology, count, memory, tumbling
from streamdsl.connectors.base import END, Chunk, End, Json, Source, SplitReader, no_metadata
from streamdsl.testing import TopologyTestDriver
from tests.semantics.jobs import SCHEMA, crash, driver, ms, row

# What a driver, or a source, says of time ------------------------------------------------------------------------------


def two_sources(parallelism: int = 1) -> TopologyTestDriver:
    topology = Topology("job")
    a, b = (topology.stream(memory(name, schema=SCHEMA), timestamp="t", watermarks="external") for name in "ab")
    a.merge(b).key_by("k").window(tumbling("1s")).aggregate(n=count()).to(memory("out"))
    return TopologyTestDriver(topology, parallelism=parallelism)


def starts(job):
    return [ms(out["window_start"]) for out in job.read("out")]


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("word", ["watermark", "idle", "both", "greater"])
def test_no_word_of_time_wakes_an_idle_source(parallelism, word):
    job = two_sources(parallelism)
    job.send("a", row("x", 500))
    job.idle("b")
    if word in ("idle", "both"):
        job.idle("b")
    if word in ("watermark", "both"):
        job.advance_watermark("b", 5)
    if word == "greater":
        job.advance_watermark("b", 10_000)
    assert starts(job) == []
    job.advance_watermark("a", 2_000)
    assert starts(job) == [0]
    # What was said while it was idle does not count later either.
    job.send("a", row("x", 3_500))
    job.active("b")
    job.active("b")
    job.advance_watermark("a", 5_000)
    # b woke behind the watermark of 2,000: it stays out until it has caught up.
    assert starts(job) == [3_000]


def test_active_twice_holds_time_once():
    job = two_sources()
    job.send("a", row("x", 500))
    for _ in range(2):
        job.active("b")
    job.advance_watermark("a", 2_000)
    assert starts(job) == []
    job.advance_watermark("b", 2_000)
    assert starts(job) == [0]


def test_a_source_that_ends_while_it_is_idle_holds_nobody_back():
    job = two_sources()
    job.idle("b")
    job.send("a", row("x", 500))
    job.end("b")
    job.advance_watermark("a", 2_000)
    assert starts(job) == [0]
    with pytest.raises(StreamError, match="ended"):
        job.idle("b")
    job.send("a", row("x", 3_000))
    job.end("a")
    assert starts(job) == [3_000]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_of_idle_and_ended_inputs_the_ended_do_not_count(parallelism):
    """All idle: W may advance to the greatest of the idle ones'; ended ones do not count."""
    job = two_sources(parallelism)
    job.send("a", row("x", 500))
    job.advance_watermark("b", 5_000)
    job.end("b")
    job.advance_watermark("a", 700)
    job.idle("a")
    assert starts(job) == []
    job.active("a")
    job.advance_watermark("a", 1_000)
    assert starts(job) == [0]


def test_a_second_idle_of_the_last_one_lets_nothing_go_back():
    job = two_sources()
    job.advance_watermark("a", 2_000)
    for name in "abab":
        job.idle(name)
    job.send("a", row("x", 1_500))
    job.advance_watermark("a", 2_100)
    # a woke at 2,000, where all were: what is late is late.
    assert starts(job) == []
    job.send("a", row("x", 2_500))
    job.advance_watermark("a", 4_000)
    assert starts(job) == [2_000]


class Told(Source):
    """Gives the chunks of `told`, one a read: (times, watermark, idle)."""

    bounded = False

    def __init__(self, name: str, told: list[tuple[list[int], int | None, bool | None] | None]) -> None:
        self.name, self.schema, self.told = name, Schema.of({"k": str, "at": int}), told

    def splits(self) -> list[str]:
        return ["0"]

    def open_split(self, split: str, position: Json, columns: Any) -> SplitReader:
        return ToldReader(self, columns)


class ToldReader(SplitReader):
    def __init__(self, source: Told, columns: Any) -> None:
        self.source, self.told, self.columns = source, iter(source.told), columns

    def read(self, max_rows: int) -> Chunk | End | None:
        said = next(self.told, END)
        if said is None or isinstance(said, End):
            return said
        times, watermark, idle = said
        given = {"k": pa.array(["x"] * len(times), pa.string()), "at": pa.array(times, pa.int64())}
        arrays = [given[name] if name in given else no_metadata(name, len(times)) for name in self.columns]
        return Chunk(pa.RecordBatch.from_arrays(arrays, names=list(self.columns)), None, watermark=watermark, idle=idle)


def test_a_sources_own_word_counts_as_the_drivers_does():
    topology = Topology("job")
    # The second is idle from the start; what else it says changes nothing until it has rows.
    one = Told("one", [([10], 5_000, None), *[None] * 50, ([5_500], 5_800, None), *[None] * 50])
    two = Told("two", [([], None, True), ([], 5, None), ([], None, True), ([], 7_000, None), *[None] * 60, ([6_000], 8_000, None)])
    streams = [topology.stream(source, timestamp="at", watermarks="external") for source in (one, two)]
    out = memory("out")
    streams[0].merge(streams[1]).key_by("k").window(tumbling("1s")).aggregate(n=count()).to(out)
    topology.run(Config(state_backend="memory"))
    assert sorted(ms(found["window_start"]) for found in out.rows()) == [0, 5_000, 6_000]


@pytest.mark.parametrize("restored", [1, 2])
def test_an_idle_source_is_idle_after_a_restore(restored):
    job = two_sources()
    job.idle("b")
    job.send("a", row("x", 500))
    crash(job, restored)
    job.advance_watermark("a", 2_000)
    assert starts(job) == [0]
    job.send("b", row("x", 2_500))
    job.send("a", row("x", 2_600))
    job.advance_watermark("a", 3_000)
    job.advance_watermark("b", 3_000)
    assert starts(job) == [2_000]


# Timers ----------------------------------------------------------------------------------------------------------------


class Timed(Processor):
    """s: what to do; n: when."""

    output = {"k": str, "at": int}

    def process(self, row, ctx):
        (ctx.cancel_timer if row.s == "cancel" else ctx.set_timer)(row.n)

    def on_timer(self, timer, ctx):
        yield {"k": ctx.key, "at": timer.time}


def fired(job):
    return [(out["k"], out["at"]) for out in job.read("out")]


def processed(processor):
    return driver(lambda rows: rows.key_by("k").process(processor, name="p"), watermarks="external")


@pytest.mark.parametrize("restored", [1, 3])
def test_a_timer_that_waits_for_the_next_watermark_does_so_across_a_crash(restored):
    for cancelled in (False, True):
        job = processed(Timed)
        job.advance_watermark("in", 100)
        for k in "abc":
            job.send("in", row(k, 101, s="set", n=50))
        crash(job, restored)
        assert fired(job) == []
        crash(job)
        for k in "abc" if cancelled else "":
            job.send("in", row(k, 102, s="cancel", n=50))
        job.send("in", row("d", 102, s="set", n=60))
        assert fired(job) == []
        job.advance_watermark("in", 103)
        assert sorted(fired(job)) == [*([] if cancelled else [("a", 50), ("b", 50), ("c", 50)]), ("d", 60)]
        job.end()
        assert fired(job) == []


class Reached(Processor):
    """n: a timer that is set; s: "cancel" for one that is not to be. Tells the watermark of each call."""

    output = {"k": str, "what": str, "watermark": int | None}

    def process(self, row, ctx):
        if row.n is not None:
            (ctx.cancel_timer if row.s == "cancel" else ctx.set_timer)(row.n)
        yield {"k": ctx.key, "what": f"{row.s} {row.n}", "watermark": ctx.watermark}

    def on_timer(self, timer, ctx):
        if timer.time % 3 == 0:
            ctx.set_timer(timer.time - 5)
        yield {"k": ctx.key, "what": f"timer {timer.time}", "watermark": ctx.watermark}


class ReachedByBatch(Processor):
    output = {"k": str, "watermark": int | None}

    def process_batch(self, batch, ctx):
        return pa.record_batch({"k": pa.array(ctx.keys), "watermark": pa.array([ctx.watermark] * len(ctx.keys), pa.int64())})


def reached(build, sources=("in", "idle")):
    topology = Topology("job")
    first, *others = [topology.stream(memory(name, schema=SCHEMA), timestamp="t", watermarks="external") for name in sources]
    first.merge(*others).key_by("k").process(build, name="reached").to(memory("out"))
    return topology


@pytest.mark.parametrize("restored", [1, 2, 4])
def test_a_watermark_does_not_go_back_at_a_restore(restored):
    for build in (Reached, ReachedByBatch):
        job = TopologyTestDriver(reached(build), parallelism=2)
        job.idle("idle")
        job.advance_watermark("in", 10)
        crash(job, restored)
        for k in "abcdef":
            job.send("in", row(k, 11, s="set"))
        assert {out["watermark"] for out in job.read("out")} == {10}
        crash(job)
        job.advance_watermark("in", 20)
        job.send("in", row("a", 21, s="set"))
        assert [out["watermark"] for out in job.read("out")] == [20], "the idle one holds nobody back"


TIMED_STEPS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from("abc"), st.integers(0, 30), st.sampled_from(["set", "set", "cancel"]), st.integers(0, 1)),
    st.tuples(st.just("watermark"), st.integers(0, 30), st.integers(0, 1)),
    st.tuples(st.sampled_from(["idle", "active"]), st.integers(0, 1)),
)


@pytest.mark.parametrize("rescaled", [False, True])
@settings(max_examples=100, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(steps=st.lists(TIMED_STEPS, max_size=14), crashes=st.lists(st.tuples(st.integers(0, 14), st.integers(1, 3)), min_size=1, max_size=2))
def test_timers_and_watermarks_answer_as_if_nothing_had_crashed(rescaled, steps, crashes):
    if rescaled:
        # Which inputs of a task are behind is not known at another parallelism: they hold time until they have caught up.
        steps = [step for step in steps if step[0] not in ("idle", "active")]
    found = []
    for crashing in (False, True):
        job = TopologyTestDriver(reached(Reached, ["in"]), partitions=2, parallelism=2 if rescaled and crashing else 1)
        told: dict[str, list[Any]] = {}
        for i, step in enumerate(steps):
            for at_step, restored in crashes if crashing else ():
                if at_step == i:
                    crash(job, restored if rescaled else 1)
            match step:
                case "send", k, n, s, partition:
                    job.send("in", row(k, n, s=s, n=n), partition=partition)
                case "watermark", watermark, partition:
                    job.advance_watermark("in", watermark, partition=partition)
                case word, partition:
                    getattr(job, word)("in", partition=partition)
            for out in job.read("out"):
                told.setdefault(out["k"], []).append((i, out["what"], out["watermark"]))
        found.append(told)
    assert found[1] == found[0]


def told_by(build, steps, crashes, parallelism):
    """Return what a job of the sources a and b answers to each step, by key; it crashes where `crashes` says."""
    job = TopologyTestDriver(reached(build, ["a", "b"]), parallelism=parallelism)
    told: dict[str, list[Any]] = {}
    for i, step in enumerate(steps):
        for at_step in crashes:
            if at_step == i:
                crash(job, parallelism)
        match step:
            case "send", k, n, s, source:
                job.send("ab"[source], row(k, n, s=s, n=n))
            case "watermark", watermark, source:
                job.advance_watermark("ab"[source], watermark)
            case word, source:
                getattr(job, word)("ab"[source])
        for out in job.read("out"):
            told.setdefault(out["k"], []).append((i, out["what"], out["watermark"]))
    return told


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(TIMED_STEPS, max_size=14), crashes=st.lists(st.integers(0, 14), min_size=1, max_size=2), parallelism=st.integers(1, 2)
)
@example([("watermark", 0, 1), ("idle", 1), ("watermark", 20, 0), ("active", 1), ("watermark", 25, 0), ("send", "a", 30, "set", 0)], [4], 2)
def test_inputs_that_woke_behind_stay_out_across_a_crash(steps, crashes, parallelism):
    """An idle input that wakes below the task's W stays out of the minimum until it has caught up, restored or not."""
    assert told_by(Reached, steps, crashes, parallelism) == told_by(Reached, steps, [], parallelism)


@pytest.mark.parametrize("restored", [1, 2, 3])
def test_an_input_that_woke_behind_holds_nobody_back_after_a_restore(restored):
    job = two_sources(2)
    job.send("a", row("x", 500))
    job.idle("b")
    job.advance_watermark("a", 2_000)
    job.active("b")
    crash(job, restored)
    assert starts(job) == [0]
    job.send("a", row("x", 2_500))
    job.advance_watermark("a", 4_000)
    assert starts(job) == [2_000]
    crash(job, restored)
    job.advance_watermark("b", 5_000)
    job.send("a", row("x", 5_500))
    job.advance_watermark("a", 7_000)
    assert starts(job) == [], "b has caught up and holds time"
    job.advance_watermark("b", 7_000)
    assert starts(job) == [5_000]
