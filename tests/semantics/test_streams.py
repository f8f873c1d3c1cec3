"""Verbs without a key: columns, functions, branch and merge; the order of merged branches."""

from collections import namedtuple
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, TopologyError, UserCodeError, col, count, dead_letter, expanding, lit, memory, rolling
from streamdsl.testing import TopologyTestDriver
from tests.semantics.jobs import SCHEMA, at, crash, driver, figures, row


def sent(build, *rows, **options):
    job = driver(build, **options)
    job.send_batch("in", list(rows))
    return job.read("out")


def test_select_with_columns_drop_and_rename():
    assert sent(lambda rows: rows.select("k", col("n").alias("m"), twice=col("n") * 2), row(n=3)) == [{"k": "a", "m": 3, "twice": 6}]
    out = sent(
        lambda rows: rows.with_columns(n=col("n") + 1, old=col("n"), kind=lit("x")).drop("t", "x", "s", "b").rename(k="key"), row(n=3)
    )
    assert out == [{"key": "a", "n": 4, "old": 3, "kind": "x"}]
    assert sent(lambda rows: rows.select("k", "n").rename({"k": "n", "n": "k"}), row(n=3)) == [{"n": "a", "k": 3}]


@dataclass
class Pair:
    name: str
    n: int | None


def test_map_takes_attributes_or_items_and_gives_mappings_or_objects():
    for made in (lambda r: {"name": r.k, "n": r["n"]}, lambda r: Pair(r.k, r.n), lambda r: namedtuple("P", "n name")(r.n, r.k)):
        job = driver(lambda rows, made=made: rows.map(made, schema=Pair))
        job.send("in", row("a", 7, n=3))
        job.send("in", row("b", 8))
        assert job.read("out", timestamps=True) == [(7, {"name": "a", "n": 3}), (8, {"name": "b", "n": None})]


def test_flat_map_gives_any_number_of_rows_with_the_time_of_theirs():
    job = driver(lambda rows: rows.flat_map(lambda r: ({"i": i} for i in range(r.n)), schema={"i": int}))
    for t, n in [(5, 2), (6, 0), (7, 1)]:
        job.send("in", row("a", t, n=n))
    assert job.read("out", timestamps=True) == [(5, {"i": 0}), (5, {"i": 1}), (7, {"i": 0})]


def test_map_batches_gets_the_declared_columns():
    names = []

    def double(batch):
        names.append(batch.schema.names)
        return pa.record_batch({"y": pc.multiply(batch.column("x"), 2)})

    job = driver(lambda rows: rows.map_batches(double, schema={"y": float | None}))
    job.send_batch("in", [row("a", 5, x=1.5), row("a", 9)])
    assert job.read("out", timestamps=True) == [(5, {"y": 3.0}), (9, {"y": None})]
    assert names == [list(SCHEMA)]


def test_peek_sees_each_row_and_changes_nothing():
    seen = []
    assert [out["n"] for out in sent(lambda rows: rows.peek(lambda r: seen.append(r.asdict())), row(n=1), row(n=2))] == [1, 2]
    assert seen == [row(n=1), row(n=2)]


def test_filter_takes_an_expression_or_a_function():
    rows = [row(n=n) for n in (1, 5, None)]
    assert [out["n"] for out in sent(lambda s: s.filter(col("n") > 2), *rows)] == [5]
    assert [out["n"] for out in sent(lambda s: s.filter(lambda r: r.n is None or r.n > 2), *rows)] == [5, None]


def branches(build, *rows, seed=None, parallelism=1):
    topology = Topology("job")
    for name, stream in build(topology.stream(memory("in", schema=SCHEMA), timestamp="t")).items():
        stream.to(memory(name))
    job = TopologyTestDriver(topology, seed=seed, parallelism=parallelism)
    job.send_batch("in", list(rows))
    return {name: [out["n"] for out in job.read(name)] for name in topology.sinks()}


def test_branch_gives_each_row_to_the_first_match_and_nulls_to_the_default():
    rows = [row(n=n) for n in (20, -1, 5, None, 150)]
    assert branches(lambda s: s.branch(big=col("n") > 10, huge=col("n") > 100, small=col("n") < 0), *rows) == {
        "big": [20, 150],
        "huge": [],
        "small": [-1],
        "other": [5, None],
    }
    assert branches(lambda s: s.branch(big=col("n") > 10, default="rest"), *rows) == {"big": [20, 150], "rest": [-1, 5, None]}
    assert branches(lambda s: s.branch(big=col("n") > 10, default=None), *rows) == {"big": [20, 150]}


def test_branch_asks_a_function_once_for_each_row_that_is_left():
    asked = []

    def odd(r):
        asked.append(r.n)
        return r.n % 2 == 1

    found = branches(lambda s: s.branch(big=col("n") > 10, odd=odd, small=col("n") < 3), *(row(n=n) for n in (20, 1, 4, 2, 7)))
    assert found == {"big": [20], "odd": [1, 7], "small": [2], "other": [4]}
    assert asked == [1, 4, 2, 7]
    found = branches(lambda s: s.branch(never=lambda r: False, always=lambda r: True), row(n=1))
    assert found == {"never": [], "always": [1], "other": []}
    with pytest.raises(UserCodeError, match="TypeError"):
        branches(lambda s: s.branch(odd=odd), row())


def test_a_branch_of_a_keyed_stream_keeps_the_key():
    def build(rows):
        parts = rows.key_by("k").branch(big=lambda r: r.n > 1)
        return parts["big"].with_columns(seen=count().over(expanding())).merge(parts["other"].with_columns(seen=lit(0)))

    assert [out["seen"] for out in sent(build, row(n=5), row(n=0), row(n=6))] == [1, 0, 2]


def three(rows):
    """Rows of three branches, of which one record can be in all."""
    keyed = rows.key_by("k")
    first = keyed.filter(col("n") > 0).select("k", "t", rule=lit("first"))
    second = keyed.window(rolling("10s")).filter(count() >= 2).select("k", "t", rule=lit("second"))
    third = keyed.map(lambda r: {"k": r.k, "t": r.t, "rule": "third"}, schema={"k": str, "t": int, "rule": str})
    return first.merge(second, third)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1, 1)), max_size=20), st.lists(st.integers(0, 20), max_size=3), st.integers(1, 3)
)
def test_merged_branches_come_out_in_the_records_order(drawn, cuts, parallelism):
    rows = [row(k, t, n=n) for t, (k, n) in enumerate(drawn)]
    job, expected, seen = driver(three, parallelism=parallelism), {"a": [], "b": []}, {"a": 0, "b": 0}
    last = 0
    for end in [*sorted({min(cut, len(rows)) for cut in cuts}), len(rows)]:
        job.send_batch("in", rows[last:end]) if end > last else crash(job)
        last = end
    for sent_row in rows:
        k = sent_row["k"]
        seen[k] += 1
        expected[k] += (
            [(sent_row["t"], "first")] * (sent_row["n"] > 0) + [(sent_row["t"], "second")] * (seen[k] >= 2) + [(sent_row["t"], "third")]
        )
    found = {"a": [], "b": []}
    for out in job.read("out"):
        found[out["k"]].append((out["t"], out["rule"]))
    assert found == expected


def test_streams_of_several_sources_can_be_merged():
    topology = Topology("job")
    one = topology.stream(memory("one", schema={"a": int, "b": str}))
    two = topology.stream(memory("two", schema={"b": str, "a": int}))
    one.merge(two).to(memory("out"))
    job = TopologyTestDriver(topology, parallelism=2)
    job.send("two", {"b": "x", "a": 1}, timestamp=5)
    job.send("one", {"a": 2, "b": "y"}, timestamp=6)
    assert job.read("out", timestamps=True) == [(5, {"a": 1, "b": "x"}), (6, {"a": 2, "b": "y"})]


def test_what_can_be_merged():
    def build(other):
        return lambda rows: rows.select("k", "n").merge(other(rows))

    with pytest.raises(TopologyError, match="'n'"):
        driver(build(lambda rows: rows.select("k")))
    with pytest.raises(TopologyError, match=r"int64.*double"):
        driver(build(lambda rows: rows.select("k", n=col("x"))))
    with pytest.raises(TopologyError, match="to_stream"):
        driver(lambda rows: rows.merge(rows.key_by("k").count()))


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("map", {"schema": {"n": int}}), ("flat_map", {"schema": {"n": int}}), ("filter", {}), ("map_batches", {"schema": {"n": int}})],
)
def test_functions_that_raise(verb, arguments):
    def function(r):
        raise ValueError("not today")

    with pytest.raises(UserCodeError, match="not today") as raised:
        sent(lambda rows: getattr(rows, verb)(function, **arguments), row(n=1))
    assert isinstance(raised.value.__cause__, ValueError)
    job = driver(lambda rows: getattr(rows, verb)(function, errors="skip", **arguments))
    job.send("in", row(n=1))
    assert (job.read("out"), figures(job, "errors"), figures(job, "dropped")) == ([], 1, 0)
    topology = Topology("job")
    rows = topology.stream(memory("in", schema=SCHEMA), timestamp="t", name="source")
    getattr(rows, verb)(function, errors=dead_letter(memory("dead"), name="letters"), **arguments).to(memory("out"))
    job = TopologyTestDriver(topology, partitions=2)
    for t in (5, 6):
        job.send("source", row(t=t, n=1), partition=1)
    letters = job.read("letters")
    assert [(letter["topic"], letter["partition"], letter["offset"], letter["timestamp"]) for letter in letters] == [
        ("source", 1, 0, at(5)),
        ("source", 1, 1, at(6)),
    ]
    assert {letter["error"] for letter in letters} == {"ValueError: not today"}
    assert figures(job, "dead_letters") == 2


def test_what_a_function_returns_is_checked_against_the_schema():
    for made, said in [
        ({"n": "x"}, "'n'"),
        ({}, "'n'"),
        (None, "None"),
        ({"n": 2**70}, "range"),
        ({"n": 1, "m": 2}, "'m'"),
        ({"n": 1.5}, "1.5"),
    ]:
        with pytest.raises(UserCodeError, match=said):
            sent(lambda rows, made=made: rows.map(lambda r: made, schema={"n": int}), row())


def test_an_unknown_column_is_named_with_the_nearest():
    for build in (
        lambda rows: rows.filter(col("amout") > 1),
        lambda rows: rows.select("amout"),
        lambda rows: rows.with_columns(y=col("amout")),
        lambda rows: rows.drop("amout"),
        lambda rows: rows.rename(amout="z"),
        lambda rows: rows.key_by("amout"),
        lambda rows: rows.key_by("k").aggregate(x=col("amout").sum()),
        lambda rows: rows.branch(x=col("amout") > 1),
        lambda rows: rows.key_by("k").with_columns(x=col("amout").lag()),
    ):
        with pytest.raises(TopologyError) as raised:
            driver(build, schema={"k": str, "amount": float}, timestamp=None)
        assert "'amout'" in str(raised.value)
        assert "'amount'" in str(raised.value)


def test_wrong_types_are_refused_where_they_are_written():
    for build in (
        lambda rows: rows.filter(col("n")),
        lambda rows: rows.select(y=col("s") + 1),
        lambda rows: rows.select(y=col("n") > "x"),
        lambda rows: rows.select(y=col("b") & col("n")),
        lambda rows: rows.select(y=col("n").str.to_lowercase()),
        lambda rows: rows.select(y=lit(None)),
    ):
        with pytest.raises(TopologyError):
            driver(build)
