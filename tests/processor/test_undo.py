"""A record that is skipped has left no trace in the operator that failed: the run is as if it had not been read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Processor, Topology, dead_letter, memory, tumbling
from streamdsl.testing import TopologyTestDriver

OUTPUT = {"what": str}
STEPS = ["set", "clear", "append", "extend", "relist", "put", "remove", "unmap", "emit", "timer", "cancel", "every", "count", "gauge"]


class Failed(Exception):
    """What a record fails with."""


class Doing(Processor):
    """Does what the row says, step by step; a row fails after its last step."""

    output = OUTPUT
    outputs = {"side": OUTPUT}
    ttl: str | None = None

    def open(self, ctx: Any) -> None:
        self.one = ctx.state.value("one", int, ttl=self.ttl)
        self.many = ctx.state.list("many", int, ttl=self.ttl)
        self.named = ctx.state.map("named", int, int, ttl=self.ttl)
        self.counter, self.gauge = ctx.metrics.counter("steps"), ctx.metrics.gauge("last")

    def do(self, step: str, n: int, ctx: Any) -> None:
        if step == "set":
            self.one.set(n)
        elif step == "clear":
            [self.one, self.many, self.named][n % 3].clear()
        elif step == "append":
            self.many.append(n)
        elif step == "extend":
            self.many.extend([n, n + 1])
        elif step == "relist":
            self.many.set([n] * (n % 3))
        elif step == "put":
            self.named.put(n % 4, n)
        elif step == "remove":
            self.named.remove(n % 4)
        elif step == "unmap" and n % 4 in self.named:
            del self.named[n % 4]
        elif step == "emit":
            ctx.emit({"what": f"side {n}"}, to="side")
        elif step == "timer":
            ctx.set_timer(ctx.timestamp + 7 * n, name=str(n % 2))
        elif step == "cancel":
            ctx.cancel_timer(ctx.timestamp + 7 * (n - 1), name=str(n % 2))
        elif step == "every" and n % 5 == 0:
            ctx.set_timer(ctx.timestamp, name="grid", every=20)
        elif step == "count":
            self.counter.inc(n)
        elif step == "gauge":
            self.gauge.set(n)

    def shown(self) -> str:
        return f"{self.one.get()} {self.many.get()} {self.named.items()}"

    def process(self, row: Any, ctx: Any) -> Any:
        for step, n in zip(row.steps.split(), range(row.n, row.n + 20), strict=False):
            self.do(step, n, ctx)
            yield {"what": f"{ctx.key} {step}"}
        if row.fails:
            raise Failed(row.n)
        yield {"what": self.shown()}

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        self.many.append(timer.time)
        ctx.emit({"what": f"timer {timer.name} of {ctx.key}: {self.shown()}"}, to="side")
        if timer.name == "1":
            self.one.set(-1)
            raise Failed(timer.time)
        return {"what": self.shown()}


class Fading(Doing):
    """The same with values that do not live long."""

    ttl = "15ms"


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from("ab"),
            "n": st.integers(0, 9),
            "steps": st.lists(st.sampled_from(STEPS), max_size=6).map(" ".join),
            "fails": st.booleans(),
            "at": st.integers(0, 60),
        }
    ),
    max_size=25,
)


def run(processor: type, rows: list[dict[str, Any]], cut: int) -> tuple[Any, ...]:
    """Return all that is to be seen of a run; after `cut` rows it crashes and goes on."""
    schema = {"k": str, "n": int, "steps": str, "fails": bool, "at": int}
    topology = Topology("undo", errors="skip")
    stream = topology.stream(memory("in", schema=schema), timestamp="at", watermarks="external")
    done = stream.key_by("k").process(processor, name="op")
    done.to(memory("out"))
    done.output("side").to(memory("side"))
    driver = TopologyTestDriver(topology)
    driver.send_batch("in", rows[:cut])
    driver.advance_watermark("in", 10)
    driver.checkpoint()
    figures = _own(driver.metrics())
    driver.crash_and_restore()
    driver.send_batch("in", rows[cut:])
    driver.advance_watermark("in", 40)
    state = driver.state("op")
    driver.end()
    return driver.read("out"), driver.read("side"), state, figures


def _own(metrics: Any) -> Any:
    found = [figures for task in metrics["tasks"] for name, figures in task["operators"].items() if name == "op"]
    return [{name: one.get(name) for name in ("steps", "last", "emitted", "timers_fired")} for one in found]


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 25), fading=st.booleans())
def test_a_run_with_failures_is_the_run_without_their_records(rows, cut, fading):
    processor = Fading if fading else Doing
    good = [row for row in rows if not row["fails"]]
    kept = sum(not row["fails"] for row in rows[:cut])
    assert run(processor, rows, cut) == run(processor, good, kept)


class Batches(Processor):
    """Counts the rows of each key; a batch with a 0 fails when it has counted."""

    output = {"n": int}

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state.value("seen", int)

    def process_batch(self, batch: Any, ctx: Any) -> None:
        for key, n in zip(ctx.keys, batch.column("n").to_pylist(), strict=True):
            self.seen.set_many([key], [(self.seen.get_many([key])[0] or 0) + 1])
            ctx.emit({"n": n}, key=key)
        if 0 in batch.column("n").to_pylist():
            raise Failed


def test_a_batch_that_fails_is_taken_back_as_a_whole():
    dead = memory("dead")
    topology = Topology("t")
    numbers = topology.stream(memory("in", schema={"k": str, "n": int}))
    numbers.key_by("k").process(Batches, name="op", errors=dead_letter(dead)).to(memory("out"))
    driver = TopologyTestDriver(topology)
    for batch in ([1, 2], [3, 0, 4], [5]):
        driver.send_batch("in", [{"k": "ab"[n % 2], "n": n} for n in batch])
    assert [row["n"] for row in driver.read("out")] == [1, 2, 5]
    assert driver.state("op") == {"a": {"seen": 1}, "b": {"seen": 2}}
    assert len(driver.read("dead")) == 3


class Windows(Processor):
    """Counts the windows of a key; those with an odd number of rows fail when they are counted."""

    output = {"windows": int}
    outputs = {"side": {"rows": int}}

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state.value("seen", int)

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        self.seen.set((self.seen.get() or 0) + 1)
        ctx.emit({"rows": len(rows)}, to="side")
        if len(rows) % 2:
            raise Failed
        return {"windows": self.seen.get()}


def test_a_window_that_fails_leaves_nothing():
    topology = Topology("t", errors="skip")
    numbers = topology.stream(memory("in", schema={"k": str, "at": int}), timestamp="at")
    windows = numbers.key_by("k").window(tumbling(10)).process(Windows, name="op")
    windows.to(memory("out"))
    windows.output("side").to(memory("side"))
    driver = TopologyTestDriver(topology)
    for at in (1, 2, 11, 21, 22, 31):
        driver.send("in", {"k": "a", "at": at})
    driver.end()
    assert [row["windows"] for row in driver.read("out")] == [1, 2]
    assert [row["rows"] for row in driver.read("side")] == [2, 2]


def test_a_reduce_that_fails_keeps_what_it_had():
    def add(so_far: Any, row: Any) -> Any:
        if row.n < 0:
            raise Failed
        return {"k": row.k, "n": so_far.n + row.n}

    topology = Topology("t", errors="skip")
    rows = [{"k": "a", "n": n} for n in (1, -1, 2, -2, 3)]
    numbers = topology.stream(memory("in", schema={"k": str, "n": int}, rows=rows))
    assert numbers.key_by("k").reduce(add).collect().column("n").to_pylist() == [1, 3, 6]


@pytest.mark.parametrize("fails", ["last", "each"])
def test_a_reduce_that_changes_what_it_is_given_keeps_what_it_had(fails):
    def add(so_far: Any, row: Any) -> Any:
        tags, sizes = so_far.tags, so_far["sizes"]
        tags.append(row.tags[0])
        sizes["n"] = row.n
        if row.n < 0:
            raise Failed
        return {"k": row.k, "n": row.n, "tags": tags, "sizes": sizes}

    schema = {"k": str, "n": int, "tags": list[str], "sizes": dict[str, int]}
    rows = [{"k": "a", "n": n, "tags": [str(n)], "sizes": {}} for n in ((1, -1, 2, -2, -3, 3) if fails == "each" else (1, 2, -3))]
    topology = Topology("t", errors="skip")
    topology.stream(memory("in", schema=schema)).key_by("k").reduce(add, name="op").to(memory("out"))
    driver = TopologyTestDriver(topology)
    for row in rows:
        driver.send("in", row)
    good = [row["n"] for row in rows if row["n"] > 0]
    assert driver.read("out")[-1]["tags"] == [str(n) for n in good]
    assert driver.state("op")["a"]["tags"] == [str(n) for n in good]
    assert dict(driver.state("op")["a"]["sizes"]) == {"n": good[-1]}


@pytest.mark.parametrize("answer", [None, 0, 1, "no", [], {"k": 1}])
@pytest.mark.parametrize("verb", ["filter", "branch"])
def test_a_condition_says_yes_or_no(verb, answer):
    from streamdsl import UserCodeError

    def apply(errors: Any) -> Any:
        rows = Topology("t").stream(memory("in", schema={"n": int}, rows=[{"n": 1}, {"n": 2}]))

        def said(row: Any) -> Any:
            return answer if row.n == 1 else True

        stream = rows.filter(said, errors=errors) if verb == "filter" else rows.branch(yes=said, errors=errors)["yes"]
        return stream.collect().column("n").to_pylist()

    with pytest.raises(UserCodeError, match="a condition is True or False"):
        apply(None)
    assert apply("skip") == [2]


def test_a_condition_may_say_it_in_numpy():
    numpy = pytest.importorskip("numpy")
    rows = Topology("t").stream(memory("in", schema={"n": int}, rows=[{"n": 1}, {"n": 2}]))
    assert rows.filter(lambda row: numpy.bool_(row.n > 1)).collect().num_rows == 1


async def _later(row: Any) -> Any:
    return row


CALLS = {"later": _later}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "use",
    [
        lambda s, f: s.filter(f),
        lambda s, f: s.peek(f),
        lambda s, f: s.map(f, schema={"n": int}),
        lambda s, f: s.flat_map(f, schema={"n": int}),
        lambda s, f: s.map_batches(f, schema={"n": int}),
        lambda s, f: s.branch(yes=f)["yes"],
    ],
)
def test_a_coroutine_that_comes_back_is_refused_and_closed(use):
    from streamdsl import UserCodeError

    rows = Topology("t").stream(memory("in", schema={"n": int}, rows=[{"n": 1}]))
    with pytest.raises(UserCodeError, match="a coroutine was returned"):
        use(rows, lambda row: CALLS["later"](row) or row).collect()
