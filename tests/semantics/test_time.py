"""Event time: watermarks of several partitions, idleness, the end; what is on time and what is late."""

import datetime

import pyarrow as pa
import pytest

from streamdsl import DataError, Topology, TopologyError, count, dead_letter, event_time, memory, tumbling
from streamdsl.testing import TopologyTestDriver
from tests.semantics.jobs import at, crash, driver, ms, row


def windowed(**options):
    return driver(lambda rows: rows.key_by("k").window(tumbling("1s")).count(), tags=["late"], **options)


def starts(job):
    return [(out["k"], ms(out["window_start"])) for out in job.read("out")]


@pytest.mark.parametrize("disorder", [0, "500ms", datetime.timedelta(milliseconds=500)])
def test_the_watermark_is_the_greatest_time_less_the_disorder_and_1_ms(disorder):
    job, bound = windowed(disorder=disorder), 500 if disorder else 0
    job.send("in", row("a", 0))
    job.send("in", row("b", 999 + bound))
    assert starts(job) == []
    job.send("in", row("b", 1_000 + bound))
    assert ("a", 0) in starts(job)


def test_a_partition_that_is_behind_holds_the_watermark_back():
    job = windowed(partitions=2, watermarks="external")
    job.send("in", row("a", 0), partition=0)
    job.advance_watermark("in", 5_000, partition=0)
    assert starts(job) == []
    job.advance_watermark("in", 999, partition=1)
    assert starts(job) == [("a", 0)]


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_an_idle_partition_steps_aside_and_does_not_pull_time_back(parallelism):
    job = windowed(partitions=2, parallelism=parallelism, watermarks="external")
    job.send("in", row("a", 0), partition=0)
    job.idle("in", partition=1)
    job.advance_watermark("in", 5_000, partition=0)
    assert starts(job) == [("a", 0)]
    job.active("in", partition=1)
    job.send("in", row("b", 4_000), partition=1)
    assert [out["k"] for out in job.read("late")] == ["b"]
    job.send("in", row("a", 6_000), partition=0)
    job.advance_watermark("in", 8_000, partition=0)
    # The one that woke behind the task's watermark stays out until it has caught up.
    assert starts(job) == [("a", 6_000)]
    job.advance_watermark("in", 8_000, partition=1)
    job.send("in", row("a", 9_000), partition=0)
    job.advance_watermark("in", 20_000, partition=0)
    assert starts(job) == []
    job.advance_watermark("in", 20_000, partition=1)
    assert starts(job) == [("a", 9_000)]


def test_when_all_are_idle_time_goes_on_to_the_greatest():
    job = windowed(partitions=2, watermarks="external")
    job.send("in", row("a", 0), partition=0)
    job.advance_watermark("in", 5_000, partition=0)
    job.idle("in", partition=0)
    assert starts(job) == []
    job.idle("in", partition=1)
    assert starts(job) == [("a", 0)]


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_an_idle_timeout_needs_only_the_wall_clock(parallelism):
    job = windowed(partitions=2, parallelism=parallelism, idle_timeout="10s")
    job.send("in", row("a", 0), partition=0)
    job.send("in", row("a", 3_000), partition=0)
    job.advance_processing_time(9_000)
    job.send("in", row("a", 3_001), partition=0)
    assert starts(job) == []
    job.advance_processing_time(1_001)
    assert starts(job) == [("a", 0)]


def test_a_smaller_watermark_and_one_sent_while_idle_are_ignored():
    job = windowed(watermarks="external")
    job.advance_watermark("in", 5_000)
    job.advance_watermark("in", 1_000)
    job.send("in", row("a", 5_500))
    assert starts(job) == []
    job.send("in", row("b", 4_500))
    assert [out["k"] for out in job.read("late")] == ["b"]


def test_the_end_of_one_partition_lets_the_others_go_on():
    topology = Topology("job")
    one, two = (topology.stream(memory(name, schema={"k": str, "t": int}), timestamp="t") for name in ("one", "two"))
    one.merge(two).key_by("k").window(tumbling("1s")).count().to(memory("out"))
    job = TopologyTestDriver(topology, parallelism=2)
    job.send("one", {"k": "a", "t": 0})
    job.send("two", {"k": "a", "t": 100})
    job.send("one", {"k": "a", "t": 5_000})
    assert job.read("out") == []
    job.end("two")
    assert [out["count"] for out in job.read("out")] == [2]
    job.end()
    assert [out["count"] for out in job.read("out")] == [1]


@pytest.mark.parametrize("parallelism", [1, 3])
def test_an_input_that_ends_says_nothing_of_one_that_is_idle(parallelism):
    """Its last watermark lies above all: the rows of the other one would be late when it wakes."""
    topology = Topology("t")
    schema = {"k": str, "t": int}
    a, b = (topology.stream(memory(name, schema=schema), timestamp="t", watermarks="external") for name in ("a", "b"))
    counts = a.merge(b).key_by("k").window(tumbling(10)).count()
    counts.to(memory("out"))
    counts.output("late").to(memory("late"))
    job = TopologyTestDriver(topology, parallelism=parallelism)
    job.send("a", {"k": "x", "t": 1})
    job.idle("a")
    job.end("b")
    assert job.read("out") == []
    job.active("a")
    job.send("a", {"k": "x", "t": 2})
    job.end("a")
    assert ([row["count"] for row in job.read("out")], job.read("late")) == ([2], [])


@pytest.mark.parametrize("parallelism", [1, 3])
def test_lateness_is_remembered_across_a_crash(parallelism):
    job = windowed(watermarks="external", parallelism=parallelism)
    job.send("in", row("a", 0))
    job.advance_watermark("in", 2_000)
    assert starts(job) == [("a", 0)]
    crash(job, 4 - parallelism)
    job.send("in", row("a", 500))
    job.send("in", row("a", 1_500))
    job.end()
    assert ([out["t"] for out in job.read("late")], starts(job)) == ([500, 1_500], [])


def test_event_time_is_the_column_the_override_or_the_records_own():
    job = driver(lambda rows: rows.select("n", time=event_time()))
    job.send("in", row(t=5, n=1))
    job.send("in", row(t=5, n=2), timestamp=9)
    assert job.read("out", timestamps=True) == [(5, {"n": 1, "time": at(5)}), (9, {"n": 2, "time": at(9)})]
    job = driver(lambda rows: rows.select("n"), timestamp=None)
    job.send_batch("in", [row(n=1), row(n=2)], timestamps=[7, -8])
    assert job.read("out", timestamps=True) == [(7, {"n": 1}), (-8, {"n": 2})]


def test_finer_times_are_floored_also_before_1970():
    job = driver(lambda rows: rows, schema=pa.schema([("t", pa.timestamp("ns"))]))
    job.send("in", {"t": datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999)})
    job.send("in", {"t": datetime.datetime(1970, 1, 1, 0, 0, 0, 1_999)})
    assert [time for time, _ in job.read("out", timestamps=True)] == [-1, 1]


def test_times_near_the_ends_of_int64_do_not_wrap():
    low, high = -(2**63) + 1, 2**63 - 2
    job = driver(lambda rows: rows.key_by("k").window(tumbling("1s"), grace="1d").aggregate(n=count()).select("n"), disorder="1d")
    for t in (low, high):
        job.send("in", row("a", t))
    job.end()
    assert [out["n"] for out in job.read("out")] == [1, 1]


def test_what_can_be_a_time():
    for type_ in (float, bool, bytes):
        with pytest.raises(TopologyError, match="timestamp"):
            driver(lambda rows: rows, schema={"t": type_})
    with pytest.raises(TopologyError, match="'time'"):
        driver(lambda rows: rows, schema={"time_": int}, timestamp="time")
    for bad in ("soon", -1, "1y", 0.5):
        with pytest.raises(TopologyError, match="disorder"):
            driver(lambda rows: rows, disorder=bad)
    with pytest.raises(TopologyError, match="external"):
        driver(lambda rows: rows, watermarks="none")


def test_one_absurd_time_is_handled_as_an_error():
    job = windowed(max_ahead="1h", errors="skip")
    job.send("in", row("a", 0))
    job.send("in", row("a", 10**15))
    job.send("in", row("a", 500))
    job.end()
    assert [ms(out["window_start"]) for out in job.read("out")] == [0]
    assert job.read("late") == []


def test_an_input_that_is_days_ahead_of_another_is_no_error():
    """A replay reads partitions at different speeds: only the clock tells what lies in the future."""
    topology = Topology("job")
    schema = {"k": str, "t": int}
    for name in ("slow", "fast"):
        rows = topology.stream(memory(name, schema=schema), timestamp="t", max_ahead="1h", errors="skip")
        rows.to(memory(f"{name} out"))
    job = TopologyTestDriver(topology, start_ms=100 * 86_400_000)
    job.send("slow", {"k": "a", "t": 0})
    job.send("fast", {"k": "a", "t": 90 * 86_400_000})
    job.send("fast", {"k": "a", "t": 101 * 86_400_000})
    assert [len(job.read(f"{name} out")) for name in ("slow", "fast")] == [1, 1]


def test_a_record_without_a_time_is_a_bad_record():
    job = windowed(errors="skip")
    job.send("in", row("a", None))
    job.send("in", row("a", 5))
    job.end()
    assert [out["count"] for out in job.read("out")] == [1]
    topology = Topology("job")
    rows = topology.stream(memory("in", schema={"k": str, "t": int | None}), timestamp="t", errors=dead_letter(memory("dead")))
    rows.to(memory("out"))
    job = TopologyTestDriver(topology, start_ms=77)
    job.send("in", {"k": "a", "t": None})
    [letter] = job.read("dead")
    assert (letter["operator"], letter["timestamp"]) == ("in", at(77))
    assert (b'"a"' in letter["value"], "time" in letter["error"]) == (True, True)
    with pytest.raises(DataError, match="event time"):
        windowed().send("in", row("a", None))


def test_a_record_is_not_late_for_the_watermark_that_it_makes_itself():
    """Lateness is judged against W before the record."""
    job = windowed()
    job.send("in", row("a", 10_000))
    job.send("in", row("a", 10_000))
    job.send("in", row("a", 20_000))
    assert job.read("late") == []
    job.send("in", row("a", 5_000))
    assert len(job.read("late")) == 1


@pytest.mark.parametrize("parallelism", [1, 2])
def test_rows_that_a_watermark_makes_leave_before_it(parallelism):
    """Records produced because W arrived leave before W does: no stage makes the rows of another late."""
    job = driver(
        lambda rows: rows.key_by("k").window(tumbling("1s")).count().key_by().window(tumbling("1s")).aggregate(n=count()),
        tags=["late"],
        watermarks="external",
        parallelism=parallelism,
    )
    for k in "abcdef":
        job.send("in", row(k, 500))
    job.advance_watermark("in", 999)
    assert [(ms(out["window_start"]), out["n"]) for out in job.read("out")] == [(0, 6)]
    assert job.read("late") == []


def test_negative_times_have_windows_of_their_own():
    job = windowed(watermarks="external")
    for t in (-1_001, -1_000, -1, 0):
        job.send("in", row("a", t))
    job.advance_watermark("in", 5_000)
    assert starts(job) == [("a", -2_000), ("a", -1_000), ("a", 0)]
