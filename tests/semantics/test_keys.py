"""key_by: columns, expressions, everything as one key; null keys; zero and NaN."""

import datetime
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Processor, col, count, expanding, lit
from streamdsl.errors import TopologyError
from tests.semantics.jobs import crash, driver, figures, row


def counts(driver, *columns):
    """The last count of each key."""
    return {tuple(out[column] for column in columns): out["count"] for out in driver.read("out")}


@pytest.mark.parametrize("parallelism", [1, 3])
def test_several_columns_are_one_key(parallelism):
    job = driver(lambda rows: rows.key_by("k", "n").count(), parallelism=parallelism)
    for k, n in [("a", 1), ("a", 2), ("a", 1), ("a1", None), ("a", 1)]:
        job.send("in", row(k, n=n))
    assert counts(job, "k", "n") == {("a", 1): 3, ("a", 2): 1}
    assert figures(job, "null_keys") == 1


def test_components_do_not_run_into_one_another():
    job = driver(lambda rows: rows.key_by("k", "s").count())
    for k, s in [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]:
        job.send("in", row(k, s=s))
    assert set(counts(job, "k", "s").values()) == {1}


def test_a_computed_component_becomes_a_column():
    job = driver(lambda rows: rows.key_by(col("k").str.to_lowercase().alias("name"), even=col("n") % 2 == 0).count(name="c"))
    for k, n in [("A", 1), ("a", 3), ("a", 2), ("A", None)]:
        job.send("in", row(k, n=n))
    assert job.state("c") == {("a", False): {"count": 2}, ("a", True): {"count": 1}}
    assert job.read("out")[0] == {"name": "a", "even": False, "count": 1}


def test_no_column_is_one_key_for_everything():
    job = driver(lambda rows: rows.key_by().count(name="all"), parallelism=3)
    for k in ("a", None, "b"):
        job.send("in", row(k))
    assert job.read("out") == [{"count": 1}, {"count": 2}, {"count": 3}]
    crash(job, parallelism=1)
    job.send("in", row("c"))
    assert job.read("out") == [{"count": 4}]


def test_a_null_component_drops_the_record_and_is_counted_and_logged_once(caplog):
    job = driver(lambda rows: rows.key_by("k").with_columns(seen=count().over(expanding())))
    for t, k in enumerate((None, "a", None), start=77):
        job.send("in", row(k, t))
    assert [out["k"] for out in job.read("out")] == ["a"]
    assert figures(job, "null_keys") == 2
    [said] = [record.getMessage() for record in caplog.records if "null key" in record.getMessage()]
    assert "77" in said


def test_zero_is_one_key_and_nan_is_one_key():
    job = driver(lambda rows: rows.key_by("x").count())
    for x in (0.0, -0.0, math.nan, float.fromhex("-0x0p0"), -math.nan, math.inf):
        job.send("in", row(x=x))
    last = {repr(out["x"]): out["count"] for out in job.read("out")}
    assert last == {"0.0": 3, "nan": 2, "inf": 1}


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (bool, True),
        ("int8", -5),
        ("uint64", 2**64 - 1),
        ("float32", 0.5),
        (str, "ñ"),
        (bytes, b"\x00\xff"),
        (datetime.date, datetime.date(1969, 1, 2)),
        (datetime.datetime, datetime.datetime(2020, 1, 2, 3, 4, 5, 6000, tzinfo=datetime.UTC)),
    ],
)
def test_a_key_comes_back_as_it_was(type_, value):
    class Tell(Processor):
        output = {"same": bool}

        def process(self, row, ctx):
            yield {"same": ctx.key == value}

    job = driver(lambda rows: rows.key_by("key").process(Tell()), schema={"key": type_}, timestamp=None)
    job.send("in", {"key": value}, timestamp=0)
    assert job.read("out") == [{"same": True}]
    job = driver(lambda rows: rows.key_by("key").count(name="c"), schema={"key": type_}, timestamp=None)
    job.send("in", {"key": value}, timestamp=0)
    crash(job)
    job.send("in", {"key": value}, timestamp=0)
    assert job.read("out")[-1] == {"key": value, "count": 2}
    assert job.state("c") == {value: {"count": 2}}


def test_the_key_stays_when_its_column_goes_or_changes():
    job = driver(lambda rows: rows.key_by("k").with_columns(k=lit("same")).drop("s").count())
    for k in ("a", "b", "a"):
        job.send("in", row(k))
    assert job.read("out") == [{"k": "a", "count": 1}, {"k": "b", "count": 1}, {"k": "a", "count": 2}]


def test_verbs_that_need_a_key_say_so():
    for verb in ("count", "aggregate", "reduce", "window"):
        with pytest.raises(TopologyError, match="key_by"):
            driver(lambda rows, verb=verb: getattr(rows, verb)())
    with pytest.raises(TopologyError, match="key_by"):
        driver(lambda rows: rows.with_columns(n=count()))
    with pytest.raises(TopologyError, match="key_by"):
        driver(lambda rows: rows.filter(col("x").sum() > 3))


KEYS = st.none() | st.text(max_size=3) | st.sampled_from(["a", "b"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(KEYS, st.none() | st.integers(-2, 2)), max_size=30), st.integers(0, 30), st.integers(1, 3), st.integers(1, 3))
def test_each_key_counts_its_own(sent, restore, before, after):
    job = driver(lambda rows: rows.key_by("k", "n").count(), parallelism=before, seed=restore)
    expected = {}
    for i, (k, n) in enumerate(sent):
        if i == restore:
            crash(job, after)
        job.send("in", row(k, n=n))
        if None not in (k, n):
            expected[k, n] = expected.get((k, n), 0) + 1
    assert counts(job, "k", "n") == expected
