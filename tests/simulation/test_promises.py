"""P1 to P4 of the guide's "What results depend on": any cut, order, parallelism, snapshot position and crash."""

import os

import pyarrow as pa
import pytest

from streamdsl import Processor, Topology, col, count, expanding, lit, memory, rolling, tumbling
from streamdsl.testing import Simulation, reference
from tests.simulation.harness import SCHEMA, by_key, multiset, random_rows

#: Seeds for each topology; `make simulate SEEDS=…` takes more.
SEEDS = int(os.environ.get("STREAMDSL_SEEDS", "300")) // 5


def stream(topology):
    return topology.stream(memory("in", schema=SCHEMA), timestamp="at", disorder="20ms")


def frames():
    topology = Topology("frames")
    keyed = stream(topology).key_by("key")
    keyed.with_columns(
        n=count().over(rolling("30ms")),
        total=col("x").sum().over(expanding()),
        spread=col("x").std().over(expanding(exclude_current=True)),
        before=col("city").lag(),
    ).to(memory("out"), name="out")
    return topology


def branches():
    topology = Topology("branches")
    keyed = stream(topology).key_by("key")
    many = keyed.with_columns(n=count().over(rolling("50ms"))).filter(col("n") >= 2).select("key", "at", "n")
    moved = keyed.with_columns(before=col("city").lag()).filter(col("before") != col("city")).select("key", "at", n=lit(0))
    many.merge(moved).to(memory("out"), name="out")
    return topology


def windows():
    topology = Topology("windows")
    (
        stream(topology)
        .key_by("city")
        .window(tumbling("25ms"))
        .aggregate(n=count(), low=col("x").min(), high=col("x").max(), kinds=col("key").n_unique())
        .to(memory("out"), name="out")
    )
    return topology


def table():
    topology = Topology("table")
    stream(topology).key_by("key").aggregate(n=count(), last=col("city").last()).to(memory("out"), name="out")
    return topology


class Quiet(Processor):
    """Says so 60 ms after the last record of a key."""

    output = pa.schema([("key", pa.string()), ("seen", pa.int64()), ("due", pa.int64())])

    def open(self, ctx):
        self.seen = ctx.state.value("seen", int)
        self.due = ctx.state.value("due", int)

    def process(self, row, ctx):
        if self.due.get() is not None:
            ctx.cancel_timer(self.due.get(), name="quiet")
        due = max(ctx.timestamp + 60, self.due.get() or 0)
        self.seen.set((self.seen.get() or 0) + 1)
        self.due.set(due)
        ctx.set_timer(due, name="quiet")
        yield {"key": ctx.key, "seen": self.seen.get(), "due": 0}

    def on_timer(self, timer, ctx):
        yield {"key": ctx.key, "seen": 0, "due": timer.time}


def timers():
    topology = Topology("timers")
    stream(topology).key_by("key").process(Quiet()).to(memory("out"), name="out")
    return topology


def equal_multiset(expected, found):
    assert multiset(found) == multiset(expected)


def equal_by_key(expected, found):
    assert by_key(found) == by_key(expected)


def equal_records(expected, found):
    """What records emit is fixed; a timer may or may not see the next record, so only its last firing is."""

    def records(rows):
        return by_key([(time, row) for time, row in rows if row["due"] == 0])

    def last_firings(rows):
        last = {}
        for _, row in rows:
            if row["due"]:
                last[row["key"]] = max(row["due"], last.get(row["key"], 0))
        return last

    assert records(found) == records(expected)
    assert last_firings(found) == last_firings(expected)


def equal_after_applying(expected, found):
    def applied(rows):
        return {row["key"]: (row["n"], row["last"]) for _, row in rows}

    assert applied(found) == applied(expected)


CASES = {
    "P1 windows": (windows, equal_multiset),
    "P2 frames": (frames, equal_by_key),
    "P2 merged branches": (branches, equal_by_key),
    "P3 table": (table, equal_after_applying),
    "P4 timers": (timers, equal_records),
}


@pytest.mark.parametrize("case", CASES)
def test_the_seed_does_not_show(case):
    make, equal = CASES[case]
    from_checkpoint = 0
    for seed in range(SEEDS):
        rows = {"in": random_rows(seed, n=20 + seed * 7 % 300)}
        expected = reference(make(), rows)["out"]
        simulation = Simulation(make(), rows, seed)
        found = simulation.run()["out"]
        try:
            equal(expected, found)
        except AssertionError as error:
            raise AssertionError(f"{case}: seed {seed} (restores: {simulation.restores})") from error
        from_checkpoint += bool(simulation.resumed)
    assert from_checkpoint >= SEEDS // 2, "too few runs went on from a checkpoint: the test has lost its power"


def test_the_same_seed_gives_the_same_run():
    rows = {"in": random_rows(5, n=60)}
    assert Simulation(frames(), rows, 5).run() == Simulation(frames(), rows, 5).run()


def test_a_crash_before_the_first_checkpoint_begins_anew():
    rows = {"in": random_rows(1, n=30)}
    simulation = Simulation(frames(), rows, seed=1, crashes=5)
    assert multiset(simulation.run()["out"]) == multiset(reference(frames(), rows)["out"])
