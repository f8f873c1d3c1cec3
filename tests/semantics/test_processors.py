"""Processors: state, time to live, timers, what `ctx` knows, outputs, batches and windows; with a crash in the middle."""

import datetime
import decimal
from dataclasses import dataclass

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Processor, Topology, TopologyError, UserCodeError, dead_letter, memory, tumbling
from streamdsl.testing import TopologyTestDriver
from tests.semantics.jobs import crash, driver, figures, row


@dataclass
class Alert:
    k: str
    what: str
    at: int | None = None


def processed(processor, tags=(), errors="fail", window=None, parallelism=1, **options):
    def build(rows):
        keyed = rows.key_by("k")
        return (keyed if window is None else keyed.window(window)).process(processor, name="p", errors=errors)

    return driver(build, tags=tags, parallelism=parallelism, watermarks="external", **options)


class Memory(Processor):
    output = {"k": str, "n": int, "last": float, "all": list[int], "by": str}

    def open(self, ctx):
        self.n = ctx.state.value("n", int)
        self.last = ctx.state.value("last", float)
        self.all = ctx.state.list("all", int)
        self.by = ctx.state.map("by", str, int)

    def process(self, row, ctx):
        self.n.set((self.n.get() or 0) + 1)
        self.last.set(row.x)
        self.all.append(row["n"])
        self.by.put(row.s, row.n)
        if row.b:
            self.all.clear()
            self.by.remove(row.s)
        yield {"k": ctx.key, "n": self.n.get(), "last": self.last.get(), "all": self.all.get(), "by": repr(self.by.items())}


@pytest.mark.parametrize("parallelism", [1, 3])
def test_state_of_each_key_survives_a_crash(parallelism):
    job = processed(Memory, parallelism=parallelism)
    for k, x, n, s in [("a", 1.0, 5, "u"), ("b", 2.0, 7, "v"), ("a", 3.0, 6, "w")]:
        job.send("in", row(k, x=x, n=n, s=s))
    assert job.state("p")["a"] == {"n": 2, "last": 3.0, "all": [5, 6], "by": {"u": 5, "w": 6}}
    crash(job, 4 - parallelism)
    job.send("in", row("a", x=4.0, n=9, s="u", b=True))
    assert job.read("out")[-1] == {"k": "a", "n": 3, "last": 4.0, "all": [], "by": "[('w', 6)]"}


def test_reading_gives_a_value_and_only_set_writes():
    class Mutating(Processor):
        output = {"n": int}

        def open(self, ctx):
            self.held = ctx.state.value("held", list[int])

        def process(self, row, ctx):
            found = self.held.get([])
            found.append(1)
            if row.b:
                self.held.set(found)
            return {"n": len(self.held.get([]))}

    job = processed(Mutating)
    for b in (False, True, False, True):
        job.send("in", row(b=b))
    assert [out["n"] for out in job.read("out")] == [0, 1, 1, 2]


VALUES = {
    "int": (int, 2**62),
    "float": (float, -0.5),
    "str": (str, "ñ"),
    "bytes": (bytes, b"\x00\xff"),
    "bool": (bool, True),
    "datetime": (datetime.datetime, datetime.datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)),
    "date": (datetime.date, datetime.date(1969, 1, 2)),
    "Decimal": (decimal.Decimal, decimal.Decimal("1.230")),
    "list": (list[int], [1, 2]),
    "tuple": (tuple[str, int], ("a", 1)),
    "dict": (dict[str, float], {"a": 1.0}),
    "dataclass": (Alert, Alert("a", "b", 3)),
    "none": (int | None, None),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_state_value_comes_back_as_it_was(name):
    type_, value = VALUES[name]

    class Keeps(Processor):
        output = {"same": bool}

        def open(self, ctx):
            self.held = ctx.state.value("held", type_)

        def process(self, row, ctx):
            if row.b:
                self.held.set(value)
            else:
                yield {"same": self.held.get("nothing") == value and type(self.held.get()) is type(value)}

    job = processed(Keeps)
    job.send("in", row(b=True))
    crash(job)
    job.send("in", row(b=False))
    assert job.read("out") == [{"same": True}]


class Expiring(Processor):
    output = {"found": int}

    def __init__(self, clock="event"):
        self.clock = clock

    def open(self, ctx):
        self.held = ctx.state.value("held", int, ttl="10s", clock=self.clock)

    def process(self, row, ctx):
        if row.n is not None:
            self.held.set(row.n)
        elif row.x is not None:
            self.held.set(int(row.x), ttl=None)
        return {"found": self.held.get(-1)}


def test_a_value_is_gone_exactly_at_its_time():
    job = processed(Expiring)
    for t, n in [(0, 1), (9_999, None), (10_000, None), (20_000, 2), (25_000, 3), (34_999, None), (35_000, None)]:
        job.send("in", row("a", t, n=n))
    assert [out["found"] for out in job.read("out")] == [1, 1, -1, 2, 3, 3, -1]


def test_the_watermark_and_the_wall_clock_do_not_expire_what_a_record_can_see():
    job = processed(Expiring)
    job.send("in", row("a", 0, n=1))
    job.advance_processing_time(10**9)
    job.send("in", row("a", 9_999))
    crash(job)
    job.send("in", row("a", 9_999))
    job.send("in", row("a", 10_000))
    assert [out["found"] for out in job.read("out")] == [1, 1, 1, -1]


def test_a_ttl_by_the_wall_clock_is_exact_too():
    job = processed(Expiring("processing"))
    job.send("in", row("a", 0, n=1))
    for ms in (9_999, 1):
        job.advance_processing_time(ms)
        job.send("in", row("a", 10**6))
    assert [out["found"] for out in job.read("out")] == [1, 1, -1]


def test_without_ttl_a_value_is_permanent():
    job = processed(Expiring)
    job.send("in", row("a", 0, n=1))
    job.send("in", row("a", 1, x=7.0))
    job.advance_watermark("in", 10**8)
    job.send("in", row("a", 10**9))
    assert [out["found"] for out in job.read("out")] == [1, 7, 7]


class Collecting(Processor):
    output = {"held": str}

    def open(self, ctx):
        self.list = ctx.state.list("list", int, ttl="10s")
        self.map = ctx.state.map("map", str, int, ttl="10s")

    def process(self, row, ctx):
        if row.n is not None:
            self.list.append(row.n)
            self.map[row.s] = row.n
        return {"held": repr((list(self.list), len(self.list), self.map.items(), "a" in self.map))}


def test_each_element_of_a_list_or_map_has_a_time_to_live_of_its_own():
    job = processed(Collecting)
    for t, n, s in [(0, 1, "a"), (5_000, 2, "b"), (9_999, None, None), (10_000, None, None), (15_000, None, None)]:
        job.send("in", row("a", t, n=n, s=s))
        crash(job)
    assert [out["held"] for out in job.read("out")][2:] == [
        "([1, 2], 2, [('a', 1), ('b', 2)], True)",
        "([2], 1, [('b', 2)], False)",
        "([], 0, [], False)",
    ]


class Timed(Processor):
    """s: what to do; n: when."""

    output = Alert

    def process(self, row, ctx):
        clock = "processing" if row.b else "event"
        if row.s == "cancel":
            ctx.cancel_timer(row.n, name="t", clock=clock)
        else:
            ctx.set_timer(row.n, name="t", clock=clock)

    def on_timer(self, timer, ctx):
        assert (timer.timestamp, ctx.timestamp) == (timer.time, timer.time) or timer.clock == "processing"
        yield Alert(ctx.key, f"{timer.name}/{timer.clock}", timer.time)


def fired(job):
    return [(out["k"], out["at"]) for out in job.read("out")]


def test_timers_fire_by_time_then_key_bytes_and_once():
    job = processed(Timed)
    for k, n in [("é", 50), ("b", 50), ("a", 60), ("b", 50), ("a", 50)]:
        job.send("in", row(k, 1, s="set", n=n))
    job.advance_watermark("in", 49)
    assert fired(job) == []
    crash(job)
    job.advance_watermark("in", 60)
    assert fired(job) == [("a", 50), ("b", 50), ("é", 50), ("a", 60)]
    crash(job)
    job.advance_watermark("in", 100)
    assert fired(job) == []


def test_a_cancelled_timer_does_not_fire_and_one_in_the_past_waits_for_the_next_watermark():
    job = processed(Timed)
    job.advance_watermark("in", 100)
    job.send("in", row("a", 101, s="set", n=5))
    job.send("in", row("b", 101, s="set", n=200))
    job.send("in", row("b", 101, s="cancel", n=200))
    assert fired(job) == []
    job.advance_watermark("in", 300)
    assert fired(job) == [("a", 5)]


def test_overdue_timers_of_the_wall_clock_fire_at_once_after_a_restore():
    job = processed(Timed)
    job.send("in", row("a", 1, s="set", n=1_000, b=True))
    job.advance_watermark("in", 10**6)
    job.advance_processing_time(999)
    assert fired(job) == []
    job.checkpoint()
    job.clock.ms += 5_000
    job.crash_and_restore()
    assert fired(job) == [("a", 1_000)]


class Chained(Processor):
    output = Alert

    def process(self, row, ctx):
        ctx.set_timer(row.n, name="x")

    def on_timer(self, timer, ctx):
        yield Alert(ctx.key, timer.name, timer.time)
        if len(timer.name) < 3:
            ctx.set_timer(timer.time + 10, name=timer.name + "x")


def test_a_timer_set_during_an_advance_for_a_time_within_it_fires_in_it():
    job = processed(Chained)
    job.send("in", row("a", 0, n=10))
    job.send("in", row("b", 0, n=15))
    job.advance_watermark("in", 30)
    assert fired(job) == [("a", 10), ("b", 15), ("a", 20), ("b", 25), ("a", 30)]
    job.advance_watermark("in", 31)
    assert fired(job) == []


class Ticking(Processor):
    output = Alert

    def process(self, row, ctx):
        if row.b:
            ctx.cancel_timer(row.n, name="tick", every="10ms")
        else:
            ctx.set_timer(row.n, name="tick", every="10ms")

    def on_timer(self, timer, ctx):
        yield Alert(ctx.key, timer.name, timer.time)


def test_a_periodic_timer_that_was_missed_fires_once_and_keeps_its_grid():
    job = processed(Ticking)
    job.send("in", row("a", 0, n=7))
    seen = []
    for watermark in (7, 16, 17, 58, 66, 67):
        job.advance_watermark("in", watermark)
        seen.append([t for _, t in fired(job)])
        crash(job)
    assert [len(times) for times in seen] == [1, 0, 1, 1, 0, 1]
    assert all((t - 7) % 10 == 0 for times in seen for t in times)


class Knows(Processor):
    output = {"k": str, "timestamp": int, "watermark": int | None}
    outputs = {"odd": {"k": str}, "even": Alert}

    def open(self, ctx):
        self.records = ctx.metrics.counter("records")
        self.latest = ctx.metrics.gauge("latest")

    def process(self, row, ctx):
        self.records.inc()
        self.latest.set(row.t)
        ctx.emit({"k": ctx.key}, to="odd") if row.n % 2 else ctx.emit(Alert(ctx.key, "even"), to="even")
        ctx.emit({"k": ctx.key, "timestamp": ctx.timestamp, "watermark": ctx.watermark}, timestamp=7)


def test_what_the_context_knows_and_where_rows_go():
    job = processed(Knows, tags=["odd", "even"])
    job.send("in", row("a", 10, n=1))
    job.advance_watermark("in", 10)
    job.send("in", row("b", 11, n=2))
    assert job.read("out", timestamps=True) == [
        (7, {"k": "a", "timestamp": 10, "watermark": None}),
        (7, {"k": "b", "timestamp": 11, "watermark": 10}),
    ]
    assert (job.read("odd"), job.read("even", timestamps=True)) == ([{"k": "a"}], [(11, {"k": "b", "what": "even", "at": None})])
    assert (figures(job, "records"), figures(job, "latest")) == (2, 11)


class Batched(Processor):
    output = {"k": str, "n": int}

    def open(self, ctx):
        self.n = ctx.state.value("n", int)

    def process_batch(self, batch, ctx):
        keys = list(dict.fromkeys(ctx.keys))
        held = dict(zip(keys, self.n.get_many(keys, default=0), strict=True))
        out = []
        for key in ctx.keys:
            held[key] += 1
            out.append(held[key])
        self.n.set_many(keys, [held[key] for key in keys])
        return pa.record_batch({"k": pa.array(ctx.keys), "n": pa.array(out)})


def test_process_batch_sees_many_keys():
    job = processed(Batched, parallelism=3)
    job.send_batch("in", [row(k, t) for t, k in enumerate("abab")])
    crash(job, parallelism=1)
    job.send_batch("in", [row(k, t) for t, k in enumerate("ba")])
    out = job.read("out", timestamps=True)
    assert sorted((t, r["k"], r["n"]) for t, r in out) == sorted(
        [(0, "a", 1), (1, "b", 1), (2, "a", 2), (3, "b", 2), (0, "b", 3), (1, "a", 3)]
    )
    assert job.state("p") == {"a": {"n": 3}, "b": {"n": 3}}


class Spread(Processor):
    output = {"k": str, "start": int, "end": int, "n": int, "xs": list[float]}

    def open(self, ctx):
        self.windows = ctx.state.value("windows", int)

    def process_window(self, key, window, rows, ctx):
        self.windows.set((self.windows.get() or 0) + 1)
        yield {"k": key, "start": window.start, "end": window.end, "n": self.windows.get(), "xs": [row.x for row in rows]}


def test_process_window_gets_the_rows_in_the_order_they_came():
    job = processed(Spread, window=tumbling("1s"), tags=["late"])
    for k, t, x in [("a", 500, 1.0), ("a", 100, 2.0), ("b", 0, 3.0), ("a", 1_000, 4.0)]:
        job.send("in", row(k, t, x=x))
    crash(job)
    job.advance_watermark("in", 999)
    job.send("in", row("a", 999))
    assert job.read("out", timestamps=True) == [
        (999, {"k": "a", "start": 0, "end": 1_000, "n": 1, "xs": [1.0, 2.0]}),
        (999, {"k": "b", "start": 0, "end": 1_000, "n": 1, "xs": [3.0]}),
    ]
    assert [out["t"] for out in job.read("late")] == [999]
    job.end()
    assert [out["n"] for out in job.read("out")] == [2]


class Failing(Processor):
    output = {"n": int}

    def open(self, ctx):
        self.seen = ctx.state.value("seen", int)

    def process(self, row, ctx):
        self.seen.set((self.seen.get() or 0) + 1)
        yield {"n": 10 // row.n}


def test_a_processor_that_raises():
    job = processed(Failing)
    with pytest.raises(UserCodeError, match="ZeroDivisionError") as raised:
        job.send("in", row("a", n=0))
    assert raised.value.operator == "p"
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    job = processed(Failing, errors="skip")
    for n in (0, 5):
        job.send("in", row("a", n=n))
    assert (job.read("out"), figures(job, "errors")) == ([{"n": 2}], 1)


def test_dead_letters_of_a_processor():
    topology = Topology("job")
    rows = topology.stream(memory("in", schema={"k": str, "n": int}))
    rows.key_by("k").process(Failing, name="p", errors=dead_letter(memory("dead"))).to(memory("out"))
    job = TopologyTestDriver(topology)
    for n in (0, 5):
        job.send("in", {"k": "a", "n": n}, timestamp=3)
    [letter] = job.read("dead")
    assert (job.read("out"), letter["operator"], letter["topic"], letter["offset"]) == ([{"n": 2}], "p", "in", 0)
    assert "ZeroDivisionError" in letter["error"]
    assert b'"n": 0' in letter["value"]


def test_a_processor_says_what_is_missing():
    class Silent(Processor):
        def process(self, row, ctx):
            return None

    with pytest.raises(TopologyError, match="output"):
        processed(Silent)
    with pytest.raises(TopologyError, match="key_by"):
        driver(lambda rows: rows.process(Failing))
    with pytest.raises(TopologyError, match="process_window"):
        processed(Failing, window=tumbling("1s"))
    with pytest.raises(TopologyError, match="not an operator"):
        driver(lambda rows: rows.key_by("k").process(lambda row: row))


class Quiet(Processor):
    """Cancels and sets a timer with each record."""

    output = Alert

    def open(self, ctx):
        self.due = ctx.state.value("due", int)

    def process(self, row, ctx):
        if self.due.get() is not None:
            ctx.cancel_timer(self.due.get())
        self.due.set(ctx.timestamp + 10)
        ctx.set_timer(ctx.timestamp + 10)

    def on_timer(self, timer, ctx):
        self.due.clear()
        return Alert(ctx.key, "quiet", timer.time)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=25), st.integers(0, 25), st.integers(1, 3))
def test_timers_answer_as_a_dict_of_deadlines_does(steps, restore, parallelism):
    job, now, due, expected = processed(Quiet, parallelism=parallelism), 0, {}, []
    for i, (k, step) in enumerate(steps):
        if i == restore:
            crash(job, 4 - parallelism)
        now += step
        job.advance_watermark("in", now - 1)
        expected += sorted((at, k) for k, at in due.items() if at < now)
        due = {k: at for k, at in due.items() if at >= now}
        job.send("in", row(k, now))
        due[k] = now + 10
    job.end()
    expected += sorted((at, k) for k, at in due.items())
    assert sorted((out["at"], out["k"]) for out in job.read("out")) == sorted(expected)
