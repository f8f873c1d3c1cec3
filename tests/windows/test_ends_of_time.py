"""Arithmetic on times saturates: near the ends of int64 nothing wraps, and windows neither overlap nor lose a record."""

from __future__ import annotations

import pytest

from tests.windows.jobs import Job, Step, expected, found
from tests.windows.model import HIGH, LOW, Hopping, Kind, Record, Session, Sliding

LOWEST = pytest.mark.xfail(strict=True, reason="the first window's end is its clipped start and its size")
KINDS = [
    *(pytest.param(kind, marks=LOWEST, id=str(kind)) for kind in (Hopping(10, 10), Hopping(10, 5))),
    Hopping(10, 10, 3),
    Session(10),
    Sliding(10),
]
TIMES = [LOW + 1, LOW + 2, LOW + 9, LOW + 25, HIGH - 25, HIGH - 9, HIGH - 1, HIGH]


def steps(times: list[int]) -> list[Step]:
    return [Step("rows", records=tuple(Record(number, "a", time) for number, time in enumerate(times)))]


@pytest.mark.parametrize("grace", [0, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_windows_at_the_ends_of_time(kind: Kind, grace: int) -> None:
    job = Job(kind, grace=grace)
    # Sliding windows that begin before time does would all begin at its first moment.
    times = [time for time in TIMES if time > LOW + 20 or not isinstance(kind, Sliding)]
    got, wanted = found(job, steps(times)), expected(job, steps(times))
    assert got.late == wanted.late == [[], []]
    # A window of which the end lies behind the end of time has one of the last two moments for its last.
    told, should = ([(row.start, row.end, row.numbers, min(row.time, HIGH - 1)) for row in outcome.rows[-1]] for outcome in (got, wanted))
    assert sorted(told) == sorted(should)


@pytest.mark.xfail(strict=True, reason="a reduced row's bounds pass through Python's dates")
def test_a_row_that_was_reduced_may_be_of_any_time() -> None:
    job = Job(Hopping(10, 10), content="reduce")
    assert found(job, steps([2**62])).rows == expected(job, steps([2**62])).rows
