"""One policy for bad records: which one counts where, and that only the bad records are missing afterwards."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Config, DataError, Topology, TopologyError, UserCodeError, col, dead_letter, files, memory, rolling, tumbling
from streamdsl.connectors.base import Sink, SinkWriter

BIG = 2**62
ROWS = [{"k": "a", "x": 1}, {"k": "b", "x": BIG}, {"k": "a", "x": 3}, {"k": "a", "x": BIG}, {"k": "b", "x": 5}]
GOOD = [1, 3, 5]


def numbers(topology, rows=ROWS, **options):
    """Return a stream of k and x in which `col("x") * 4` overflows for some."""
    return topology.stream(memory("numbers", schema={"k": str, "x": int}, rows=rows), **options)


class Picky(Sink):
    """Refuses rows whose x is too large, as a broker refuses large records."""

    name = "picky"

    def __init__(self):
        self.rows = []

    def open_writer(self, schema, keys, task, tasks, state):
        """Return a writer to `rows`."""
        return PickyWriter(self.rows)


class PickyWriter(SinkWriter):
    """See `Picky`."""

    def __init__(self, rows):
        self.rows = rows

    def write(self, rows, timestamps):
        """Take all rows, or none."""
        if any(x >= BIG for x in rows.column("x").to_pylist()):
            raise DataError("a row is too large for the sink", reason="x")
        self.rows.extend(rows.column("x").to_pylist())

    def snapshot(self, checkpoint_id):
        """Nothing is kept."""


VERBS = {
    "filter": lambda s, **o: s.filter(col("x") * 4 > 0, **o),
    "select": lambda s, **o: s.select("x", y=col("x") * 4, **o),
    "with_columns": lambda s, **o: s.with_columns(y=col("x") * 4, **o),
    "key_by": lambda s, **o: s.key_by(y=col("x") * 4, **o),
    "counter": lambda s, **o: s.counter("many", where=col("x") * 4 > 8, **o),
    "branch": lambda s, **o: s.branch(all=col("x") * 4 > 0, **o)["all"],
    "cast": lambda s, **o: s.with_columns(y=col("x").cast(pa.int8()), **o),
    "parse": lambda s, **o: s.with_columns(y=(col("x") % 4096).cast(str).cast(int) * (col("x") * 4), **o),
    "frame": lambda s, **o: s.key_by("k").with_columns(y=(col("x") * 4).sum().over(rolling("1h")), **o),
    "map": lambda s, **o: s.map(lambda row: {"x": checked(row.x)}, schema={"x": int}, **o),
    "peek": lambda s, **o: s.peek(lambda row: checked(row.x), **o),
    "a function as filter": lambda s, **o: s.filter(lambda row: checked(row.x) > 0, **o),
}


def checked(x):
    """Return x, if it is small."""
    if x >= BIG:
        raise ValueError("too large")
    return x


@pytest.mark.parametrize("verb", VERBS)
def test_the_verb_says_what_becomes_of_its_bad_rows(verb):
    found = VERBS[verb](numbers(Topology("t")), errors="skip").collect()
    assert found.column("x").to_pylist() == GOOD


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("where", ["source", "topology", "config"])
def test_a_verb_that_says_nothing_takes_what_is_around_it(verb, where):
    topology = Topology("t", errors="skip" if where == "topology" else None)
    stream = numbers(topology, errors="skip" if where == "source" else None)
    config = Config(errors="skip" if where == "config" else "fail", state_backend="memory")
    assert VERBS[verb](stream).collect(config).column("x").to_pylist() == GOOD


@pytest.mark.parametrize("verb", VERBS)
def test_the_nearest_one_counts(verb):
    topology = Topology("t", errors="skip")
    with pytest.raises((DataError, UserCodeError)):
        VERBS[verb](numbers(topology), errors="fail").collect()
    with pytest.raises((DataError, UserCodeError)):
        VERBS[verb](numbers(Topology("t", errors="skip"), errors="fail")).collect()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("parallelism", [1, 3])
def test_dead_letters_say_which_operator_refused_which_record_and_why(verb, parallelism):
    bad, out = memory("bad"), memory("out")
    topology = Topology("t", errors=dead_letter(bad))
    VERBS[verb](numbers(topology)).to(out)
    run = topology.run(Config(parallelism=parallelism))
    assert sorted(out.table().column("x").to_pylist()) == GOOD
    letters = bad.table().to_pylist()
    assert sorted(json.loads(letter["value"])["k"] for letter in letters) == ["a", "b"]
    assert {json.loads(letter["value"])["x"] for letter in letters} == {BIG}
    assert sorted(letter["offset"] for letter in letters) == [1, 3]
    assert all(letter["operator"] and letter["error"] for letter in letters)
    assert figure(run, "errors") == figure(run, "dead_letters") == 2


def figure(run, name):
    """Return the sum of a figure over all operators."""
    return sum(figures.get(name, 0) for task in run.metrics()["tasks"] for figures in task["operators"].values())


def test_each_skipped_record_is_counted():
    topology = Topology("t", errors="skip")
    numbers(topology).with_columns(y=col("x") * 4).to(memory("out"))
    assert figure(topology.run(), "errors") == 2


def test_aggregates_go_on_as_if_the_bad_record_had_not_been_there():
    topology = Topology("t", errors="skip")
    table = numbers(topology).key_by("k").aggregate(total=(col("x") * 4).sum(), rows=col("x").count())
    assert [(row["k"], row["total"], row["rows"]) for row in table.collect().to_pylist()] == [("a", 4, 1), ("a", 16, 2), ("b", 20, 1)]


def test_a_bad_record_opens_no_window_and_a_late_one_is_late():
    rows = [{"k": "a", "x": 1, "at": 5}, {"k": "a", "x": BIG, "at": 105}, {"k": "a", "x": 2, "at": 300}, {"k": "a", "x": BIG, "at": 7}]
    topology = Topology("t", errors="skip")
    stream = topology.stream(memory("m", schema={"k": str, "x": int, "at": int}, rows=rows), timestamp="at")
    windows = stream.key_by("k").window(tumbling(10)).aggregate(total=(col("x") * 4).sum())
    out, late = memory("out"), memory("late")
    windows.to(out)
    windows.output("late").to(late)
    run = topology.run(Config(batch_rows=1))
    assert out.table().column("total").to_pylist() == [4, 8]
    assert late.table().column("at").to_pylist() == [7]
    assert figure(run, "errors") == 1


def test_rows_of_several_sources_have_the_strictest_policy():
    def merged(one, two):
        topology = Topology("t")
        first = topology.stream(memory("one", schema={"k": str, "x": int}, rows=ROWS), errors=one)
        second = topology.stream(memory("two", schema={"k": str, "x": int}, rows=ROWS), errors=two)
        return first.merge(second).with_columns(y=col("x") * 4).collect().num_rows

    assert merged("skip", "skip") == 6
    with pytest.raises(DataError):
        merged("skip", "fail")
    with pytest.raises(DataError):
        merged("skip", None)


def test_a_row_that_a_sink_cannot_write_follows_its_policy():
    sink, bad = Picky(), memory("bad")
    topology = Topology("t")
    numbers(topology).to(sink, errors=dead_letter(bad))
    run = topology.run()
    assert sink.rows == GOOD
    assert bad.table().column("operator").to_pylist() == ["picky"] * 2
    assert figure(run, "written") == 5
    with pytest.raises(DataError, match="too large for the sink"):
        topology = Topology("t")
        numbers(topology).to(Picky())
        topology.run()


def test_a_bound_sink_takes_the_place_of_the_other_also_where_its_dead_letters_are_read():
    out, other, letters = memory("out"), Picky(), memory("letters")
    topology = Topology("t", errors=dead_letter(memory("bad")))
    numbers(topology).to(out, name="out")
    topology.run(bind={"out": other, "bad": letters})
    assert (out.rows(), other.rows, letters.table().num_rows) == ([], GOOD, 2)


def test_dead_letters_of_a_sink_are_in_the_checkpoint_of_its_rows(tmp_path):
    bad = tmp_path / "bad.jsonl"
    for _ in range(2):
        sink = Picky()
        topology = Topology("t", errors=dead_letter(files(bad), name="bad"))
        numbers(topology).with_columns(y=(col("x") % 5).cast(pa.int8())).to(sink)
        topology.run(Config(state_dir=tmp_path / "state"))
    assert len(bad.read_text().splitlines()) == 2


def test_the_condition_of_a_branch_refuses_a_record_once():
    parts = numbers(Topology("t", errors="skip")).branch(small=col("x") * 4 < 8, large=col("x") * 4 >= 8)
    assert parts["small"].collect().column("x").to_pylist() == [1]
    assert parts["large"].collect().column("x").to_pylist() == [3, 5]
    assert parts["other"].collect().num_rows == 0
    bad = memory("bad")
    topology = Topology("t")
    parts = numbers(topology).branch(small=col("x") * 4 < 8, large=col("x") * 4 >= 8, errors=dead_letter(bad))
    for name, stream in parts.items():
        stream.to(memory(name))
    topology.run()
    assert bad.table().num_rows == 2


def test_a_column_called_errors_is_made_by_an_expression():
    stream = numbers(Topology("t"), rows=ROWS[:1])
    assert stream.with_columns(errors=col("x") + 1).collect().to_pylist() == [{"k": "a", "x": 1, "errors": 2}]
    assert stream.select(errors=col("x")).collect().to_pylist() == [{"errors": 1}]
    with pytest.raises(TopologyError, match="errors=1 is unknown"):
        stream.with_columns(errors=1)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2, 3, BIG, BIG + 1])), max_size=40),
    batch=st.integers(1, 50),
)
def test_what_is_left_is_what_comes_of_the_good_rows(rows, batch):
    def results(kept):
        topology = Topology("t", errors="skip")
        stream = numbers(topology, [{"k": k, "x": x} for k, x in kept])
        y = stream.with_columns(y=col("x") * 4).key_by("k")
        framed = y.with_columns(n=(col("x") * 4).sum().over(rolling("1h")), previous=col("y").lag())
        return framed.filter(col("x") * 4 > 4).collect(Config(batch_rows=batch, state_backend="memory")).to_pylist()

    assert results(rows) == results([(k, x) for k, x in rows if x < BIG])
