"""Arithmetic on times saturates: near the ends of int64 nothing wraps, and windows neither overlap nor lose a record."""

from __future__ import annotations

from typing import Any

import pytest

from streamdsl import Topology, col, count, hopping, memory, sliding
from streamdsl.testing import TopologyTestDriver
from tests.windows.jobs import Job, Step, check, expected, found
from tests.windows.model import HIGH, LOW, Counted, Hopping, Kind, Record, Session, Sliding

FIXED = [Hopping(10, 10), Hopping(10, 5), Hopping(10, 3), Hopping(16, 8), Hopping(1_000, 2, 1), Hopping(10, 10, 3)]
KINDS = [*FIXED, Session(10), Sliding(10)]
CONTENTS = ["list", "reduce"]
TIMES = [LOW + 1, LOW + 2, LOW + 9, LOW + 25, HIGH - 25, HIGH - 9, HIGH - 1, HIGH]


def steps(times: list[int], first: int = 0) -> list[Step]:
    return [Step("rows", records=tuple(Record(number, "a", time) for number, time in enumerate(times, first)))]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("grace", [0, 30])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_windows_at_the_ends_of_time(kind: Kind, grace: int, content: str) -> None:
    job = Job(kind, grace=grace, content=content)
    # Sliding windows that begin before time does would all begin at its first moment.
    times = [time for time in TIMES if time > LOW + 20 or not isinstance(kind, Sliding)]
    got, wanted = found(job, steps(times)), expected(job, steps(times))
    assert got.late == wanted.late == [[], []]
    # A window of which the end lies behind the end of time has one of the last two moments for its last.
    told, should = ([(row.start, row.end, row.numbers, min(row.time, HIGH - 1)) for row in outcome.rows[-1]] for outcome in (got, wanted))
    assert sorted(told) == sorted(should)


@pytest.mark.parametrize("emit", ["close", "update", "on_time", "throttle"])
@pytest.mark.parametrize("kind", [Hopping(10, 10), Hopping(10, 5), Session(10), Sliding(10), Counted(2, 1)], ids=str)
def test_a_row_that_was_reduced_may_be_of_any_time(kind: Kind, emit: str) -> None:
    for time in (2**62, -(2**62)):
        job = Job(kind, emit=emit if not isinstance(kind, Counted) else "close", content="reduce")
        check(job, [*steps([time, time + 3]), Step("checkpoint"), Step("crash"), *steps([time + 4], first=2)])


EARLY = {"hopping": (hopping(10, 1), 9), "sliding": (sliding(10), 10)}


@pytest.mark.parametrize("content", [*CONTENTS, "count"])
@pytest.mark.parametrize("window", EARLY)
def test_a_record_is_refused_of_which_windows_would_begin_before_time_does(window: str, content: str) -> None:
    windows, reach = EARLY[window]

    def driver(**policy: Any) -> TopologyTestDriver:
        topology = Topology("early")
        windowed = (
            topology.stream(memory("in", schema={"k": str, "t": int}), timestamp="t", watermarks="external").key_by("k").window(windows)
        )
        made = {
            "list": lambda: windowed.aggregate(of=col("t").max(), ts=col("t").to_list(), **policy),
            "reduce": lambda: windowed.reduce(lambda a, b: b, **policy),
            "count": lambda: windowed.aggregate(of=col("t").max(), n=count(), **policy),
        }[content]()
        made.select(of=col("of" if content != "reduce" else "t")).to(memory("out"))
        return TopologyTestDriver(topology)

    job = driver()
    job.send("in", {"k": "a", "t": LOW + reach})
    with pytest.raises(Exception, match="would begin before the first moment there is"):
        job.send("in", {"k": "a", "t": LOW + reach - 1})
    job = driver(errors="skip")
    for t in (LOW, LOW + reach, LOW + 1, LOW + reach - 1):
        job.send("in", {"k": "b", "t": t})
    job.end()
    assert {row["of"] for row in job.read("out")} == {LOW + reach}
