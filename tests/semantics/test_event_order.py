"""Several sources of one job are read in event time: bounded ones together, live ones within `max_drift`."""

import asyncio
import bisect
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streamdsl import Config, Processor, Schema, Topology, col, count, files, memory, tumbling
from streamdsl._native.event_time.read_order import ReadOrder
from streamdsl.connectors.base import END, Chunk, End, Json, Source, SplitReader, no_metadata
from streamdsl.testing import Simulation, TopologyTestDriver, assert_invariant
from streamdsl.testing.promises import Judgements

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


ROW = {"k": str, "j": str, "at": int, "n": int}


class Arrivals(Processor):
    """Numbers what arrives of each key."""

    output = {**ROW, "i": int}

    def open(self, ctx):
        self.i = ctx.state.value("i", int)

    def process(self, row, ctx):
        self.i.set(self.i.get(0) + 1)
        yield {"k": row.k, "j": row.j, "at": row.at, "n": row.n, "i": self.i.get()}


async def looked_up(row):
    await asyncio.sleep(0)
    return {"k": row.k, "j": row.j, "at": row.at, "n": row.n}


def doubled(stream: Any) -> Any:
    """Return the rows by two branches that are merged again."""
    even, odd = stream.filter(col("n") % 2 == 0), stream.filter(col("n") % 2 == 1).map(lambda row: row, schema=ROW)
    return odd.merge(even)


#: What happens to the rows between the sources and the operator that looks at their order.
SHAPES: dict[str, Callable[[Any], Any]] = {
    "merged": lambda rows: rows,
    # Rows that are dropped, or that other tasks get, are later than those behind them.
    "filtered": lambda rows: rows.filter(col("n") % 3 != 0),
    "moved twice": lambda rows: rows.key_by("j").process(Arrivals, name="between").drop("i"),
    "moved three times": lambda rows: (
        rows.key_by("j").process(Arrivals, name="between").drop("i").key_by("at").process(Arrivals, name="again").drop("i")
    ),
    "framed": lambda rows: rows.key_by("j").with_columns(before=col("n").lag()).drop("before"),
    "branched": doubled,
    "called": lambda rows: rows.map_async(looked_up, schema=ROW),
    "several rows of one": lambda rows: (
        rows.flat_map(lambda row: [row, row], schema=ROW).key_by("j", "n").process(Arrivals, name="between").filter(col("i") == 1).drop("i")
    ),
}


def arrivals(sources: Mapping[str, Sequence[Mapping[str, Any]]], disorder: int = 0, shape: str = "merged") -> Topology:
    topology = Topology("arrivals")
    first, *others = [
        topology.stream(memory(name, ROW, rows=rows), timestamp="at", disorder=f"{disorder}ms") for name, rows in sources.items()
    ]
    SHAPES[shape](first.merge(*others)).key_by("k").process(Arrivals, name="arrivals").to(memory("out"), name="out")
    return topology


def in_order(simulation: Simulation, shape: str) -> dict[str, list[int]]:
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
        if shape != "filtered" or row["n"] % 3 != 0:
            found.setdefault(row["k"], []).append(row["n"])
    return found


@st.composite
def histories(draw):
    disorder = draw(st.sampled_from([0, 0, 3, 20]))
    numbers = iter(range(1_000))
    sources = {}
    for name in draw(st.sampled_from(["ab", "abc"])):
        at, rows = draw(st.sampled_from([0, -5, -(2**63)])), []
        for step in draw(st.lists(st.integers(0, draw(st.sampled_from([0, 1, 4, 30]))), max_size=25)):
            at += step
            time = max(at - draw(st.integers(0, disorder)), -(2**63))
            rows.append({"k": draw(st.sampled_from("xyz")), "j": draw(st.sampled_from("abcdef")), "at": time, "n": next(numbers)})
        sources[name] = rows
    return sources, disorder


# A failure tells its history and its story; to shrink one takes minutes.
@settings(max_examples=200, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(histories(), st.sampled_from(list(SHAPES)), st.integers(0, 2**20))
def test_no_cut_schedule_or_crash_shows_in_the_order_of_arrival(history, shape, seed):
    sources, disorder = history
    with pytest.MonkeyPatch.context() as patch:
        # Rows of one key may come from any split.
        patch.setattr("streamdsl.testing.simulation.judge", lambda plan, rows: Judgements({}, {}, frozenset(), {}))
        simulation = Simulation(arrivals(sources, disorder, shape), sources, seed)
    numbered: dict[str, dict[int, int]] = {}
    for _, row in simulation.run()["out"]:
        assert numbered.setdefault(row["k"], {}).setdefault(row["i"], row["n"]) == row["n"]
    found = {key: [row for _, row in sorted(rows.items())] for key, rows in numbered.items()}
    assert found == in_order(simulation, shape), (shape, simulation.story)


def test_a_merge_of_bounded_sources_keeps_the_promise_of_their_order():
    rows = {name: [{"k": "xyz"[i % 3], "j": "j", "at": 7 * i + shift, "n": i} for i in range(40)] for shift, name in enumerate("ab")}
    assert_invariant(lambda: arrivals(rows), rows, seeds=10)


def test_a_source_without_times_takes_no_part():
    topology = Topology("untimed")
    timed = topology.stream(memory("timed", ROW, rows=[{"k": "x", "j": "j", "at": i, "n": i} for i in range(5_000)]), timestamp="at")
    other = topology.stream(memory("other", ROW, rows=[{"k": "x", "j": "j", "at": i, "n": i} for i in range(5_000)]))
    assert timed.merge(other).collect().num_rows == 10_000


def test_splits_of_several_tasks_are_read_together(tmp_path):
    days = 6
    for day in range(days):
        rows = [{"k": "x", "j": "j", "at": day * 1_000_000 + i, "n": 20_000 * day + i} for i in range(20_000)]
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
    first, second = order.add_split(0, 0, True), order.add_split(1, 0, True)
    order.number_splits()
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
    job.send("ahead", {"k": "x", "j": "j", "at": 1_000, "n": 0})
    assert [row["n"] for row in job.read("out")] == [0]
    job.send("behind", {"k": "x", "j": "j", "at": 5, "n": 1})
    job.send("ahead", {"k": "x", "j": "j", "at": 2_000, "n": 2})
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
