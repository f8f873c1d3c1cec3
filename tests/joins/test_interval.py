"""Joins of two streams by key and time, against the model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.joins.jobs import Job, Step, cases, check, examples, expected, found
from tests.joins.model import Interval, Joined, Record

HOWS = ["inner", "left", "right", "outer"]
WITHIN = st.sampled_from([0, 1, 5, 10])
GRACE = st.sampled_from([0, 0, 3, 20])


def bounds() -> Any:
    """Draw how far a right row may be before and after a left one; each may be negative, as long as -before <= after."""
    return st.sampled_from([(0, 0), (0, 10), (10, 0), (5, 10), (10, 5), (-3, 10), (10, -3), (-5, 5), (20, 20)])


@examples
@given(cases(st.builds(Interval, st.just("inner"), WITHIN, WITHIN, GRACE) | bounds().map(lambda b: Interval("inner", *b))))
def test_inner_joins(case: Any) -> None:
    check(*case)


@examples
@given(cases(st.builds(lambda how, b, grace: Interval(how, *b, grace), st.sampled_from(HOWS[1:]), bounds(), GRACE)))
def test_joins_that_keep_unmatched_rows(case: Any) -> None:
    check(*case)


@examples
@given(cases(st.builds(Interval, st.sampled_from(HOWS), st.none(), st.none())))
def test_unbounded_joins(case: Any) -> None:
    check(*case)


# Rules and cases by hand -------------------------------------------------------------------------------------------------


def left(*times: int, key: str | None = "a", first: int = 0) -> Step:
    return Step("rows", "left", tuple(Record(first + i, key, time) for i, time in enumerate(times)))


def right(*times: int, key: str | None = "a", first: int = 100) -> Step:
    return Step("rows", "right", tuple(Record(first + i, key, time) for i, time in enumerate(times)))


def both(watermark: int) -> list[Step]:
    return [Step("watermark", "left", watermark=watermark), Step("watermark", "right", watermark=watermark)]


def pairs(rows: list[Joined]) -> list[tuple[int | None, int | None, int]]:
    return sorted(((row.left, row.right, row.time) for row in rows), key=repr)


CASES = {
    # name: (join, steps, rows before the end: (left, right, time))
    "both bounds are inclusive": (
        Interval("inner", 5, 10),
        [left(100), right(94, 95, 110, 111)],
        [(0, 101, 100), (0, 102, 110)],
    ),
    "the output time is the greater of the two": (Interval("inner", 5, 5), [right(3), left(1)], [(0, 100, 3)]),
    "bounds may be negative": (Interval("inner", -3, 10), [left(0), right(2, 3, 10, 11)], [(0, 101, 3), (0, 102, 10)]),
    "a row is late when t + grace <= W": (
        Interval("inner", 100, 100, 5),
        [left(100), *both(20), right(15, first=100), right(16, first=101), left(70, first=1)],
        [(0, 101, 100), (1, 101, 70)],
    ),
    "an unmatched left row comes when W >= t + after + grace": (
        Interval("left", 0, 10, 5),
        [left(100, 101), *both(115)],
        [(0, None, 100)],
    ),
    "an unmatched right row comes when W >= t + before + grace": (
        Interval("outer", 7, 10, 5),
        [right(100, 101), *both(112)],
        [(None, 100, 100)],
    ),
    "a row that ever matched never also appears unmatched": (
        Interval("outer", 5, 5),
        [left(10), right(12), *both(1_000)],
        [(0, 100, 12)],
    ),
    "a null key of the outer side comes out unmatched at once": (
        Interval("left", 5, 5),
        [left(10, key=None), right(10, key=None)],
        [(0, None, 10)],
    ),
    "a null key of the inner side is dropped": (Interval("inner", 5, 5), [left(10, key=None), right(10, key=None)], []),
    # Kafka Streams, KStreamKStreamJoinTest: windows of 100 ms on both sides.
    "kafka: windowing": (
        Interval("inner", 100, 100),
        [left(0, 0), right(0, first=100), right(100, first=101), right(101, first=102), right(-100, first=103), right(-101, first=104)],
        [(0, 100, 0), (0, 101, 100), (0, 103, 0), (1, 100, 0), (1, 101, 100), (1, 103, 0)],
    ),
    # Kafka Streams, KStreamKStreamLeftJoinTest: with stream time t our W is t - 1.
    "kafka: a left row without a match comes when its window is over": (
        Interval("left", 100, 100),
        [left(0, 1), *both(100), left(201, first=2), *both(200)],
        [(0, None, 0), (1, None, 1)],
    ),
    # Flink, IntervalJoinOperatorTest: the bounds [-2, 1] of the right row's time against the left one's.
    "flink: bounds of which one is negative": (
        Interval("inner", 2, -1),
        [left(1, 2, 3, 4), right(1, 2, 3, 4)],
        [(1, 100, 2), (2, 100, 3), (2, 101, 3), (3, 101, 4), (3, 102, 4)],
    ),
    "flink: late rows of both sides are dropped": (
        Interval("inner", 1, 1),
        [left(1, 2), right(1, 2), *both(2), left(2, first=8), right(2, first=108), left(3, first=9), right(3, first=109)],
        [(0, 100, 1), (0, 101, 2), (1, 100, 2), (1, 101, 2), (1, 109, 3), (9, 101, 3), (9, 109, 3)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_model_says_so(name: str) -> None:
    join, steps, rows = CASES[name]
    assert pairs([row for some in expected(Job(join), steps)[:-1] for row in some]) == sorted(rows, key=repr)


@pytest.mark.parametrize("name", CASES)
def test_the_library_says_so(name: str) -> None:
    join, steps, rows = CASES[name]
    assert pairs([row for some in found(Job(join), steps)[:-1] for row in some]) == sorted(rows, key=repr)
