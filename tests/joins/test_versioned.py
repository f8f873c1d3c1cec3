"""A table whose rows are kept by time: a stream meets the row of its own time, in whatever order both arrive."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Config, Topology, TopologyError, col, memory
from streamdsl.testing import TopologyTestDriver

ORDERS = {"k": str, "at": int, "n": int}
RATES = {"k": str, "rate": int | None}
DATED = {**RATES, "at": int}
TIME = st.integers(0, 12)
EVENTS = st.lists(st.tuples(st.just("orders"), st.sampled_from("ab"), TIME) | st.tuples(st.sampled_from("ab"), TIME, st.none() | TIME))


def job(how="left", versioned="1h"):
    topology = Topology("t")
    rates = topology.table(memory("rates", RATES), key="k", versioned=versioned)
    orders = topology.stream(memory("orders", ORDERS), timestamp="at", watermarks="external")
    orders.join(rates, on="k", how=how).to(memory("out"))
    return topology


def as_of(versions, key, time):
    """The last version by time, of equal times the one that arrived last."""
    seen = [(at, number, rate) for number, (name, at, rate) in enumerate(versions) if name == key and at <= time]
    return max(seen)[2] if seen else None


@settings(max_examples=80, deadline=None)
@given(EVENTS, st.sampled_from(["inner", "left"]), st.sampled_from([1, 3]), st.integers(0, 20))
def test_a_record_meets_the_row_of_its_time(events, how, parallelism, crash_at):
    """A table keeps the last row by arrival; `versioned=` keeps them by time."""
    driver = TopologyTestDriver(job(how), parallelism=parallelism)
    versions, expected, found = [], [], []
    for number, event in enumerate(events):
        if number == crash_at:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=4 - parallelism)
        if event[0] == "orders":
            rate = as_of(versions, *event[1:])
            driver.send("orders", {"k": event[1], "at": event[2], "n": number})
            if rate is not None or how == "left":
                expected.append((number, rate))
        else:
            versions.append(event)
            driver.send("rates", {"k": event[0], "rate": event[2]}, timestamp=event[1])
        found += [(row["n"], row["rate"]) for row in driver.read("out")]
    assert found == expected


def test_versions_are_kept_as_long_as_said():
    driver = TopologyTestDriver(job(versioned=100))
    for at in range(0, 1_000, 10):
        driver.send("rates", {"k": "a", "rate": at}, timestamp=at)
        driver.advance_watermark("orders", at)
    for at in (995, 905, 890, 5):
        driver.send("orders", {"k": "a", "at": at, "n": at})
    # At 5 nothing is kept any more: nobody may wait longer than was said.
    assert [row["rate"] for row in driver.read("out")] == [990, 900, 890, None]
    assert next(one["expired"] for one in driver.metrics()["operators"].values() if "expired" in one) == 1


def test_the_table_itself_is_that_of_the_latest_time():
    topology = Topology("t")
    rates = topology.table(memory("rates", RATES), key="k", versioned="1h")
    rates.to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology)
    for at, rate in [(5, 1), (3, 2), (7, None), (6, 3), (7, 4), (2, None)]:
        driver.send("rates", {"k": "a", "rate": rate}, timestamp=at)
    assert [(row["op"], row["rate"]) for row in driver.read("out")] == [("add", 1), ("withdraw", 1), ("add", 4)]


def test_history_out_of_order_meets_what_was_true():
    rates = [{"k": "a", "at": at, "rate": at} for at in (50, 10, 30, 90)]
    orders = [{"k": "a", "at": at, "n": at} for at in (95, 35, 12, 60, 9)]
    topology = Topology("t")
    table = topology.table(memory("rates", DATED, rates), key="k", timestamp="at", versioned="1h", bootstrap=True)
    stream = topology.stream(memory("orders", ORDERS, orders), timestamp="at", disorder="1h")
    for parallelism in (1, 2):
        rows = stream.join(table, on="k", how="left").collect(Config(parallelism=parallelism)).to_pylist()
        assert {row["n"]: row["rate"] for row in rows} == {95: 90, 35: 30, 12: 10, 60: 50, 9: None}


def test_what_cannot_be_is_refused():
    topology = Topology("t")
    with pytest.raises(TopologyError, match=r'versioned=True does not say how long.*\n.*versioned="1d"'):
        topology.table(memory("a", RATES), key="k", versioned=True)
    with pytest.raises(TopologyError, match="do not go together"):
        topology.table(memory("b", RATES), key="k", versioned="1d", broadcast=True)
    rates = topology.table(memory("c", RATES), key="k", versioned="1d")
    orders = topology.stream(memory("orders", ORDERS), timestamp="at")
    with pytest.raises(TopologyError, match="rows computed from a versioned table"):
        orders.join(rates.filter(col("rate") > 1), on="k")
