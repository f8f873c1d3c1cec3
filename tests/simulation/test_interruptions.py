"""Whatever comes in between (crash, stop, drain, failing storage, channels of one batch, idle splits) does not show in the results."""

from __future__ import annotations

import pytest

from streamdsl import Topology, col, count, expanding, memory
from streamdsl.testing import reference
from tests.simulation.harness import SCHEMA, by_key, random_rows
from tests.simulation.interruptions import Interrupted
from tests.simulation.test_promises import SEEDS, equal_by_key, equal_multiset, equal_records, frames, stream, timers, windows


def numbers(rows):
    """Number the records of each key: a lost or repeated one shows in all that follow."""
    return rows.key_by("key").with_columns(n=count().over(expanding()), total=col("x").sum().over(expanding()), before=col("city").lag())


def numbered():
    topology = Topology("numbered")
    numbers(stream(topology)).to(memory("out"), name="out")
    return topology


def two_sources():
    """Two streams, merged before the key: channels from several tasks, watermarks of both."""
    topology = Topology("two")
    left = topology.stream(memory("left", schema=SCHEMA), timestamp="at", disorder="20ms")
    right = topology.stream(memory("right", schema=SCHEMA), timestamp="at", disorder="20ms")
    numbers(left.merge(right)).to(memory("out"), name="out")
    return topology


def diamond():
    """One stream, exchanged by two keys one after another, and once directly; both ways meet in one task."""
    topology = Topology("diamond")
    source = stream(topology)
    by_city = source.key_by("city").with_columns(m=count().over(expanding())).select("key", "at", "x", "city")
    numbers(by_city.merge(source.select("key", "at", "x", "city"))).select("key", "n").to(memory("out"), name="out")
    return topology


def equal_numbers(expected, found):
    """The diamond gives each key's numbers 1, 2, 3 …, whatever the interleaving of its two ways."""
    assert sorted((row["key"], row["n"]) for _, row in found) == sorted((row["key"], row["n"]) for _, row in expected)


CASES = {
    "numbered": (numbered, equal_by_key),
    "two sources": (two_sources, equal_by_key),
    "diamond": (diamond, equal_numbers),
    "frames": (frames, equal_by_key),
    "windows": (windows, equal_multiset),
    "timers": (timers, equal_records),
}


def rows_of(topology, seed):
    """Rows for each source; a key stands in one of them."""
    rows = {name: random_rows(seed + 7919 * i, n=20 + seed * 7 % 200) for i, name in enumerate(topology.sources())}
    return {name: [{**row, "key": f"{name}-{row['key']}"} for row in own] for name, own in rows.items()}


def compared(case, seed, **options):
    make, equal = CASES[case]
    rows = rows_of(make(), seed)
    simulation = Interrupted(make(), rows, seed, **options)
    found = simulation.run()["out"]
    try:
        equal(reference(make(), rows)["out"], found)
    except AssertionError as error:
        raise AssertionError(f"{case}: {simulation!r}: {simulation.story}") from error
    return simulation


@pytest.mark.parametrize("case", CASES)
def test_stops_and_crashes_over_narrow_channels(case):
    resumed = sum(bool(compared(case, seed, crashes=4).resumed) for seed in range(SEEDS))
    assert resumed > SEEDS // 2, "the test has lost its power"


@pytest.mark.parametrize("case", CASES)
def test_a_storage_that_fails_now_and_then(case):
    simulations = [compared(case, seed, crashes=4, failing=0.15) for seed in range(SEEDS)]
    assert sum(simulation.failures.count for simulation in simulations) > SEEDS, "the test has lost its power"
    assert sum(bool(simulation.resumed) for simulation in simulations) > SEEDS // 2, "the test has lost its power"


@pytest.mark.parametrize("case", ["numbered", "two sources", "diamond"])
def test_idle_splits(case):
    """Idleness may make records late, but not for those who do not ask the time."""
    for seed in range(SEEDS):
        compared(case, seed, idle=True)


@pytest.mark.parametrize("make", [numbered, two_sources])
def test_a_drain_takes_what_was_read_as_the_end(make):
    """What comes out is, for each key, the beginning of what would have come; and the job has finished."""
    shorter = 0
    for seed in range(SEEDS):
        rows = rows_of(make(), seed)
        expected = by_key(reference(make(), rows)["out"])
        found = by_key(Interrupted(make(), rows, seed, crashes=2, drain=True, failing=0.1).run()["out"])
        for key, own in found.items():
            assert own == expected[key][: len(own)], f"seed {seed}"
        shorter += found != expected
    assert shorter > SEEDS // 4, "the test has lost its power"


def test_the_same_seed_gives_the_same_run():
    rows = rows_of(frames(), 9)
    first, second = (Interrupted(frames(), rows, 9, failing=0.3).trace for _ in range(2))
    assert first == second
