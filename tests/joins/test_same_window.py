"""Joins of rows that lie in the same window: all pairs of a window, and what matches nothing when it closes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Config, Topology, TopologyError, hopping, memory, session, tumbling
from streamdsl.testing import TopologyTestDriver

LEFT = {"k": str | None, "at": int, "n": int}
RIGHT = {"k": str | None, "t": int, "m": int}
MOMENT = st.integers(-10, 30)
ROW = st.tuples(st.sampled_from(["left", "right"]), st.sampled_from(["a", "a", "b", None]), MOMENT)
STEP = ROW | st.tuples(st.just("W"), st.none(), MOMENT)
WINDOWS = st.sampled_from([(5, 5, 0), (10, 10, 3), (1, 1, 0), (6, 2, 0), (6, 3, 1)])


def job(window, how, grace=0):
    size, every, offset = window
    topology = Topology("t")
    left = topology.stream(memory("left", LEFT), timestamp="at", watermarks="external")
    right = topology.stream(memory("right", RIGHT), timestamp="t", watermarks="external")
    within = tumbling(size, offset=offset) if size == every else hopping(size, every, offset=offset)
    left.join(right, on="k", how=how, within=within, grace=grace).to(memory("out"))
    return topology


def windows_of(time, window):
    """Every [start, start + size) that holds the moment."""
    size, every, offset = window
    return [start for start in range(time - size + 1, time + 1) if (start - offset) % every == 0]


def expected(steps, window, how, grace):
    """Rows by window: a record is in each that is open (`W < end - 1 + grace`) when it comes."""
    kept, rows, mark = {}, [], -(2**63)
    number = 0
    for what, key, time in steps:
        if what == "W":
            mark = max(mark, time)
            continue
        number += 1
        if key is None:
            hops = len(windows_of(0, (window[0], window[1], 0)))
            rows += [(time, number, None) if what == "left" else (time, None, number)] * (hops if how in (what, "outer") else 0)
            continue
        for start in windows_of(time, window):
            if start + window[0] - 1 + grace > mark:
                kept.setdefault((key, start), {"left": [], "right": []})[what].append((number, time))
    for sides in kept.values():
        for n, t in sides["left"]:
            rows += [(max(t, u), n, m) for m, u in sides["right"]]
            rows += [(t, n, None)] if not sides["right"] and how in ("left", "outer") else []
        if not sides["left"] and how in ("right", "outer"):
            rows += [(u, None, m) for m, u in sides["right"]]
    return sorted(rows, key=repr)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(STEP, max_size=16),
    WINDOWS,
    st.sampled_from(["inner", "left", "right", "outer"]),
    st.sampled_from([0, 4]),
    st.sampled_from([1, 1, 3]),
    st.integers(0, 30),
)
def test_pairs_of_a_window(steps, window, how, grace, parallelism, crash_at):
    driver = TopologyTestDriver(job(window, how, grace), parallelism=parallelism)
    number = 0
    for place, (what, key, time) in enumerate(steps):
        if place == crash_at:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=4 - parallelism)
        if what == "W":
            driver.advance_watermark("left", time)
            driver.advance_watermark("right", time)
            continue
        number += 1
        row = {"k": key, "at": time, "n": number} if what == "left" else {"k": key, "t": time, "m": number}
        driver.send(what, row)
    driver.end()
    found = [(time, row["n"], row["m"]) for time, row in driver.read("out", timestamps=True)]
    assert sorted(found, key=repr) == expected(steps, window, how, grace)


def test_unmatched_rows_come_when_their_window_closes():
    driver = TopologyTestDriver(job((10, 10, 0), "left"))
    driver.send("left", {"k": "a", "at": 3, "n": 1})
    for mark, count in ((8, 0), (9, 1)):
        driver.advance_watermark("left", mark)
        driver.advance_watermark("right", mark)
        assert len(driver.read("out", timestamps=True)) == count


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_join_within_windows_in_a_run(parallelism):
    topology = Topology("t")
    left = topology.stream(memory("left", LEFT, [{"k": "a", "at": at, "n": at} for at in range(0, 100, 10)]), timestamp="at")
    right = topology.stream(memory("right", RIGHT, [{"k": "a", "t": at, "m": at} for at in (5, 38)]), timestamp="t")
    rows = left.join(right, on="k", within=tumbling(20)).collect(Config(parallelism=parallelism)).to_pylist()
    assert sorted((row["n"], row["m"]) for row in rows) == [(0, 5), (10, 5), (20, 38), (30, 38)]


def test_windows_that_cannot_be_are_refused():
    topology = Topology("t")
    left = topology.stream(memory("left", LEFT), timestamp="at")
    right = topology.stream(memory("right", RIGHT), timestamp="t")
    with pytest.raises(TopologyError, match=r"rows cannot be joined within session"):
        left.join(right, on="k", within=session("1m"))
    with pytest.raises(TopologyError, match="rows cannot be joined within hopping"):
        left.join(right, on="k", within=hopping("10s", "3s"))
    with pytest.raises(TopologyError, match="say the same"):
        left.join(right, on="k", within=tumbling("10s"), after="1s")
    with pytest.raises(TopologyError, match="let them begin less often"):
        left.join(right, on="k", within=hopping("1h", "1s"))
