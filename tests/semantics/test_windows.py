"""Tumbling and hopping windows: which records, when they close, what is late, what comes out and in which order."""

import datetime

import pytest

from streamdsl import TopologyError, col, count, hopping, sliding, tumbling
from tests.semantics.jobs import at, crash, driver, figures, ms, row


def counted(window, tags=(), parallelism=1, stream=(), **options):
    return driver(
        lambda rows: rows.key_by("k").window(window, **options).count(name="w"),
        tags=tags,
        parallelism=parallelism,
        watermarks="external",
        **dict(stream),
    )


def send(job, *times, k="a"):
    for time in times:
        job.send("in", row(k, time))


def found(job):
    return [(out["k"], ms(out["window_start"]), ms(out["window_end"]), out["count"]) for out in job.read("out")]


def test_a_window_is_half_open_and_aligned_to_the_epoch():
    job = counted(tumbling("10s"))
    send(job, 0, 9_999, 10_000, -1, -10_000, -10_001)
    job.end()
    assert found(job) == [("a", -20_000, -10_000, 1), ("a", -10_000, 0, 2), ("a", 0, 10_000, 2), ("a", 10_000, 20_000, 1)]


def test_the_offset_moves_the_grid():
    job = counted(tumbling("10s", offset="3s"))
    send(job, 2_999, 3_000, 12_999, -7_000)
    job.end()
    assert found(job) == [("a", -7_000, 3_000, 2), ("a", 3_000, 13_000, 2)]


def test_a_record_is_in_every_hopping_window_that_holds_it():
    job = counted(hopping("10s", "4s"))
    send(job, 0)
    job.end()
    assert found(job) == [("a", -8_000, 2_000, 1), ("a", -4_000, 6_000, 1), ("a", 0, 10_000, 1)]


def test_hopping_with_an_offset_and_every_by_name():
    job = counted(hopping(datetime.timedelta(seconds=10), every=5_000, offset="1s"))
    send(job, 1_000)
    job.end()
    assert found(job) == [("a", -4_000, 6_000, 1), ("a", 1_000, 11_000, 1)]


def test_a_row_has_the_time_of_the_windows_last_millisecond():
    job = counted(tumbling("10s"))
    send(job, 5)
    job.end()
    assert job.read("out", timestamps=True) == [(9_999, {"k": "a", "window_start": at(0), "window_end": at(10_000), "count": 1})]


@pytest.mark.parametrize("grace", [0, 500])
def test_a_window_is_open_while_the_watermark_is_below_its_last_moment_and_grace(grace):
    job = counted(tumbling("1s"), grace=grace, tags=["late"])
    send(job, 0)
    job.advance_watermark("in", 998 + grace)
    send(job, 999)
    assert job.read("out") == []
    job.advance_watermark("in", 999 + grace)
    assert found(job) == [("a", 0, 1_000, 2)]
    send(job, 500, 1_000)
    assert [out["t"] for out in job.read("late")] == [500]
    job.end()
    assert found(job) == [("a", 1_000, 2_000, 1)]
    assert (figures(job, "late"), figures(job, "late_refusals")) == (1, 1)


def test_a_refusal_is_counted_for_each_window_and_a_late_record_once():
    job = counted(hopping("10s", "5s"), tags=["late"])
    job.advance_watermark("in", 9_999)
    send(job, 7_000, 1_000)
    job.end()
    assert found(job) == [("a", 5_000, 15_000, 1)]
    assert [out["t"] for out in job.read("late")] == [1_000]
    assert (figures(job, "late"), figures(job, "late_refusals")) == (1, 3)


def test_late_records_leave_by_the_tag_that_is_named():
    job = counted(tumbling("1s"), late="stragglers", tags=["stragglers"])
    job.advance_watermark("in", 5_000)
    send(job, 1)
    assert [out["t"] for out in job.read("stragglers")] == [1]


def test_windows_close_in_order_of_end_then_start_then_key():
    job = counted(tumbling("10s"))
    for k, t in [("b", 25_000), ("b", 1), ("a", 25_000), ("é", 2), ("a", 15_000), ("", 3)]:
        send(job, t, k=k)
    job.end()
    assert [(k, start) for k, start, _, _ in found(job)] == [("", 0), ("b", 0), ("é", 0), ("a", 10_000), ("a", 20_000), ("b", 20_000)]


def test_update_gives_a_row_for_each_change_and_none_at_the_close():
    job = counted(tumbling("10s"), emit="update", grace="5s")
    send(job, 1, 2)
    job.advance_watermark("in", 10_000)
    send(job, 3)
    job.end()
    assert [out[3] for out in found(job)] == [1, 2, 3]


def test_end_closes_every_window_and_a_crash_none():
    job = counted(tumbling("10s"), parallelism=3)
    for k in "abc":
        send(job, 1, k=k)
    crash(job, parallelism=1)
    assert job.read("out") == []
    assert set(job.state("w")) == {"a", "b", "c"}
    send(job, 2, k="a")
    job.end()
    assert found(job) == [("a", 0, 10_000, 2), ("b", 0, 10_000, 1), ("c", 0, 10_000, 1)]
    assert job.state("w") == {}


def test_state_shows_the_open_windows():
    job = counted(hopping("10s", "5s"))
    send(job, 6_000)
    assert job.state("w") == {
        "a": [
            {"window_start": at(0), "window_end": at(10_000), "count": 1},
            {"window_start": at(5_000), "window_end": at(15_000), "count": 1},
        ]
    }


def test_a_row_behind_grace_is_not_late_at_the_next_stage():
    def build(rows):
        first = rows.key_by("k").window(tumbling("1s"), grace="3s").count(name="first")
        return first.key_by("k").window(tumbling("1s")).aggregate(total=col("count").sum())

    job = driver(build, watermarks="external")
    send(job, 0)
    job.advance_watermark("in", 3_998)
    send(job, 10)
    assert job.read("out") == []
    job.advance_watermark("in", 3_999)
    assert [out["total"] for out in job.read("out")] == [2]
    assert figures(job, "late") == 0


def test_reduce_in_a_window():
    job = driver(
        lambda rows: (
            rows.select("k", "t", "n")
            .key_by("k")
            .window(tumbling("1s"))
            .reduce(lambda a, b: {"k": a.k, "t": b.t, "n": a.n + b.n}, name="r")
        ),
        watermarks="external",
    )
    for t, n in [(0, 1), (500, 2), (1_000, 4)]:
        job.send("in", row("a", t, n=n))
    crash(job)
    assert [(ms(window["window_start"]), window["n"]) for window in job.state("r")["a"]] == [(0, 3), (1_000, 4)]
    job.end()
    assert [(ms(out["window_start"]), out["t"], out["n"]) for out in job.read("out")] == [(0, 500, 3), (1_000, 1_000, 4)]


def test_a_record_that_is_late_when_read_one_by_one_is_late_in_a_batch():
    """P5: the source ends a batch in front of a record that the watermark has overtaken since the batch began."""
    times = [0, 500, 2_500, 700, 2_600, 1_200, 5_000, 3_100]

    def run(cuts, batch=None):
        job = driver(lambda rows: rows.key_by("k").window(tumbling("1s")).count(), tags=["late"], disorder="1s")
        for part in cuts:
            job.send_batch("in", [row("a", t) for t in part])
        job.end()
        return found(job), [out["t"] for out in job.read("late")]

    one_by_one = run([[t] for t in times])
    assert one_by_one[1] == [700, 3_100]
    assert run([times]) == run([times[:3], times[3:]]) == one_by_one


def test_windows_that_do_not_exist_name_what_does():
    with pytest.raises(TopologyError, match="hopping"):
        sliding("10s", "5s")
    with pytest.raises(TopologyError, match="every"):
        hopping("5s", "10s")
    for size in ("0s", 0, "-1s", "soon", 1.5, True):
        with pytest.raises(TopologyError):
            tumbling(size)


def test_what_the_aggregate_may_not_be_called():
    for name in ("k", "window_start", "window_end"):
        with pytest.raises(TopologyError, match=name):
            driver(lambda rows, name=name: rows.key_by("k").window(tumbling("1s")).aggregate(**{name: count()}))
    for emit in ("throttle", "never"):
        with pytest.raises(TopologyError, match="emit"):
            counted(tumbling("1s"), emit=emit)
