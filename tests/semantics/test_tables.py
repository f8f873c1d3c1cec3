"""Tables: running aggregates, reduce, a source as a table; upserts, tombstones and changes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, TopologyError, col, count, memory
from streamdsl.errors import DataError
from streamdsl.testing import TopologyTestDriver
from tests.semantics.jobs import crash, driver, figures, row

PRICES = {"id": str | None, "price": int | None, "note": str | None}


def totals(rows):
    return rows.key_by("k").aggregate(n=count(), total=col("x").sum(), name="totals")


def test_an_upsert_for_each_record_with_its_time():
    job = driver(totals)
    for k, t, x in [("a", 5, 1.0), ("b", 3, None), ("a", 4, 2.5)]:
        job.send("in", row(k, t, x=x))
    assert job.read("out", timestamps=True) == [
        (5, {"k": "a", "n": 1, "total": 1.0}),
        (3, {"k": "b", "n": 1, "total": 0.0}),
        (4, {"k": "a", "n": 2, "total": 3.5}),
    ]
    assert job.state("totals") == {"a": {"n": 2, "total": 3.5}, "b": {"n": 1, "total": 0.0}}


def test_to_stream_says_what_changed_also_after_a_crash():
    job = driver(lambda rows: totals(rows).to_stream())
    job.send("in", row("a", x=1.0))
    crash(job, parallelism=3)
    job.send("in", row("a", x=1.0))
    job.send("in", row("b", x=1.0))
    assert [(out["k"], out["op"], out["n"]) for out in job.read("out")] == [("a", "add", 1), ("a", "replace", 2), ("b", "add", 1)]


def test_a_stream_of_changes_is_a_stream_like_any_other():
    job = driver(lambda rows: totals(rows).to_stream().filter(col("op") == "replace").select("k", twice=col("total") * 2))
    for x in (1.0, 2.0):
        job.send("in", row("a", x=x))
    assert job.read("out") == [{"k": "a", "twice": 6.0}]


def test_calculations_with_aggregates():
    job = driver(lambda rows: rows.key_by("k").aggregate(mean=col("x").sum() / count(), spread=col("x").max() - col("x").min()))
    for x in (1.0, 4.0):
        job.send("in", row("a", x=x))
    assert job.read("out")[-1] == {"k": "a", "mean": 2.5, "spread": 3.0}


def test_count_is_called_count():
    job = driver(lambda rows: rows.key_by("k").count())
    job.send("in", row("a"))
    assert job.read("out") == [{"k": "a", "count": 1}]


def later(a, b):
    return {"k": a.k, "t": max(a.t, b["t"]), "n": (a.n or 0) + (b.n or 0)}


@pytest.mark.parametrize("parallelism", [1, 3])
def test_reduce_unites_rows_two_by_two(parallelism):
    job = driver(lambda rows: rows.select("k", "t", "n").key_by("k").reduce(later, name="r"), parallelism=parallelism)
    for k, t, n in [("a", 1, 5), ("b", 1, 1), ("a", 9, 2)]:
        job.send("in", row(k, t, n=n))
    crash(job, parallelism=4 - parallelism)
    job.send("in", row("a", 3, n=-7))
    assert [out for out in job.read("out") if out["k"] == "a"] == [
        {"k": "a", "t": 1, "n": 5},
        {"k": "a", "t": 9, "n": 7},
        {"k": "a", "t": 9, "n": 0},
    ]
    assert job.state("r")["a"] == {"k": "a", "t": 9, "n": 0}


def table(**options):
    topology = Topology("prices")
    prices = topology.table(memory("in", schema=PRICES), key="id", name="prices", **options)
    prices.to(memory("out"))
    prices.to_stream().to(memory("changes"))
    return TopologyTestDriver(topology)


def test_a_table_writes_upserts_and_tombstones():
    job = table()
    for price in (1, 2, None, None, 3):
        job.send("prices", {"id": "a", "price": price, "note": None})
    assert [out["price"] for out in job.read("out")] == [1, 2, None, 3]
    assert [(out["op"], out["price"]) for out in job.read("changes")] == [("add", 1), ("replace", 2), ("withdraw", 2), ("add", 3)]
    assert job.state("prices") == {"a": {"id": "a", "price": 3, "note": None}}


def test_the_tombstones_of_a_table_empty_another_one():
    job = table()
    job.send("prices", {"id": "a", "price": 1, "note": "x"})
    job.send("prices", {"id": "a", "price": None, "note": None})
    other = table()
    for out in job.read("out"):
        other.send("prices", out)
    assert other.state("prices") == {}


def test_a_table_drops_null_keys_and_keeps_the_last_by_arrival():
    job = table()
    for key, price, time in [("a", 1, 100), (None, 5, 100), ("a", 2, 50)]:
        job.send("prices", {"id": key, "price": price, "note": "x"}, timestamp=time)
    assert [out["price"] for out in job.read("out")] == [1, 2]
    assert figures(job, "null_keys") == 1


CHANGES = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 3)), max_size=25)


@settings(max_examples=30, deadline=None)
@given(CHANGES, st.integers(0, 25))
def test_upserts_applied_are_the_table(changes, restore):
    job, held = table(), {}
    for i, (key, price) in enumerate(changes):
        if i == restore:
            crash(job)
        job.send("prices", {"id": key, "price": price, "note": None})
        held.pop(key, None)
        if price is not None:
            held[key] = price
    applied = {}
    for out in job.read("out"):
        applied.pop(out["id"], None)
        if out["price"] is not None:
            applied[out["id"]] = out["price"]
    assert applied == held == {key: value["price"] for key, value in job.state("prices").items()}


def test_an_overflow_of_a_sum_is_an_error_of_the_record():
    job = driver(lambda rows: rows.key_by("k").aggregate(total=col("n").sum()))
    job.send("in", row("a", n=2**63 - 1))
    with pytest.raises(DataError, match="overflow"):
        job.send("in", row("a", n=1))


def test_what_is_no_aggregate_is_refused_where_it_is_written():
    for made in (col("x"), col("x") + 1):
        with pytest.raises(TopologyError, match="aggregate"):
            driver(lambda rows, made=made: rows.key_by("k").aggregate(x=made))
    with pytest.raises(TopologyError, match="'k'"):
        driver(lambda rows: rows.key_by("k").aggregate(k=count()))
    with pytest.raises(TopologyError, match="at least one"):
        driver(lambda rows: rows.key_by("k").aggregate())


def test_a_table_is_no_stream_and_says_how_to_make_one():
    for verb in ("key_by", "merge", "map"):
        with pytest.raises(TopologyError, match="to_stream"):
            driver(lambda rows, verb=verb: getattr(rows.key_by("k").count(), verb)("count"))
    with pytest.raises(TopologyError, match="group_by"):
        driver(lambda rows: rows.key_by("k").count().groupBy("k"))
