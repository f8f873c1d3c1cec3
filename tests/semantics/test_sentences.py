"""Sentences of the guide on time, state, errors and snapshots that no other file asks one by one. Each test begins with its sentence."""

from __future__ import annotations

import pytest

from streamdsl import Config, Processor, Topology, col, count, dead_letter, expanding, memory, rolling, tumbling
from streamdsl.testing import TopologyTestDriver
from tests.semantics.jobs import crash, driver, figures, row

EVENT = {"k": str, "t": int}


def two_sources(parallelism: int = 1, **options) -> TopologyTestDriver:
    """Return a driver of windows of "one" that are merged with "two", and counted in longer windows."""
    topology = Topology("job")
    one, two = (topology.stream(memory(name, schema=EVENT), timestamp="t", watermarks="external", **options) for name in ("one", "two"))
    small = one.key_by("k").window(tumbling(10)).count(name="small").select("k", t=col("window_start").cast(int))
    small.merge(two.select("k", "t")).key_by("k").window(tumbling(100)).count(name="large").to(memory("out"))
    return TopologyTestDriver(topology, parallelism=parallelism)


class Fallible(Processor):
    """Counts the rows of a key, sets a timer at each, and fails where it is told to."""

    output = {"k": str, "n": int, "what": str}

    def open(self, ctx):
        self.n = ctx.state.value("n", int)

    def process(self, row, ctx):
        self.n.set(self.n.get(0) + 1)
        ctx.set_timer(row.t + 10, name="due")
        yield {"k": row.k, "n": self.n.get(), "what": "row"}
        if row.n == 13:
            raise ValueError("unlucky")

    def on_timer(self, timer, ctx):
        return {"k": ctx.key, "n": timer.time, "what": "timer"}


# Time and watermarks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallelism", [1, 3])
def test_when_all_inputs_are_idle_the_output_is_idle_too(parallelism):
    job = two_sources(parallelism)
    job.send("two", {"k": "a", "t": 5})
    job.advance_watermark("two", 150)
    assert job.read("out") == []  # "one" has said nothing: it holds the time of the merge
    job.idle("one")
    assert [out["count"] for out in job.read("out")] == [1]


def test_lateness_is_judged_against_the_watermark_before_the_record():
    job = driver(lambda rows: rows.key_by("k").window(tumbling(10)).count(), tags=["late"])
    job.send_batch("in", [row("a", 5), row("a", 100), row("a", 4), row("a", 95)])
    assert ([out["count"] for out in job.read("out")], [out["t"] for out in job.read("late")]) == ([1], [4, 95])


@pytest.mark.parametrize("end", [-(2**63), 2**63 - 1])
def test_nothing_wraps_near_the_ends_of_time(end):
    near = end + 1 if end < 0 else end - 1
    job = driver(lambda rows: rows.key_by("k").with_columns(n=count().over(rolling("300000000d"))))
    job.send_batch("in", [row("a", near), row("a", near)])
    assert [out["n"] for out in job.read("out")] == [1, 2]
    job = driver(lambda rows: rows.key_by("k").process(Fallible, name="op"))
    job.send("in", row("a", near, n=1))
    job.end()
    assert [out["what"] for out in job.read("out")] == ["row", "timer"]


# Errors and state -----------------------------------------------------------------------------------------------------


def failing(errors, parallelism=1) -> TopologyTestDriver:
    topology = Topology("job", errors="fail")
    rows = topology.stream(memory("in", schema={"k": str, "t": int, "n": int}), timestamp="t", watermarks="external")
    seen = rows.key_by("k").with_columns(seen=count().over(expanding()))
    done = seen.key_by("k").process(Fallible, name="op", errors=errors)
    done.to(memory("out"))
    seen.to(memory("seen"))
    return TopologyTestDriver(topology, parallelism=parallelism)


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("errors", ["skip", "dead_letter"])
def test_in_the_operator_that_failed_nothing_is_left_and_in_those_before_it_the_record_has_happened(errors, parallelism):
    letters = memory("letters")
    job = failing(dead_letter(letters) if errors == "dead_letter" else errors, parallelism)
    for n in (1, 13, 2):
        job.send("in", {"k": "a", "t": n, "n": n})
    assert [out["seen"] for out in job.read("seen")] == [1, 2, 3]
    assert [(out["n"], out["what"]) for out in job.read("out")] == [(1, "row"), (2, "row")]
    job.end()
    assert [out["n"] for out in job.read("out")] == [11, 12]  # no timer of the record that failed
    if errors == "dead_letter":
        assert len(job.read("letters")) == 1


def test_a_dead_letter_that_is_replayed_counts_once_where_it_failed():
    job = failing("skip")
    job.send("in", {"k": "a", "t": 1, "n": 13})
    job.send("in", {"k": "a", "t": 1, "n": 1})  # as somebody has mended it
    assert [out["n"] for out in job.read("out")] == [1]
    assert job.state("op") == {("a",): {"n": 1}} or job.state("op") == {"a": {"n": 1}}


# Frames -----------------------------------------------------------------------------------------------------------------


def test_what_a_frame_keeps_goes_as_the_watermark_passes():
    job = driver(lambda rows: rows.key_by("k").with_columns(n=count().over(rolling(10))), watermarks="external")
    for t in (0, 3, 9):
        job.send("in", row("a", t))
    job.advance_watermark("in", 12)
    job.send("in", row("a", 13))
    assert [out["n"] for out in job.read("out")] == [1, 2, 3, 2]


def test_expanding_and_lag_know_no_lateness():
    job = driver(lambda rows: rows.key_by("k").with_columns(n=count().over(expanding()), before=col("t").lag()), watermarks="external")
    job.send("in", row("a", 100))
    job.advance_watermark("in", 1_000)
    job.send("in", row("a", 1))
    assert [(out["n"], out["before"]) for out in job.read("out")] == [(1, None), (2, 100)]
    assert figures(job, "late") == 0


# Keyed state and timers -----------------------------------------------------------------------------------------------


class Named(Processor):
    """Sets and cancels timers as the row says: "+x" sets x at the row's time, "-x" cancels it there."""

    output = {"at": int, "name": str}

    def process(self, row, ctx):
        if row.s.startswith("+"):
            ctx.set_timer(row.n, name=row.s[1:])
        else:
            ctx.cancel_timer(row.n, name=row.s[1:])

    def on_timer(self, timer, ctx):
        return {"at": timer.time, "name": timer.name}


@pytest.mark.parametrize("crashing", [False, True])
def test_a_timer_is_one_of_its_key_time_and_name(crashing):
    job = driver(lambda rows: rows.key_by("k").process(Named, name="op"), watermarks="external")
    for k, n, s in [("a", 5, "+x"), ("a", 5, "+y"), ("a", 6, "+x"), ("b", 5, "+x"), ("a", 5, "+x"), ("a", 5, "-y"), ("b", 6, "-x")]:
        job.send("in", row(k, 0, n=n, s=s))
    if crashing:
        crash(job)
    job.advance_watermark("in", 10)
    assert [(out["at"], out["name"]) for out in job.read("out")] == [(5, "x"), (5, "x"), (6, "x")]


class Aging(Processor):
    """Reads a value with a time to live in a timer."""

    output = {"found": int, "at": int}

    def open(self, ctx):
        self.held = ctx.state.value("held", int, ttl=10)

    def process(self, row, ctx):
        self.held.set(row.n)
        for after in (9, 10):
            ctx.set_timer(row.t + after, name=str(after))

    def on_timer(self, timer, ctx):
        return {"found": self.held.get(-1), "at": timer.time}


@pytest.mark.parametrize("crashing", [False, True])
def test_in_a_timer_a_value_is_as_old_as_the_timers_time_says(crashing):
    job = driver(lambda rows: rows.key_by("k").process(Aging, name="op"), watermarks="external")
    job.send("in", row("a", 100, n=7))
    if crashing:
        crash(job)
    job.advance_watermark("in", 10_000)
    assert [(out["found"], out["at"]) for out in job.read("out")] == [(7, 109), (-1, 110)]


def test_a_removal_looks_at_the_live_value_again():
    job = driver(lambda rows: rows.key_by("k").process(Aging, name="op"), watermarks="external")
    job.send("in", row("a", 0, n=1))
    job.send("in", row("a", 5, n=2))
    job.advance_watermark("in", 12)  # the first value would be gone by now
    assert [(out["found"], out["at"]) for out in job.read("out")] == [(2, 9), (2, 10)]
    assert list(job.state("op").values()) == [{"held": 2}]


# Snapshots --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallelism", [1, 3])
def test_barriers_come_through_inputs_that_have_ended(parallelism):
    job = two_sources(parallelism)
    job.send("one", {"k": "a", "t": 5})
    job.end("one")
    job.send("two", {"k": "a", "t": 7})
    crash(job, 4 - parallelism)
    job.send("two", {"k": "a", "t": 8})
    job.end("two")
    assert [out["count"] for out in job.read("out")] == [3]


def test_the_tail_of_a_bounded_input_is_committed_by_a_last_checkpoint(tmp_path):
    topology = Topology("job")
    rows = topology.stream(memory("in", schema=EVENT, rows=[{"k": "a", "t": t} for t in range(10)]), timestamp="t")
    out = memory("out")
    rows.key_by("k").count(name="counted").to(out, name="out")
    run = topology.start(Config(state_dir=tmp_path / "state", checkpoint_interval="1h"))
    run.wait()
    assert run.metrics()["checkpoints"]["completed"] == 1
    assert [found["count"] for found in out.rows()][-1] == 10
    again = topology.start(Config(state_dir=tmp_path / "state"))
    again.wait()
    assert len(out.rows()) == len({found["count"] for found in out.rows()})
