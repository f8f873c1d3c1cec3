"""Frames: one row in, one row out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import col, count, expanding, rolling
from streamdsl.errors import DataError
from tests.aggregates.jobs import AGGREGATES, arrivals, cut, driven, rising, row, send
from tests.aggregates.oracle import Arrival, framed, same

SIZE = 10
CUTS = st.lists(st.integers(0, 40), max_size=4)


def column(driver, name):
    return [out[name] for out in driver.read("out")]


def at(*times, **values):
    return [Arrival(time, row(**values) | {"t": time}) for time in times]


def test_rolling_is_half_open():
    driver = driven(lambda keyed: keyed.with_columns(n=count().over(rolling(10))))
    send(driver, at(0, 9, 10, 19, 20))
    assert column(driver, "n") == [1, 2, 2, 2, 2]


def test_rolling_sees_what_arrived_before_and_is_not_younger():
    driver = driven(lambda keyed: keyed.with_columns(n=count().over(rolling(10))))
    send(driver, at(5, 20, 6, 5, 15))
    assert column(driver, "n") == [1, 1, 2, 2, 2]


def test_the_current_row_can_be_left_out():
    driver = driven(
        lambda keyed: keyed.with_columns(
            n=count().over(rolling(10, exclude_current=True)),
            all=count().over(expanding()),
            mean=col("f").mean().over(expanding(exclude_current=True)),
        )
    )
    send(driver, [Arrival(time, row(f=float(time)) | {"t": time}) for time in (0, 5, 40)])
    assert [(out["n"], out["all"], out["mean"]) for out in driver.read("out")] == [(0, 1, None), (1, 2, 0.0), (0, 3, 2.5)]


def test_a_row_at_the_watermark_is_late_for_rolling():
    driver = driven(lambda keyed: keyed.with_columns(n=count().over(rolling(10))), late="late")
    send(driver, [*at(5), Arrival(7, None), *at(7, 8, 3, 9)])
    assert column(driver, "n") == [1, 2, 3]
    assert [out["t"] for out in driver.read("late")] == [7, 3]
    assert sum(metrics.get("late", 0) for metrics in driver.metrics()["operators"].values()) == 2


def test_expanding_and_lag_know_no_lateness():
    driver = driven(lambda keyed: keyed.with_columns(n=count().over(expanding()), before=col("t").lag()))
    send(driver, [*at(5), Arrival(100, None), *at(7, 3)])
    assert [(out["n"], out["before"]) for out in driver.read("out")] == [(1, None), (2, 5), (3, 7)]


@pytest.mark.parametrize("n", [1, 2, 4, 5, 9])
def test_lag_looks_back_n_arrivals_of_the_key(n):
    driver = driven(lambda keyed: keyed.with_columns(old=col("s").lag(n)))
    texts = [None if i % 5 == 3 else f"text {i}" * (i % 7) for i in range(30)]
    send(driver, [Arrival(0, row("a", s=text)) for text in texts])
    assert column(driver, "old") == [None] * n + texts[:-n]


def test_an_overflow_is_an_error_of_the_record():
    driver = driven(lambda keyed: keyed.with_columns(total=col("i").sum().over(expanding()), n=count().over(rolling(10))))
    with pytest.raises(DataError, match="overflow"):
        send(driver, [Arrival(0, row(i=2**63 - 1)), Arrival(0, row("b", i=1)), Arrival(0, row(i=1))])


def test_the_ends_of_time_do_not_wrap():
    driver = driven(lambda keyed: keyed.with_columns(n=count().over(rolling(10)), total=col("i").sum().over(rolling(10))))
    low, high = -(2**63) + 2, 2**63 - 2
    send(driver, at(low, low + 9, high - 9, high, high, low + 1, i=1))
    assert [(out["n"], out["total"]) for out in driver.read("out")] == [(1, 1), (2, 2), (1, 1), (2, 2), (3, 3), (2, 2)]


def test_many_rows_of_one_key_are_forgotten_as_time_passes():
    driver = driven(lambda keyed: keyed.with_columns(n=count().over(rolling(100)), first=col("s").first().over(rolling(100))))
    for time in range(0, 3000, 50):
        send(driver, [*[Arrival(time + i, row(s=f"{time + i}" * 3) | {"t": time + i}) for i in range(50)], Arrival(time + 40, None)])
    rows = driver.read("out")
    assert [out["n"] for out in rows] == [min(i + 1, 100) for i in range(3000)]
    assert [out["first"] for out in rows] == [f"{max(i - 99, 0)}" * 3 for i in range(3000)]


def check(frame, exclude, sent, cuts, restore):
    size = SIZE if frame is rolling else None
    made = rolling(SIZE, exclude_current=exclude) if frame is rolling else expanding(exclude_current=exclude)
    driver = driven(lambda keyed: keyed.window(made).with_columns(**AGGREGATES))
    if restore is not None:
        restore = min(restore, len(sent))
        cut(driver, sent[:restore], cuts)
        driver.checkpoint()
        driver.crash_and_restore()
        cut(driver, sent[restore:], cuts)
    else:
        cut(driver, sent, cuts)
    expected, _ = framed(sent, size, exclude)
    assert [same(out) for out in driver.read("out")] == [same(out) for out in expected]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([rolling, expanding]), st.booleans(), arrivals(), CUTS, st.none() | st.integers(0, 40))
def test_frames_answer_as_plain_python_does(frame, exclude, sent, cuts, restore):
    check(frame, exclude, sent, cuts, restore)


@settings(max_examples=30, deadline=None)
@given(st.booleans(), arrivals(st.integers(0, 200)).map(rising), CUTS)
def test_ordered_rows_take_the_short_way_to_the_same_answers(exclude, sent, cuts):
    check(rolling, exclude, sent, cuts, None)


@settings(max_examples=60, deadline=None)
@given(st.booleans(), arrivals(), CUTS)
def test_a_frame_that_only_counts_answers_as_one_that_keeps_more(exclude, sent, cuts):
    frame = rolling(SIZE, exclude_current=exclude)
    alone = driven(lambda keyed: keyed.with_columns(n=count().over(frame)))
    beside = driven(lambda keyed: keyed.with_columns(n=count().over(frame), i=col("i").sum().over(frame)))
    for driver in (alone, beside):
        cut(driver, sent, cuts)
    assert column(alone, "n") == column(beside, "n")


@settings(max_examples=30, deadline=None)
@given(st.booleans(), arrivals(), CUTS, st.integers(0, 40))
def test_results_of_one_shared_state_are_those_of_their_own(exclude, sent, cuts, restore):
    frame = expanding(exclude_current=exclude)
    made = {
        "mean": col("f").mean(),
        "sum": col("f").sum(),
        "std": col("f").std(ddof=0),
        "var": col("f").var(),
        "other": col("i").mean(),
        "some": col("f").mean().filter(col("b")),
        "bools": col("b").mean(),
    }
    together = driven(lambda keyed: keyed.with_columns(**{name: one.over(frame) for name, one in made.items()}))
    cut(together, sent[:restore], cuts)
    together.checkpoint()
    together.crash_and_restore()
    cut(together, sent[restore:], cuts)
    rows = together.read("out")
    for name, one in made.items():
        alone = driven(lambda keyed, name=name, one=one: keyed.with_columns(**{name: one.over(frame)}))
        cut(alone, sent, cuts)
        assert list(map(repr, column(alone, name))) == [repr(out[name]) for out in rows]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.text("xyñ", max_size=20)), max_size=40),
    CUTS,
)
def test_lag_of_texts_of_any_length(n, drawn, cuts):
    driver = driven(lambda keyed: keyed.with_columns(old=col("s").lag(n), older=col("s").lag(n + 1)))
    cut(driver, [Arrival(0, row(key, s=text)) for key, text in drawn], cuts)
    expected, earlier = [], {"a": [None] * (n + 1), "b": [None] * (n + 1)}
    for key, text in drawn:
        expected.append((earlier[key][-n], earlier[key][-n - 1]))
        earlier[key].append(text)
    assert [(out["old"], out["older"]) for out in driver.read("out")] == expected


def test_an_error_names_the_record_even_behind_late_ones():
    driver = driven(lambda keyed: keyed.with_columns(total=col("i").sum().over(rolling(10))))
    send(driver, [Arrival(5, None)])
    with pytest.raises(DataError) as raised:
        send(driver, [Arrival(1, row(i=1)), Arrival(6, row(i=2**63 - 1)), Arrival(2, row(i=1)), Arrival(7, row(i=1))])
    assert (raised.value.context["timestamp"], raised.value.context["record"]["i"], raised.value.field) == (7, 1, "total")
