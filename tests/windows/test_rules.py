"""Rules of windows, one by one, through the public driver; the property suite beside this file holds them all together."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

import pytest

from streamdsl import (
    Aggregate,
    Config,
    Processor,
    Topology,
    TopologyError,
    col,
    count,
    count_window,
    hopping,
    memory,
    session,
    sliding,
    throttle,
    tumbling,
)
from streamdsl.physical.zones import transitions
from streamdsl.testing import TopologyTestDriver

SCHEMA = {"k": str, "t": int, "n": int}


def driver(window: Any, made: Any = None, key: tuple[str, ...] = ("k",), tag: str = "", **options: Any) -> TopologyTestDriver:
    topology = Topology("windows")
    keyed = topology.stream(memory("in", schema=SCHEMA), timestamp="t", watermarks="external").key_by(*key)
    result = (made or (lambda windowed: windowed.aggregate(ns=col("n").to_list())))(keyed.window(window, **options))
    result.to(memory("out"))
    if tag:
        result.output(tag).to(memory("late"))
    return TopologyTestDriver(topology)


def send(job: TopologyTestDriver, *times: int, k: str = "a") -> None:
    for t in times:
        job.send("in", {"k": k, "t": t, "n": t})


def ms(moment: datetime.datetime) -> int:
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(milliseconds=1)


def found(job: TopologyTestDriver) -> list[Any]:
    return [(ms(row["window_start"]), ms(row["window_end"]), row["ns"]) for row in job.read("out")]


def changes(job: TopologyTestDriver) -> list[Any]:
    return [(row["op"], ms(row["window_start"]), ms(row["window_end"]), row["ns"]) for row in job.read("out")]


def test_records_exactly_a_gap_apart_are_in_one_session() -> None:
    job = driver(session(10))
    send(job, 0, 10, 21)
    job.end()
    assert found(job) == [(0, 20, [0, 10]), (21, 31, [21])]


def test_a_late_record_unites_two_open_sessions() -> None:
    job = driver(session(10))
    send(job, 0, 20)
    job.advance_watermark("in", 9)
    send(job, 10)
    job.end()
    assert found(job) == [(0, 30, [0, 20, 10])]


def test_united_sessions_keep_the_order_of_arrival() -> None:
    job = driver(session(10))
    send(job, 0, 20, 2, 11)
    job.end()
    assert found(job) == [(0, 30, [0, 20, 2, 11])]


def test_a_session_that_was_closed_takes_nothing_and_unites_with_nothing() -> None:
    job = driver(session(10), tag="late")
    send(job, 0, 25)
    job.advance_watermark("in", 11)
    assert found(job) == [(0, 10, [0])]
    send(job, 10, -1)
    job.end()
    assert found(job) == [(10, 20, [10]), (25, 35, [25])]
    assert [row["t"] for row in job.read("late")] == [-1]


def test_a_session_that_grows_withdraws_its_old_bounds_once() -> None:
    job = driver(session(10), emit="update")
    send(job, 0, 5, 20, 14)
    assert changes(job) == [
        ("add", 0, 10, [0]),
        ("withdraw", 0, 10, [0]),
        ("add", 0, 15, [0, 5]),
        ("add", 20, 30, [20]),
        ("withdraw", 0, 15, [0, 5]),
        ("withdraw", 20, 30, [20]),
        ("add", 0, 30, [0, 5, 20, 14]),
    ]


def test_a_session_that_grows_leaves_when_its_last_end_has_come() -> None:
    job = driver(session(10))
    send(job, 0, 9, 18)
    send(job, 1, k="b")
    job.advance_watermark("in", 12)
    assert found(job) == [(1, 11, [1])]
    job.advance_watermark("in", 27)
    assert found(job) == []
    job.advance_watermark("in", 28)
    assert found(job) == [(0, 28, [0, 9, 18])]


def test_a_sliding_window_begins_with_the_records_that_are_in_it() -> None:
    job = driver(sliding(10))
    send(job, 0, 5, 11)
    job.end()
    assert found(job) == [(-10, 0, [0]), (-5, 5, [0, 5]), (1, 11, [5, 11]), (6, 16, [11])]


def test_a_closed_sliding_window_still_tells_what_a_new_one_begins_with() -> None:
    job = driver(sliding(10))
    send(job, 0)
    job.advance_watermark("in", 3)
    send(job, 5)
    job.end()
    assert found(job) == [(-10, 0, [0]), (-5, 5, [0, 5]), (1, 11, [5])]


def test_a_window_shown_on_time_takes_late_records_within_grace() -> None:
    job = driver(tumbling(10), emit="on_time", grace=5, tag="late")
    send(job, 1)
    job.advance_watermark("in", 9)
    send(job, 2)
    job.advance_watermark("in", 14)
    send(job, 3)
    assert found(job) == [(0, 10, [1]), (0, 10, [1, 2])]
    assert [row["t"] for row in job.read("late")] == [3]


def test_throttled_windows_leave_once_per_period_and_at_the_close() -> None:
    job = driver(tumbling(10), emit=throttle("1s"))
    send(job, 1, 2)
    job.advance_processing_time(999)
    assert found(job) == []
    job.advance_processing_time(1)
    assert found(job) == [(0, 10, [1, 2])]
    job.advance_processing_time(5_000)
    assert found(job) == []
    send(job, 3)
    job.checkpoint()
    job.crash_and_restore()
    job.end()
    assert found(job) == [(0, 10, [1, 2, 3])]


def test_a_throttled_session_that_begins_earlier_is_shown_at_its_time() -> None:
    job = driver(session(10), emit=throttle("1s"))
    send(job, 10, 5)
    job.advance_processing_time(1_000)
    assert changes(job) == [("add", 5, 20, [10, 5])]
    send(job, 1)
    assert changes(job) == [("withdraw", 5, 20, [10, 5])]
    job.advance_processing_time(1_000)
    assert changes(job) == [("add", 1, 20, [10, 5, 1])]


@pytest.mark.parametrize("window", [tumbling(10), hopping(10, 5), sliding(10), session(10)], ids=str)
def test_windows_that_wait_at_a_crash_are_shown_at_once_after_it(window: Any) -> None:
    """What had changed at the checkpoint is shown as it was then."""
    job = driver(window, emit=throttle("1s"))
    send(job, 7)
    job.checkpoint()
    job.crash_and_restore(parallelism=3)
    assert {tuple(row["ns"]) for row in job.read("out")} == {(7,)}
    send(job, 7)
    job.advance_processing_time(1_000)
    assert {tuple(row["ns"]) for row in job.read("out")} == {(7, 7)}


def test_count_windows_leave_when_they_are_full_and_at_the_end() -> None:
    job = driver(count_window(3, every=2))
    send(job, 5, 3, 9)
    assert found(job) == [(3, 9, [5, 3, 9])]
    job.checkpoint()
    job.crash_and_restore()
    send(job, 1, 2)
    assert found(job) == [(1, 9, [9, 1, 2])]
    job.end()
    assert found(job) == [(2, 2, [2])]


@pytest.mark.parametrize("window", [tumbling(10), hopping(10, 5), session(4), sliding(4), count_window(2)], ids=str)
def test_one_key_for_all_rows(window: Any) -> None:
    job, keyed = driver(window, key=()), driver(window)
    for k, t in (("a", 1), ("b", 2), ("c", 17)):
        send(job, t, k=k)
        send(keyed, t, k="one")
    job.end()
    keyed.end()
    assert found(job) == found(keyed) != []


def test_windows_of_windows() -> None:
    def made(windowed: Any) -> Any:
        first = windowed.count().with_columns(n=(col("window_end") - col("window_start")).cast(int), t=col("count"))
        return first.key_by("k").window(tumbling(100)).aggregate(ns=col("t").to_list())

    job = driver(session(5), made)
    send(job, 0, 3, 20, 40, 41)
    job.end()
    assert found(job) == [(0, 100, [2, 1, 2])]


class Listed(Processor):
    """The records of a window."""

    output = {"window_start": int, "window_end": int, "ns": list[int]}

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        yield {"window_start": window.start, "window_end": window.end, "ns": [row.n for row in rows]}


@pytest.mark.parametrize("window", [session(4), sliding(4), count_window(2), hopping(10, 5)], ids=str)
def test_a_processor_gets_the_rows_that_aggregates_get(window: Any) -> None:
    listed, job = driver(window, lambda windowed: windowed.process(Listed)), driver(window)
    for one in (listed, job):
        send(one, 0, 9, 3, 6, 20)
        one.checkpoint()
        one.crash_and_restore()
        one.end()
    assert [tuple(row.values()) for row in listed.read("out")] == found(job) != []


def test_a_processor_cannot_take_rows_back() -> None:
    with pytest.raises(TopologyError, match="takes rows back"):
        driver(session(4), lambda windowed: windowed.process(Listed), emit="update")


def test_a_reduction_refuses_the_record_that_fails_and_keeps_the_others() -> None:
    def added(a: Any, b: Any) -> Any:
        if b.n == 7:
            raise ValueError("seven")
        return {"k": a.k, "t": b.t, "n": a.n + b.n}

    job = driver(session(10), lambda windowed: windowed.reduce(added, errors="skip"))
    send(job, 1, 7, 5)
    job.end()
    assert [(row["n"], ms(row["window_end"])) for row in job.read("out")] == [(6, 15)]


def test_an_own_aggregate_that_merges_is_merged() -> None:
    own = Aggregate(init=list, add=lambda so_far, n: [*so_far, n], merge=lambda a, b: [*a, *b], type=list[int])
    job = driver(session(10), lambda windowed: windowed.aggregate(ns=own(col("n"))))
    send(job, 0, 20, 10)
    job.end()
    assert found(job) == [(0, 30, [0, 20, 10])]


def test_an_own_aggregate_without_a_merge_is_refused_in_sessions() -> None:
    own = Aggregate(init=int, add=lambda so_far, n: so_far + n, type=int)
    with pytest.raises(TopologyError, match="merge="):
        driver(session(10), lambda windowed: windowed.aggregate(ns=own(col("n"))))


def test_a_mean_of_no_number_is_null_beside_others() -> None:
    schema = {"k": str, "t": int, "x": float | None}
    rows = [{"k": k, "t": 1, "x": x} for k, x in (("a", None), ("b", 2.0), ("c", None), ("b", 5.0), ("d", -1.0))]
    topology, out = Topology("means"), memory("out")
    keyed = topology.stream(memory("in", schema, rows), timestamp="t").key_by("k")
    keyed.window(tumbling(10)).aggregate(n=count(), mean=col("x").mean(), total=col("x").sum()).to(out)
    topology.run()
    shown = [(row["k"], row["n"], row["mean"], row["total"]) for row in out.rows()]
    assert shown == [("a", 1, None, 0.0), ("b", 2, 3.5, 7.0), ("c", 1, None, 0.0), ("d", 1, -1.0, -1.0)]


def test_keys_that_do_not_come_again_leave_nothing() -> None:
    job = driver(session(10), lambda windowed: windowed.aggregate(ns=col("n").to_list()))
    for i in range(500):
        send(job, 100 * i, k=f"key-{i}")
        job.advance_watermark("in", 100 * i)
    figures = job.metrics()
    assert sum(one.get("open_windows", 0) for one in figures["operators"].values()) == 1
    assert sum(one.get("keys", 0) for one in figures["operators"].values()) == 1


def test_many_sessions_close_within_the_memory_of_state() -> None:
    keys = 20_000
    topology = Topology("many")
    rows = [{"k": f"key-{i * 7919 % keys}", "t": 1_000 + i // 50, "n": i} for i in range(2 * keys)]
    stream = topology.stream(memory("in", schema=SCHEMA, rows=rows), timestamp="t", disorder="5ms")
    sink = memory("out")
    stream.key_by("k").window(session("1h")).aggregate(size=count(), total=col("n").sum()).to(sink)
    run = topology.run(Config(parallelism=1, state_backend="memory", state_memory="1MiB", batch_rows=500))
    figures = run.metrics()["state"]
    made = sink.rows()
    assert figures["evicted"] > keys and len(made) == keys
    assert all(row["size"] == 2 for row in made) and sum(row["total"] for row in made) == keys * (2 * keys - 1)
    assert [(row["window_end"], row["window_start"]) for row in made] == sorted((row["window_end"], row["window_start"]) for row in made)


@pytest.mark.parametrize("tz", ["America/Santiago", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"])
def test_offsets_are_those_of_the_zone(tz: str) -> None:
    zone, found = zoneinfo.ZoneInfo(tz), transitions(tz)
    for year in range(1950, 2300, 7):
        for month in range(1, 13):
            moment = datetime.datetime(year, month, 13, 5, tzinfo=datetime.UTC)
            offset = moment.astimezone(zone).utcoffset()
            assert offset is not None
            at = ms(moment)
            held = [ms_ for start, ms_ in found if start <= at][-1]
            assert held == offset // datetime.timedelta(milliseconds=1)


@pytest.mark.parametrize("tz", ["America/Santiago", "Australia/Lord_Howe", "Asia/Kathmandu"])
def test_days_of_a_zone_begin_at_midnight_there_plus_the_offset(tz: str) -> None:
    zone = zoneinfo.ZoneInfo(tz)
    job = driver(tumbling("1d", tz=tz, offset="6h"))
    times = [1_712_000_000_000 + 7 * 3_600_000 * i for i in range(700)]
    send(job, *times)
    job.end()
    for start, end, ns in found(job):
        assert 22.5 <= (end - start) / 3_600_000 <= 25.5
        assert (datetime.datetime.fromtimestamp(start / 1000, zone).hour, datetime.datetime.fromtimestamp(start / 1000, zone).minute) == (
            6,
            0,
        )
        assert ns == [t for t in times if start <= t < end]
