"""Simulation: the same seed is the same run; everything that is left to chance happens; errors say where they come from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamdsl import DataError, Processor, Topology, TopologyError, UserCodeError, col, memory
from streamdsl.testing import Simulation, reference
from tests.testing import jobs

ROOT = Path(__file__).resolve().parents[2]
TRACE = """
import sys
from streamdsl.testing import Simulation
from tests.testing import jobs
for make in (jobs.frames, jobs.rules, jobs.sessions, jobs.two_sources):
    sys.stdout.write(Simulation(make, jobs.data(make()), seed=3).trace)
"""


@pytest.mark.parametrize("make", [jobs.frames, jobs.windows, jobs.table, jobs.sessions, jobs.two_sources], ids=lambda make: make.__name__)
def test_the_same_seed_is_the_same_run(make):
    data = jobs.data(make())
    for seed in range(4):
        first, again = Simulation(make, data, seed), Simulation(make(), data, seed)
        assert first.run() == again.run()
        assert first.trace == again.trace
        assert first.story == again.story
    assert Simulation(make, data, 0).trace != Simulation(make, data, 1).trace


def test_the_same_seed_is_the_same_run_in_another_process():
    def trace(hash_seed):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, "-c", TRACE], env=environment, cwd=ROOT, capture_output=True, check=True).stdout

    assert len(trace("1")) > 10_000
    assert trace("1") == trace("2")


def test_seeds_draw_everything():
    data = jobs.data(jobs.frames(), n=60)
    runs = [Simulation(jobs.frames, data, seed) for seed in range(40)]
    for run in runs:
        run.run()
    text = "\n".join("\n".join(run.story) for run in runs)
    assert all(f"parallelism {n}" in text for n in (1, 2, 3, 4))
    assert all(f"in in {n} split" in text for n in (1, 2, 3))
    assert {run.restores for run in runs} == {0, 1, 2}
    assert sum(bool(run.resumed) for run in runs) >= 20
    assert sum(len(run.resumed) > 1 for run in runs) >= 5
    assert len({run.trace.splitlines()[0] for run in runs}) > 30


def test_without_crashes_there_are_none():
    data = jobs.data(jobs.frames())
    for seed in range(5):
        run = Simulation(jobs.frames, data, seed, crashes=0)
        assert len(run.run()["out"]) == 76
        assert run.restores == 0
        assert "crash" not in run.trace


def test_a_trace_tells_what_reached_the_sinks():
    run = Simulation(jobs.stateless, jobs.data(jobs.stateless(), n=10), seed=2, crashes=0)
    written = [f"out {time} {row}" for time, row in run.run()["out"]]
    assert [line for line in run.trace.splitlines() if line.startswith("out ")] == written
    assert run.trace.startswith("source in: ")
    assert run.trace.rstrip().endswith("end")


def test_running_twice_is_running_once():
    run = Simulation(jobs.frames, jobs.data(jobs.frames()), 1)
    assert run.run() is run.run()


def test_rows_know_where_they_came_from_whatever_split_they_are_in():
    data = jobs.data(jobs.origin())
    for seed in range(5):
        for _, row in Simulation(jobs.origin, data, seed).run()["out"]:
            assert (row["topic"], row["partition"], row["offset"]) == ("in", 0, row["n"])


def test_no_rows_at_all():
    assert reference(jobs.windows, {"in": []}) == {"out": []}
    assert Simulation(jobs.windows, {"in": []}, 0).run() == {"out": []}


def test_rows_without_a_timestamp_column_have_the_times_of_their_places():
    topology = Topology("plain")
    topology.stream(memory("in", schema={"n": int})).to(memory("out"))
    data = {"in": [{"n": n} for n in (5, 6, 7)]}
    assert reference(topology, data)["out"] == [(0, {"n": 5}), (1, {"n": 6}), (2, {"n": 7})]
    assert sorted(Simulation(topology, data, 3).run()["out"]) == [(0, {"n": 5}), (1, {"n": 6}), (2, {"n": 7})]


def test_no_row_is_ahead_of_the_clock():
    topology = Topology("ahead")
    topology.stream(memory("in", schema={"at": int}), timestamp="at", max_ahead="1s").to(memory("out"))
    data = {"in": [{"at": 1_700_000_000_000}]}
    assert len(reference(topology, data)["out"]) == len(Simulation(topology, data, 1).run()["out"]) == 1


class Failing(Processor):
    output = {"n": int}

    def process(self, row, ctx):
        raise ValueError("no")


def test_an_error_says_in_which_run():
    topology = Topology("failing")
    topology.stream(memory("in", schema={"k": str})).key_by("k").process(Failing, name="failing").to(memory("out"))
    with pytest.raises(UserCodeError, match="ValueError") as caught:
        Simulation(topology, {"in": [{"k": "a"}]}, seed=11).run()
    assert "seed 11" in caught.value.__notes__[0]


def test_data_must_fit():
    with pytest.raises(TopologyError, match=r"rows for 'inn'.*\n.*did you mean 'in'"):
        Simulation(jobs.frames, {"inn": []}, 0)
    with pytest.raises(TopologyError, match="no rows for the source 'b'"):
        reference(jobs.two_sources, {"a": []})
    with pytest.raises(DataError, match="no column 'who'"):
        Simulation(jobs.frames, {"in": [{"who": "u"}]}, 0)
    with pytest.raises(TopologyError, match="not a topology"):
        Simulation(lambda: 3, {}, 0)


def test_a_source_that_nobody_reads_needs_no_rows():
    topology = Topology("half")
    topology.stream(memory("a", schema={"n": int})).select(m=col("n")).to(memory("out"))
    topology.stream(memory("b", schema={"n": int}))
    assert reference(topology, {"a": [{"n": 1}]}) == {"out": [(0, {"m": 1})]}
    assert Simulation(topology, {"a": [{"n": 1}]}, 1).run() == {"out": [(0, {"m": 1})]}
