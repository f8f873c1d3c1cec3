"""A table that is read to its end before anything else: history, and live sources."""

import threading
import time

import pyarrow as pa
import pytest

from streamdsl import Config, Topology, TopologyError, memory
from streamdsl.connectors.base import Chunk, Source, SplitReader, no_metadata
from streamdsl.schema import Schema
from streamdsl.testing import TopologyTestDriver

TX = {"k": str, "at": int, "n": int}
NAMES = {"k": str, "at": int, "name": str}


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("bootstrap", [True, False])
def test_a_bounded_table_of_later_times_is_there_first(parallelism, bootstrap):
    """`bootstrap=True` reads a table's topic to its end before the stream starts."""
    names = [{"k": f"k{i}", "at": 1_000 + i, "name": f"n{i}"} for i in range(50)]
    tx = [{"k": f"k{i % 60}", "at": i, "n": i} for i in range(300)]
    topology = Topology("t")
    table = topology.table(memory("names", NAMES, names), key="k", timestamp="at", bootstrap=bootstrap)
    stream = topology.stream(memory("tx", TX, tx), timestamp="at")
    rows = stream.join(table, on="k", how="left").collect(Config(parallelism=parallelism, batch_rows=7)).to_pylist()
    matched = sum(row["name"] is not None for row in rows)
    assert (len(rows), matched) == (300, 250 if bootstrap else 0)


def test_in_a_test_what_was_sent_before_is_read_first():
    topology = Topology("t")
    table = topology.table(memory("names", NAMES), key="k", timestamp="at", bootstrap=True)
    topology.stream(memory("tx", TX), timestamp="at").join(table, on="k", how="left").to(memory("out"))
    driver = TopologyTestDriver(topology, seed=3)
    driver.checkpoint()
    driver.send("tx", {"k": "a", "at": 5, "n": 1})
    driver.send("names", {"k": "a", "at": 9, "name": "Ada"})
    driver.send("tx", {"k": "a", "at": 6, "n": 2})
    assert [row["name"] for row in driver.read("out")] == [None, "Ada"]
    # Both are read again from the checkpoint: the table first.
    driver.crash_and_restore()
    driver.send("tx", {"k": "a", "at": 7, "n": 3})
    assert [row["name"] for row in driver.read("out")][-1] == "Ada"


class Live(Source):
    """Gives its rows once `opened`, and then nothing: it never ends."""

    bounded = False

    def __init__(self, name, schema, rows, opened):
        self.name, self.schema, self.rows, self.opened = name, Schema.of(schema), rows, opened

    def splits(self):
        return ["0"]

    def open_split(self, split, position, columns):
        return Reader(self, 0 if position is None else position["start"]["at"] + position["skip"], columns)


class Reader(SplitReader):
    def __init__(self, source, at, columns):
        self.source, self.at, self.columns = source, at, columns

    def caught_up(self):
        # Not as soon as it is open: then its rows are there and not read.
        return self.source.opened.is_set() and self.at >= len(self.source.rows)

    def read(self, max_rows):
        if not self.source.opened.is_set() or self.at >= len(self.source.rows):
            return None
        row, at = self.source.rows[self.at], self.at
        self.at += 1
        schema = self.source.schema
        arrays = [pa.array([row[one]], schema.field(one).type) if one in schema else no_metadata(one, 1) for one in self.columns]
        return Chunk(pa.RecordBatch.from_arrays(arrays, names=list(self.columns)), {"at": at})


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_live_stream_waits_for_a_live_table(parallelism):
    there, now = threading.Event(), threading.Event()
    now.set()
    topology = Topology("t")
    names = Live("names", NAMES, [{"k": f"k{i}", "at": i, "name": f"n{i}"} for i in range(40)], there)
    tx = Live("tx", TX, [{"k": f"k{i}", "at": i, "n": i} for i in range(40)], now)
    table = topology.table(names, key="k", timestamp="at", bootstrap=True)
    sink = memory("out")
    topology.stream(tx, timestamp="at").join(table, on="k", how="left").to(sink)
    with topology.start(Config(parallelism=parallelism)) as run:
        time.sleep(0.1)  # a stream that did not wait would be through by now
        there.set()
        until = time.monotonic() + 30
        while len(sink.rows()) < 40 and time.monotonic() < until:
            time.sleep(0.01)
        run.stop()
    assert [row["name"] for row in sorted(sink.rows(), key=lambda row: row["n"])] == [f"n{i}" for i in range(40)]


def test_of_live_rows_that_wait_the_earlier_comes_first():
    """With both inputs waiting, the earlier time goes first; at equal times the table."""
    topology = Topology("t")
    table = topology.table(memory("names", NAMES), key="k", timestamp="at")
    topology.stream(memory("tx", TX), timestamp="at").join(table, on="k", how="left").to(memory("out"))
    outcomes = []
    for seed in range(12):
        driver = TopologyTestDriver(topology, seed=seed)
        # Sent without a step between them: what is stepped first is up to the seed.
        for name, rows in (
            ("tx", [{"k": "a", "at": at, "n": at} for at in (1, 3, 5, 7)]),
            ("names", [{"k": "a", "at": at, "name": str(at)} for at in (2, 5, 6)]),
        ):
            driver._append(name, None, _entry(driver, name, rows))
        driver._settle()
        outcomes.append([row["name"] for row in driver.read("out")])
    assert [None, "2", "5", "6"] in outcomes
    # Where the one is through before the other comes, there was nothing to choose.
    assert all(one in ([None, "2", "5", "6"], [None] * 4, ["6"] * 4) for one in outcomes)


def _entry(driver, name, rows):
    from streamdsl.testing.endpoints import Entry

    return Entry(rows=driver._source(name).batch_of(rows))


def test_what_cannot_be_is_refused():
    topology = Topology("t")
    with pytest.raises(TopologyError, match="bootstrap='yes' is not True or False"):
        topology.table(memory("names", NAMES), key="k", bootstrap="yes")
