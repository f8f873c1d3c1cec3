"""Which windows hold a moment, many windows at once, and windows of all rows."""

from hypothesis import given
from hypothesis import strategies as st

from streamdsl import Topology, count, memory, tumbling
from streamdsl._native.windows.assign import is_open, windows_at
from streamdsl.testing import TopologyTestDriver
from tests.windows.jobs import SCHEMA, bounds
from tests.windows.model import HIGH, LOW, Hopping


def counted(*keys):
    topology = Topology("job")
    stream = topology.stream(memory("in", schema=SCHEMA), timestamp="t", watermarks="external")
    bounds(stream.key_by(*keys).window(tumbling(10)).aggregate(n=count())).to(memory("out"))
    return TopologyTestDriver(topology)


def test_many_windows_come_out_in_small_batches():
    driver = counted("k")
    driver.send_batch("in", [{"k": "a", "t": time, "n": 0} for time in range(0, 100_000, 10)])
    driver.advance_watermark("in", 99_989)
    assert [(out["ws"], out["n"]) for out in driver.read("out")] == [(time, 1) for time in range(0, 99_990, 10)]


def test_without_key_columns_all_rows_have_one_key():
    driver = counted()
    driver.send_batch("in", [{"k": key, "t": time, "n": 0} for key, time in (("a", 1), ("b", 2), (None, 11))])
    driver.end()
    assert driver.read("out") == [{"n": 2, "ws": 0, "we": 10}, {"n": 1, "ws": 10, "we": 20}]


@given(st.integers(-1000, 1000), st.integers(1, 40), st.integers(1, 40), st.integers(-50, 50))
def test_assigned_windows_hold_the_moment(time, size, every, offset):
    every = min(size, every)
    assert windows_at(time, size, every, offset) == list(Hopping(size, every, offset).bounds(time))


def test_assignment_saturates_at_the_ends_of_time():
    assert windows_at(HIGH, 10, 10) == [(HIGH - 7, HIGH)]
    assert windows_at(LOW + 3, HIGH, HIGH, LOW) != []
    assert is_open(HIGH, 5, HIGH - 1)
    assert not is_open(HIGH, 5, HIGH)
    assert not is_open(10, 0, 9)
    assert is_open(10, 0, 8)
