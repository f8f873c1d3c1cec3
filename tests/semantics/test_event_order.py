"""Several sources of one job are read in event time: bounded ones together, live ones within `max_drift`."""

import bisect
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streamdsl import Config, Processor, Schema, Topology, count, files, memory, tumbling
from streamdsl._native.event_time.read_order import ReadOrder
from streamdsl.connectors.base import END, Chunk, End, Json, Source, SplitReader, no_metadata
from streamdsl.testing import Simulation, TopologyTestDriver, assert_invariant

MERGED = {"customer": int, "at": int, "amount": int | None, "state": str | None}


class Enriched(Processor):
    """Gives each transaction the state that its customer was in."""

    output = {"customer": int, "amount": int, "state": str | None}

    def open(self, ctx):
        self.state = ctx.state.value("state", str)

    def process(self, row, ctx):
        if row.state is not None:
            self.state.set(row.state)
        else:
            yield {"customer": row.customer, "amount": row.amount, "state": self.state.get()}


def enrichment(transactions: Any, changes: Any, **options: Any) -> Topology:
    """Return the topology that the builder's errors advise: merge the streams and write a Processor."""
    topology = Topology("enrichment")
    paid = topology.stream(transactions, timestamp="at", name="transactions", **options)
    changed = topology.stream(changes, timestamp="at", name="changes", **options)
    paid = paid.map(lambda row: {"customer": row.customer, "at": row.at, "amount": row.amount, "state": None}, schema=MERGED)
    changed = changed.map(lambda row: {"customer": row.customer, "at": row.at, "amount": None, "state": row.state}, schema=MERGED)
    paid.merge(changed).key_by("customer").process(Enriched, name="enriched").to(memory("out"), name="out")
    return topology


def as_of(changes: Sequence[Mapping[str, Any]]):
    """Return a function from a customer and a time to the state just before it."""
    times: dict[int, list[int]] = {}
    states: dict[int, list[str]] = {}
    for change in changes:
        times.setdefault(change["customer"], []).append(change["at"])
        states.setdefault(change["customer"], []).append(change["state"])

    def state(customer: int, at: int) -> str | None:
        n = bisect.bisect_left(times.get(customer, []), at)
        return states[customer][n - 1] if n else None

    return state


def made(customers: int, n: int, n_changes: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    draw = random.Random(customers)
    transactions = [{"customer": draw.randrange(customers), "at": 10 * i, "amount": i} for i in range(n)]
    times = sorted(draw.randrange(10 * n) for _ in range(n_changes))
    changes = [{"customer": draw.randrange(customers), "at": at, "state": f"s{i}"} for i, at in enumerate(times)]
    return transactions, changes


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n")
    return str(path)


@pytest.mark.parametrize("n_changes", [1_000, 50_000])
@pytest.mark.parametrize("parallelism", [1, 2])
def test_an_enrichment_sees_what_was_true_at_the_time(tmp_path, parallelism, n_changes):
    transactions, changes = made(100, 100_000, n_changes)
    out = memory("out")
    topology = enrichment(
        files(written(tmp_path / "transactions.csv", transactions), {"customer": int, "at": int, "amount": int}),
        files(written(tmp_path / "changes.csv", changes), {"customer": int, "at": int, "state": str}),
    )
    run = topology.start(Config(parallelism=parallelism, state_dir=tmp_path / "state"), bind={"out": out})
    run.wait()
    truth = as_of(changes)
    rows = out.rows()
    assert len(rows) == len(transactions)
    wrong = [row for row in rows if row["state"] != truth(row["customer"], transactions[row["amount"]]["at"])]
    assert wrong == []
    # Records that interleave one by one do not make batches of one.
    assert max(task["batches"] for task in run.metrics()["tasks"]) < len(rows) / 50


def test_of_equal_times_the_source_that_was_declared_first_comes_first():
    for swap in (False, True):
        topology = Topology("ties")
        names = ["a", "b"][:: -1 if swap else 1]
        rows = [{"k": "x", "at": i // 3, "n": i} for i in range(60)]
        streams = {name: topology.stream(memory(name, {"k": str, "at": int, "n": int}, rows=rows), timestamp="at") for name in names}
        tagged = [streams[name].with_columns(source=streams[name]._node.rank) for name in "ab"]
        found = tagged[0].merge(tagged[1]).select("at", "source", "n").collect().to_pylist()
        assert found == sorted(found, key=lambda row: (row["at"], row["source"], row["n"]))


ROW = {"k": str, "at": int, "n": int}


class Arrivals(Processor):
    """Numbers what arrives of each key."""

    output = {"k": str, "n": int, "i": int}

    def open(self, ctx):
        self.i = ctx.state.value("i", int)

    def process(self, row, ctx):
        self.i.set(self.i.get(0) + 1)
        yield {"k": row.k, "n": row.n, "i": self.i.get()}


def arrivals(sources: Mapping[str, Sequence[Mapping[str, Any]]], disorder: int) -> Topology:
    topology = Topology("arrivals")
    first, *others = [
        topology.stream(memory(name, ROW, rows=rows), timestamp="at", disorder=f"{disorder}ms") for name, rows in sources.items()
    ]
    first.merge(*others).key_by("k").process(Arrivals, name="arrivals").to(memory("out"), name="out")
    return topology


def in_order(simulation: Simulation) -> dict[str, list[int]]:
    """Return the rows of each key as they must arrive: by the greatest time of their split so far, then source, then split."""
    placed = []
    for rank, source in enumerate(simulation._sources.values()):
        for split, log in source.logs.items():
            latest = None
            for entry in log.entries:
                for row in [] if entry.rows is None else entry.rows.to_pylist():
                    latest = row["at"] if latest is None else max(latest, row["at"])
                    placed.append((latest, rank, split, len(placed), row))
    found: dict[str, list[int]] = {}
    for *_, row in sorted(placed, key=lambda one: one[:4]):
        found.setdefault(row["k"], []).append(row["n"])
    return found


@st.composite
def histories(draw):
    # A task sees the rows of its keys only: where a split is out of order, it cannot tell how late they were read.
    disorder = 0
    numbers = iter(range(1_000))
    # Equal times of two splits have no order at a parallelism above 1.
    taken: set[int] = set()
    sources = {}
    for name in draw(st.sampled_from(["ab", "abc"])):
        at, rows = 0, []
        for step in draw(st.lists(st.integers(0, draw(st.sampled_from([1, 4, 30]))), max_size=25)):
            at += step
            time = at - draw(st.integers(0, disorder)) if disorder else at
            if time in taken:
                continue
            taken.add(time)
            rows.append({"k": draw(st.sampled_from("xyz")), "at": time, "n": next(numbers)})
        sources[name] = rows
    return sources, disorder


# A failure tells its history and its story; to shrink one takes minutes.
@settings(max_examples=200, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(histories(), st.integers(0, 2**20))
def test_no_cut_schedule_or_crash_shows_in_the_order_of_arrival(history, seed):
    sources, disorder = history
    simulation = Simulation(arrivals(sources, disorder), sources, seed)
    found: dict[str, list[int]] = {}
    for _, row in simulation.run()["out"]:
        found.setdefault(row["k"], []).append(row["n"])
    assert found == in_order(simulation), simulation.story


def test_a_merge_of_bounded_sources_keeps_the_promise_of_their_order():
    rows = {name: [{"k": "xyz"[i % 3], "at": 7 * i + shift, "n": i} for i in range(40)] for shift, name in enumerate("ab")}
    assert_invariant(lambda: arrivals(rows, 0), rows, seeds=10)


def test_a_source_without_times_takes_no_part():
    topology = Topology("untimed")
    timed = topology.stream(memory("timed", ROW, rows=[{"k": "x", "at": i, "n": i} for i in range(5_000)]), timestamp="at")
    other = topology.stream(memory("other", ROW, rows=[{"k": "x", "at": i, "n": i} for i in range(5_000)]))
    assert timed.merge(other).collect().num_rows == 10_000


def test_splits_of_several_tasks_are_read_together(tmp_path):
    days = 6
    for day in range(days):
        rows = [{"k": "x", "at": day * 1_000_000 + i, "n": 20_000 * day + i} for i in range(20_000)]
        written(tmp_path / f"{day}.csv", rows)
    for parallelism in (1, 3):
        topology = Topology("days")
        stream = topology.stream(files(str(tmp_path / "*.csv"), ROW), timestamp="at")
        out = memory("out")
        stream.key_by("k").window(tumbling("1000s")).aggregate(n=count()).to(out, name="out")
        # No split is more than a batch ahead, or its rows would close the windows of the others.
        topology.run(Config(parallelism=parallelism, state_dir=tmp_path / f"state{parallelism}"))
        assert [row["n"] for row in out.rows()] == [20_000] * days


# Rounds --------------------------------------------------------------------------------------------------------------


def test_a_round_ends_where_the_first_batch_does():
    order = ReadOrder(2)
    a, b = (order.add_reader(task) for task in range(2))
    first, second = order.add_split(0, True), order.add_split(1, True)
    assert (a, b) == (0, 1)
    order.say(first, 0, 100)
    order.say(second, 40, 70)
    assert order.open_next() == 70
    order.say(second, 90, 500)
    assert order.open_next() == 100


# Live sources --------------------------------------------------------------------------------------------------------


def drifting(max_drift: str | None, **options: Any) -> TopologyTestDriver:
    topology = Topology("live")
    ahead = topology.stream(memory("ahead", ROW), timestamp="at", max_drift=max_drift)
    behind = topology.stream(memory("behind", ROW), timestamp="at", **options)
    ahead.merge(behind).to(memory("out"))
    return TopologyTestDriver(topology)


def test_a_live_source_waits_only_for_records_that_are_there():
    job = drifting("10ms")
    job.send("ahead", {"k": "x", "at": 1_000, "n": 0})
    assert [row["n"] for row in job.read("out")] == [0]
    job.send("behind", {"k": "x", "at": 5, "n": 1})
    job.send("ahead", {"k": "x", "at": 2_000, "n": 2})
    assert [row["n"] for row in job.read("out")] == [1, 2]


class Live(Source):
    """Gives rows at the times in `chunks`, a chunk a read; None is a read that finds nothing. Ends, though it is live."""

    bounded = False

    def __init__(self, name: str, chunks: Sequence[Sequence[int] | None]) -> None:
        self.name, self.schema, self.chunks = name, Schema.of({"source": str, "at": int}), chunks

    def splits(self) -> Sequence[str]:
        return ["0"]

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        return LiveReader(self, columns)


class LiveReader(SplitReader):
    def __init__(self, source: Live, columns: Sequence[str]) -> None:
        self.source, self.chunks, self.columns = source, iter(source.chunks), columns

    def read(self, max_rows: int) -> Chunk | End | None:
        times = next(self.chunks, END)
        if times is None or times is END:
            return times  # type: ignore[return-value]
        given = {"source": pa.array([self.source.name] * len(times)), "at": pa.array(times, pa.int64())}
        arrays = [given[name] if name in given else no_metadata(name, len(times)) for name in self.columns]
        return Chunk(pa.RecordBatch.from_arrays(arrays, names=list(self.columns)), None)


@pytest.mark.parametrize("max_drift", [None, "10ms"])
def test_a_live_source_is_held_when_it_is_further_ahead_than_its_drift(max_drift):
    said: list[tuple[str, int]] = []
    topology = Topology("drift")
    ahead = topology.stream(Live("ahead", [range(1_000)]), timestamp="at", max_drift=max_drift)
    # It has something at every read, or the other would not be ahead of anything.
    behind = topology.stream(Live("behind", [[at] for at in range(0, 1_000, 5)]), timestamp="at")
    for name, stream in (("a", ahead), ("b", behind)):
        stream.peek(lambda row: said.append((row.source, row.at))).to(memory(name))
    topology.run(Config(state_backend="memory"))
    furthest = -1
    leads = []
    for source, at in said:
        if source == "ahead":
            furthest = at
        else:
            leads.append(furthest - at)
    assert len(said) == 1_200
    assert (max(leads) <= 15) == (max_drift is not None), max(leads)
