"""The worked examples of docs/guide/testing.md; `test_guide.py` sees that they are the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.fraud.records import Transaction
from examples.fraud.topology import build
from streamdsl import Processor, Topology, memory, tumbling
from streamdsl.testing import TopologyTestDriver, assert_invariant
from streamdsl.testing.strategies import cuts, streams


def transaction(number, at, amount, city="Santiago", account="CL00000001"):
    return Transaction(number, account, at, amount, "CLP", "payment", city, "CL", "web", None)


HISTORY = [transaction(i, 1_000_000 * i, 1_000.0 + i % 3) for i in range(10)]
STOLEN = [
    transaction(10, 10_000_000, 1_001.0),
    transaction(11, 10_005_000, 1_002.0, city="Punta Arenas"),  # 2,000 km in five seconds
    transaction(12, 10_010_000, 9_000.0, city="Punta Arenas"),  # the third within a minute, and far too much
]


@pytest.mark.parametrize("rules", ["declared", "processors"])
def test_a_stolen_card_raises_each_alert_once(rules):
    driver = TopologyTestDriver(build(rules))
    driver.send_batch("transactions", HISTORY)
    assert driver.read("alerts") == []
    driver.checkpoint()
    driver.send_batch("transactions", STOLEN[:2])
    assert [alert["rule"] for alert in driver.read("alerts")] == ["GEO_IMPOSSIBLE"]
    driver.crash_and_restore(parallelism=3)
    driver.send("transactions", STOLEN[2])
    assert sorted(alert["rule"] for alert in driver.read("alerts")) == ["AMOUNT_ANOMALY", "VELOCITY"]


@pytest.mark.parametrize("rules", ["declared", "processors"])
def test_nothing_shows_in_the_alerts(rules):
    others = [transaction(100 + i, 400_000 * i, 2_000.0 + i % 7, account=f"CL{i % 5:08}") for i in range(1, 60)]
    both = sorted([*HISTORY, *STOLEN, *others], key=lambda one: one.event_time)
    assert_invariant(lambda: build(rules), {"transactions": both}, seeds=5)


AMOUNTS = {"amount": st.floats(1, 100), "city": st.sampled_from(["Arica", "Santiago", "Punta Arenas"])}


@settings(max_examples=10, deadline=None)
@given(streams(build, keys=2, columns={"transactions": AMOUNTS}))
def test_nothing_shows_in_the_alerts_of_any_stream(data):
    assert_invariant(build, data, seeds=2)


def visits():
    topology = Topology("visits")
    visits = topology.stream(memory("visits", schema={"page": str, "at": int}), timestamp="at", disorder="2s")
    counts = visits.key_by("page").window(tumbling("10s"), grace="5s").count()
    counts.to(memory("counts"), name="counts")
    counts.output("late").to(memory("late"), name="late")
    return topology


def test_a_window_takes_late_visits_until_its_grace_is_over():
    driver = TopologyTestDriver(visits())
    driver.send("visits", {"page": "home", "at": 1_000})
    driver.send("visits", {"page": "home", "at": 16_000})  # the watermark is 13,999: the window is over, its grace is not
    driver.send("visits", {"page": "home", "at": 9_000})
    assert driver.read("counts") == []
    driver.send("visits", {"page": "home", "at": 17_000})  # 14,999: now it is
    assert [row["count"] for row in driver.read("counts")] == [2]
    driver.send("visits", {"page": "home", "at": 9_999})
    assert driver.read("late") == [{"page": "home", "at": 9_999}]
    driver.end()
    assert [row["count"] for row in driver.read("counts")] == [2]


VISITS = [{"page": page, "at": 900 * i - i % 3 * 600} for i, page in enumerate("abcab" * 12)]


@settings(max_examples=10, deadline=None)
@given(cuts(len(VISITS)), st.integers(1, 4))
def test_cuts_do_not_show(batches, parallelism):
    driver = TopologyTestDriver(visits(), parallelism=parallelism)
    for batch in batches:
        driver.send_batch("visits", VISITS[batch])
    driver.end()
    assert sum(row["count"] for row in driver.read("counts")) == len(VISITS)


@settings(max_examples=10, deadline=None)
@given(streams(visits))
def test_nothing_shows_in_the_counts(data):
    assert_invariant(visits, data, seeds=2)


class Sessions(Processor):
    """A row for each session: visits of a user of which no two neighbours are half an hour apart."""

    output = {"user": str, "begin": int, "end": int, "visits": int}
    gap = 30 * 60_000

    def open(self, ctx):
        self.times = ctx.state.list("times", int)

    def process(self, row, ctx):
        self.times.set([*self.times.get(), ctx.timestamp])
        ctx.set_timer(ctx.timestamp + self.gap)

    def on_timer(self, timer, ctx):
        # All visits up to timer.time are here; later ones may be here, or not: they must not count.
        times = sorted(self.times.get())
        over = [time for time in times if time <= timer.time - self.gap]
        if over and not any(timer.time - self.gap < time <= timer.time for time in times):
            self.times.set([time for time in times if time > timer.time])
            yield {"user": ctx.key, "begin": over[0], "end": over[-1], "visits": len(over)}


def sessions(processor=Sessions):
    topology = Topology("sessions")
    visits = topology.stream(memory("visits", schema={"user": str, "at": int}), timestamp="at", disorder="1m")
    visits.key_by("user").process(processor, name="sessions").to(memory("sessions"), name="sessions")
    return topology


MINUTE = 60_000


def test_a_session_ends_after_half_an_hour():
    driver = TopologyTestDriver(sessions())
    for minute in (0, 20, 45):
        driver.send("visits", {"user": "ann", "at": minute * MINUTE})
    driver.checkpoint()
    driver.crash_and_restore()
    driver.advance_watermark("visits", 75 * MINUTE - 1)
    assert driver.read("sessions") == []
    driver.advance_watermark("visits", 75 * MINUTE)
    assert driver.read("sessions", timestamps=True) == [
        (75 * MINUTE, {"user": "ann", "begin": 0, "end": 45 * MINUTE, "visits": 3}),
    ]
    assert driver.state("sessions") == {}


# Four visits nine minutes apart, then a pause; some of them up to forty seconds early, a minute is allowed.
EVENINGS = {"visits": [{"user": "ab"[i % 2], "at": (9 * i + i // 4 * 31) * MINUTE - i % 3 * 20_000} for i in range(60)]}


def test_nothing_shows_in_the_sessions():
    assert_invariant(sessions, EVENINGS)


class Forgetful(Sessions):
    """As above, but what it knows is in an attribute: a crash takes it, and no test of one run sees that."""

    def open(self, ctx):
        self.known = {}

    def process(self, row, ctx):
        self.known.setdefault(ctx.key, []).append(ctx.timestamp)
        ctx.set_timer(ctx.timestamp + self.gap)

    def on_timer(self, timer, ctx):
        times = self.known.get(ctx.key, [])
        over = [time for time in times if time <= timer.time - self.gap]
        if over and not any(timer.time - self.gap < time <= timer.time for time in times):
            self.known[ctx.key] = [time for time in times if time > timer.time]
            yield {"user": ctx.key, "begin": min(over), "end": max(over), "visits": len(over)}


def test_a_forgetful_processor_is_found_out():
    with pytest.raises(AssertionError, match="does not keep P1"):
        assert_invariant(lambda: sessions(Forgetful), EVENINGS)
