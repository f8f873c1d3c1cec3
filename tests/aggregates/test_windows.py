"""Tumbling and hopping windows: one rule for what is late and what closes."""

import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import col, count, hopping, memory, tumbling
from streamdsl._native.windows.assign import is_open, windows_at
from tests.aggregates.jobs import AGGREGATES, arrivals, cut, driven, row, send
from tests.aggregates.oracle import Arrival, same, starts_of, windowed

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
LOW, HIGH = -(2**63), 2**63 - 1


def at(*times, **values):
    return [Arrival(time, row(**values) | {"t": time}) for time in times]


def ms(moment):
    return (moment - EPOCH) // datetime.timedelta(milliseconds=1)


def shown(driver, *columns):
    return [(out["k"], ms(out["window_start"]), *(out[name] for name in columns)) for out in driver.read("out")]


def counted(window, late=None, **options):
    return driven(lambda keyed: keyed.window(window, **options).aggregate(n=count()), late=late)


def test_a_window_closes_when_its_last_moment_is_reached():
    driver = counted(tumbling(10))
    send(driver, [*at(0, 9, 10), Arrival(8, None)])
    assert driver.read("out") == []
    send(driver, [Arrival(9, None)])
    assert driver.read("out", timestamps=True) == [
        (9, {"k": "a", "window_start": EPOCH, "window_end": EPOCH + datetime.timedelta(milliseconds=10), "n": 2})
    ]
    driver.end()
    assert shown(driver, "n") == [("a", 10, 1)]


def test_windows_close_in_order_of_end_then_key():
    driver = counted(tumbling(10))
    send(driver, [Arrival(time, row(key) | {"t": time}) for key in ("b", "é", "a", "", "aa") for time in (25, -5, 3)])
    driver.end()
    assert shown(driver) == [(key, start) for start in (-10, 0, 20) for key in ("", "a", "aa", "b", "é")]


def test_a_refused_record_is_late_only_where_its_window_is_closed():
    driver = counted(hopping(20, 10), late="late")
    send(driver, [*at(15), Arrival(19, None), *at(18, 5)])
    driver.end()
    assert shown(driver, "n") == [("a", 0, 1), ("a", 10, 2)]
    assert [out["t"] for out in driver.read("late")] == [5]
    [metrics] = [found for found in driver.metrics()["operators"].values() if "late_refusals" in found]
    assert metrics == {"late": 1, "late_refusals": 3, "open_windows": 0}


def test_grace_keeps_a_window_open():
    driver = counted(tumbling(10), grace=5)
    send(driver, [*at(1), Arrival(13, None), *at(2), Arrival(14, None), *at(3)])
    assert shown(driver, "n") == [("a", 0, 2)]


def test_no_stage_makes_the_rows_of_another_late():
    driver = driven(
        lambda keyed: (
            keyed.window(tumbling(10), grace=7).aggregate(n=count()).key_by("k").window(tumbling(10)).aggregate(total=col("n").sum())
        )
    )
    send(driver, [*at(1), Arrival(14, None), *at(2), Arrival(16, None)])
    send(driver, [Arrival(17, None)])
    assert shown(driver, "total") == [("a", 0, 2)]


def test_updates_come_for_each_record_and_window():
    driver = driven(lambda keyed: keyed.window(hopping(20, 10), emit="update").aggregate(n=count()))
    send(driver, [*at(5, 12), Arrival(9, None), *at(8), Arrival(100, None)])
    assert shown(driver, "n") == [("a", -10, 1), ("a", 0, 1), ("a", 0, 2), ("a", 10, 1), ("a", 0, 3)]


def test_many_windows_come_out_in_small_batches():
    driver = counted(tumbling(1))
    driver.send_batch("in", [row() | {"t": time} for time in range(10_000)])
    driver.advance_watermark("in", 9_998)
    assert shown(driver, "n") == [("a", time, 1) for time in range(9_999)]


def test_global_windows_have_no_key_columns():
    driver = driven(lambda keyed: keyed.key_by().window(tumbling(10)).aggregate(n=count()))
    send(driver, [Arrival(time, row(key) | {"t": time}) for key, time in (("a", 1), ("b", 2), ("a", 11))])
    driver.end()
    assert [(ms(out["window_start"]), out["n"]) for out in driver.read("out")] == [(0, 2), (10, 1)]


def test_late_rows_and_the_rest_can_both_be_read():
    def job(keyed):
        made = keyed.window(tumbling(10), late="stragglers").aggregate(n=count())
        made.output("stragglers").select("t").to(memory("late"))
        return made

    driver = driven(job)
    send(driver, [Arrival(50, None), *at(49, 50, 39)])
    driver.end()
    assert (shown(driver, "n"), driver.read("late")) == ([("a", 50, 1)], [{"t": 49}, {"t": 39}])


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.sampled_from([(10, 10, 0), (10, 10, 3), (12, 5, 0), (12, 4, 1), (7, 1, 0)]), st.sampled_from([0, 4]), st.booleans()),
    arrivals(),
    st.lists(st.integers(0, 40), max_size=4),
    st.none() | st.integers(0, 40),
    st.integers(1, 3),
)
def test_windows_answer_as_plain_python_does(window, sent, cuts, restore, parallelism):
    (size, every, offset), grace, updates = window
    emit = "update" if updates else "close"
    made = tumbling(size, offset=offset) if size == every else hopping(size, every, offset=offset)
    driver = driven(lambda keyed: keyed.window(made, grace=grace, emit=emit).aggregate(**AGGREGATES), late="late")
    restore = len(sent) if restore is None else min(restore, len(sent))
    cut(driver, sent[:restore], cuts)
    if restore < len(sent):
        driver.checkpoint()
        driver.crash_and_restore(parallelism)
        cut(driver, sent[restore:], cuts)
    driver.end()
    expected = windowed(sent, size, every, offset, grace)
    found = [
        same(out | {"window_start": ms(out["window_start"]), "window_end": ms(out["window_end"]), "time": time})
        for time, out in driver.read("out", timestamps=True)
    ]
    wanted = [same(out) for out in (expected.updates if updates else expected.closed)]
    if parallelism > 1 and restore < len(sent):
        found, wanted = sorted(found, key=repr), sorted(wanted, key=repr)
    assert found == wanted
    assert sorted(map(repr, driver.read("late"))) == sorted(map(repr, expected.late))


@given(st.integers(-1000, 1000), st.integers(1, 40), st.integers(1, 40), st.integers(-50, 50))
def test_assigned_windows_hold_the_moment(time, size, every, offset):
    every = min(size, every)
    assert windows_at(time, size, every, offset) == [(start, start + size) for start in starts_of(time, size, every, offset)]


def test_assignment_saturates_at_the_ends_of_time():
    assert windows_at(LOW, 10, 10) == [(LOW, LOW + 10)]
    assert windows_at(HIGH, 10, 10) == [(HIGH - 7, HIGH)]
    assert windows_at(LOW + 3, HIGH, HIGH, LOW) != []
    assert is_open(HIGH, 5, HIGH - 1)
    assert not is_open(HIGH, 5, HIGH)
    assert not is_open(10, 0, 9)
    assert is_open(10, 0, 8)
