"""Ticks of the wall clock as a source."""

import time

import pytest

from streamdsl import Config, Topology, TopologyError, TwoInputProcessor, memory
from streamdsl.testing import TopologyTestDriver


def test_ticks_come_on_their_grid():
    topology = Topology("t")
    topology.every("10s").to(memory("out"))
    driver = TopologyTestDriver(topology, start_ms=3_000)
    driver.advance_processing_time(6_999)
    assert driver.read("out") == []
    driver.advance_processing_time(1)
    driver.advance_processing_time(10_000)
    # Missed several times: once.
    driver.advance_processing_time(35_000)
    found = driver.read("out", timestamps=True)
    assert [(at, row["n"], int(row["time"].timestamp())) for at, row in found] == [(10_000, 1, 10), (20_000, 2, 20), (50_000, 5, 50)]


class Flush(TwoInputProcessor):
    """Counts rows, and tells how many when a tick comes."""

    output = {"n": int}

    def open(self, ctx):
        self.count = ctx.state.value("count", int)

    def process_left(self, row, ctx):
        self.count.set(self.count.get(0) + 1)

    def process_right(self, row, ctx):
        yield {"n": self.count.get(0)}
        self.count.clear()


def test_ticks_drive_a_processor_and_hold_nobody_back():
    topology = Topology("t")
    rows = topology.stream(memory("rows", {"x": int})).key_by()
    rows.connect(topology.every("1m", name="clock").key_by()).process(Flush).to(memory("out"))
    driver = TopologyTestDriver(topology, parallelism=2)
    for _ in range(3):
        driver.send("rows", {"x": 1}, timestamp=1)
    driver.advance_processing_time(60_000)
    driver.checkpoint()
    driver.crash_and_restore(parallelism=1)
    driver.send("rows", {"x": 1}, timestamp=1)
    driver.advance_processing_time(60_000)
    assert driver.read("out") == [{"n": 3}, {"n": 1}]


def test_a_job_ticks_by_the_clock(tmp_path):
    topology = Topology("t")
    sink = memory("out")
    topology.every(20).to(sink)
    with topology.start(Config(state_dir=str(tmp_path / "state"))) as run:
        until = time.monotonic() + 30
        while len(sink.rows()) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        run.stop()
    numbers = [row["n"] for row in sink.rows()]
    assert len(numbers) >= 3
    assert numbers == sorted(set(numbers))
    assert all(int(row["time"].timestamp() * 1000) == row["n"] * 20 for row in sink.rows())


def test_what_cannot_be_is_refused():
    with pytest.raises(TopologyError, match="every"):
        Topology("t").every("soon")
    with pytest.raises(TopologyError, match="every"):
        Topology("t").every(0)
    topology = Topology("t")
    topology.every("10s")
    with pytest.raises(TopologyError, match="two sources are called 'every 10s'"):
        topology.every("10s")
