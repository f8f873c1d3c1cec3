"""Frames: what each record sees of the records of its key that arrived before it."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import TopologyError, col, count, expanding, operator, rolling, tumbling
from tests.semantics.jobs import crash, driver, figures, row


def seen(build, times, tags=(), **options):
    job = driver(lambda rows: build(rows.key_by("k")), tags=tags, watermarks="external", **options)
    for t in times:
        job.send("in", row("a", t, x=float(t)))
    return job


def test_rolling_is_half_open_at_its_old_end():
    job = seen(lambda rows: rows.with_columns(n=count().over(rolling("60s"))), [0, 59_999, 60_000, 60_001, 119_999, 120_000])
    assert [out["n"] for out in job.read("out")] == [1, 2, 2, 3, 3, 3]


def test_rolling_does_not_see_records_of_a_later_time():
    job = seen(lambda rows: rows.with_columns(n=count().over(rolling("10s"))), [10_000, 3_000, 4_000, 10_000, 3_000])
    assert [out["n"] for out in job.read("out")] == [1, 1, 2, 4, 2]


def test_the_current_record_can_be_left_out():
    frames = {
        "n": count().over(rolling("10s", exclude_current=True)),
        "mean": col("x").mean().over(expanding(exclude_current=True)),
        "total": col("x").sum().over(expanding(exclude_current=True)),
        "all": count().over(expanding()),
    }
    job = seen(lambda rows: rows.with_columns(**frames), [4_000, 6_000, 6_000, 20_000])
    assert [(out["n"], out["mean"], out["total"], out["all"]) for out in job.read("out")] == [
        (0, None, 0.0, 1),
        (1, 4_000.0, 4_000.0, 2),
        (2, 5_000.0, 10_000.0, 3),
        (0, 16_000 / 3, 16_000.0, 4),
    ]


def test_lag_is_the_value_n_arrivals_ago():
    job = driver(lambda rows: rows.key_by("k").with_columns(before=col("s").lag(), second=col("t").lag(2)))
    for k, t, s in [("a", 5, "x"), ("b", 1, "y"), ("a", 9, None), ("a", 2, "z"), ("a", 3, "w")]:
        job.send("in", row(k, t, s=s))
    assert [(out["before"], out["second"]) for out in job.read("out")] == [(None, None), (None, None), ("x", None), (None, 5), ("z", 9)]


def test_a_record_at_or_below_the_watermark_is_late_for_rolling_only():
    job = seen(lambda rows: rows.with_columns(n=count().over(rolling("10s"))), [1_000], tags=["late"])
    job.advance_watermark("in", 2_000)
    for t in (2_000, 2_001, 500):
        job.send("in", row("a", t))
    assert [out["n"] for out in job.read("out")] == [1, 2]
    assert [out["t"] for out in job.read("late")] == [2_000, 500]
    assert figures(job, "late") == 2
    job = seen(lambda rows: rows.with_columns(n=count().over(expanding()), before=col("t").lag()), [1_000])
    job.advance_watermark("in", 5_000)
    job.send("in", row("a", 7))
    assert [(out["n"], out["before"]) for out in job.read("out")] == [(1, None), (2, 1_000)]


def test_a_late_record_is_not_seen_by_later_ones():
    job = seen(lambda rows: rows.with_columns(n=count().over(rolling("10s"))), [])
    job.advance_watermark("in", 100)
    for t in (50, 101, 102):
        job.send("in", row("a", t))
    assert [out["n"] for out in job.read("out")] == [1, 2]


def test_several_frames_in_one_call_and_the_frame_set_before():
    def build(rows):
        framed = rows.window(rolling("10s"))
        return framed.with_columns(n=count(), low=col("x").min(), ever=count().over(expanding()), before=col("x").lag())

    job = seen(build, [0, 9_999, 10_000])
    assert [(out["n"], out["low"], out["ever"], out["before"]) for out in job.read("out")] == [
        (1, 0.0, 1, None),
        (2, 0.0, 2, 0.0),
        (2, 9_999.0, 3, 9_999.0),
    ]


def test_aggregates_in_conditions_and_calculations():
    def build(rows):
        return (
            rows.with_columns(z=(col("x") - col("x").mean().over(expanding())) / 2)
            .filter(count().over(rolling("10s")) >= 2)
            .select("t", "z", n=count().over(expanding()))
        )

    job = seen(build, [0, 4, 8])
    assert job.read("out") == [{"t": 4, "z": 1.0, "n": 1}, {"t": 8, "z": 2.0, "n": 2}]


def test_filters_of_aggregates():
    job = driver(
        lambda rows: rows.key_by("k").with_columns(
            big=count().filter(col("x") > 2).over(rolling("10s")),
            total=col("x").sum().over(expanding()),
            some=col("x").count().over(expanding()),
        )
    )
    for x in (1.0, 3.0, None, 5.0):
        job.send("in", row(x=x))
    assert [(out["big"], out["total"], out["some"]) for out in job.read("out")] == [(0, 1.0, 1), (1, 4.0, 2), (1, 4.0, 2), (2, 9.0, 3)]


def test_state_shows_what_the_frame_holds_and_survives():
    job = driver(
        lambda rows: rows.key_by("k").with_columns(
            recent=count().over(rolling("10s")), top=col("x").max().over(expanding()), before=col("x").lag(), name="frames"
        )
    )
    for k, t, x in [("a", 0, 7.0), ("b", 0, 1.0), ("a", 5_000, 2.0)]:
        job.send("in", row(k, t, x=x))
    assert job.state("frames") == {"a": {"recent": 2, "top": 7.0, "before": 2.0}, "b": {"recent": 1, "top": 1.0, "before": 1.0}}
    crash(job, parallelism=3)
    assert set(job.state("frames")) == {"a", "b"}
    job.send("in", row("a", 9_999, x=0.0))
    assert [(out["recent"], out["top"], out["before"]) for out in job.read("out")][-1] == (3, 7.0, 2.0)


@operator
def velocity(transactions, *, limit=3):
    return transactions.with_columns(recent=count()).filter(col("recent") >= limit)


def test_an_operator_of_verbs_uses_the_frame_in_front_of_it():
    job = seen(lambda rows: rows.window(rolling("60s")).process(velocity(limit=2), name="fast"), [0, 10, 61_000])
    assert [(out["t"], out["recent"]) for out in job.read("out")] == [(10, 2)]
    assert list(job.state("fast")) == ["a"]
    job = seen(lambda rows: rows.window(rolling("60s")).process(velocity), [0, 10, 20])
    assert [out["recent"] for out in job.read("out")] == [3]
    with pytest.raises(TopologyError, match="limits"):
        velocity(limits=3)


def test_a_frame_is_said_where_it_is_needed():
    with pytest.raises(TopologyError, match="over"):
        driver(lambda rows: rows.key_by("k").with_columns(n=count()))
    with pytest.raises(TopologyError, match="rolling"):
        count().over(tumbling("1s"))
    with pytest.raises(TopologyError, match="frame"):
        col("x").lag().over(rolling("1s"))
    with pytest.raises(TopologyError, match="with_columns"):
        driver(lambda rows: rows.key_by("k").window(rolling("1s")).count())


def test_durations_are_text_timedelta_or_milliseconds():
    for size in ("10s", datetime.timedelta(seconds=10), 10_000, "10000ms", "10 s", "0.1m4s"):
        job = seen(lambda rows, size=size: rows.with_columns(n=count().over(rolling(size))), [0, 9_999, 10_000])
        assert [out["n"] for out in job.read("out")] == [1, 2, 2]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(-50, 50)), max_size=25),
    st.sampled_from([1, 10, 30]),
    st.booleans(),
    st.integers(0, 20),
    st.integers(0, 25),
    st.integers(1, 3),
)
def test_rolling_answers_as_the_rule_reads(sent, size, exclude, disorder, restore, parallelism):
    frame = rolling(size, exclude_current=exclude)
    job = driver(
        lambda rows: rows.key_by("k").with_columns(times=col("t").to_list().over(frame), n=count().over(frame)),
        tags=["late"],
        disorder=disorder,
        parallelism=parallelism,
    )
    kept, expected, late, watermark = {"a": [], "b": []}, {"a": [], "b": []}, [], -(2**63)
    for i, (k, t) in enumerate(sent):
        if i == restore:
            crash(job, 4 - parallelism)
        job.send("in", row(k, t))
        if t <= watermark:
            late.append(t)
            continue
        before = [time for time in kept[k] if t - size < time <= t]
        expected[k].append(before if exclude else [*before, t])
        kept[k].append(t)
        watermark = max(watermark, t - disorder - 1)
    found = {"a": [], "b": []}
    for out in job.read("out"):
        assert out["n"] == len(out["times"] or [])
        found[out["k"]].append(out["times"] or [])
    assert found == expected
    assert [out["t"] for out in job.read("late")] == late


@pytest.mark.parametrize("restored", [False, True])
def test_what_the_watermark_has_passed_is_forgotten_with_its_key(restored):
    frames = {"n": count().over(rolling("10s")), "xs": col("x").to_list().over(rolling("5s"))}
    job = driver(lambda rows: rows.key_by("k").with_columns(**frames), watermarks="external")
    job.send("in", row("a", 1_000, x=1.0))
    for i in range(600):
        job.send("in", row(f"key-{i}", 1_000 + 10 * i, x=0.0))
        if i == 300 and restored:
            crash(job)
        job.advance_watermark("in", 10 * i)
    # All ten seconds of one key are still to be seen, long after those of others have come.
    job.send("in", row("a", 10_999, x=2.0))
    assert job.read("out")[-1]["n"] == 2
    for i in range(600, 6_000):
        job.send("in", row(f"key-{i}", 1_000 + 10 * i, x=0.0))
        job.advance_watermark("in", 10 * i)
    kept = figures(job, "keys")
    assert 1_100 <= kept <= 3_500  # ten seconds hold a thousand keys
    job.send("in", row("key-5", 80_000, x=3.0))
    assert job.read("out")[-1]["n"] == 1


def test_a_key_with_more_than_rolling_frames_stays():
    frames = {"n": count().over(rolling("1s")), "before": col("t").lag()}
    job = driver(lambda rows: rows.key_by("k").with_columns(**frames), watermarks="external")
    job.send("in", row("a", 1_000))
    for i in range(500):
        job.send("in", row(f"key-{i}", 10_000 + 10 * i))
        job.advance_watermark("in", 10_000 + 10 * i)
    job.send("in", row("a", 100_000))
    out = job.read("out")[-1]
    assert (out["n"], out["before"]) == (1, 1_000)
