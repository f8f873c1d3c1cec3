"""Cases written by hand: what Kafka Streams' and Flink's own suites expect, and the rules of `semantics.md` one by one.

Each is asked of the model, and of the library: so the model is not only what its author thinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.windows.jobs import Job, Step, expected, found
from tests.windows.model import Counted, Days, Hopping, Kind, Record, Session, Sliding

GAP = 300_000


@dataclass(frozen=True)
class Case:
    """Events: a moment or (key, moment) is a record, `W(t)` a watermark. Records are numbered from 1. Rows leave before the end."""

    name: str
    kind: Kind
    events: list[Any]
    rows: list[Any]  # (key, start, end, [numbers]); [] withdraws
    emit: str = "close"
    grace: int = 0
    late: tuple[int, ...] = ()
    ordered: bool = True  # else the order of the rows is not told (Kafka's suites sort them)
    watermark_after: int | None = None  # after each record W is its time less this, as Kafka's stream time does it
    ends: bool = False  # the input ends, and its rows count


@dataclass(frozen=True)
class W:
    """A watermark."""

    at: int


def steps(case: Case) -> list[Step]:
    made, number, highest = [], 0, None
    for event in case.events:
        if isinstance(event, W):
            made.append(Step("watermark", watermark=event.at))
            continue
        key, time = event if isinstance(event, tuple) else ("a", event)
        number += 1
        made.append(Step("rows", records=(Record(number, key, time),)))
        if case.watermark_after is not None:
            highest = time if highest is None else max(highest, time)
            made.append(Step("watermark", watermark=highest - case.watermark_after))
    return made


A, B, C, D = "A", "B", "C", "D"

CASES = [
    # Kafka Streams, KStreamSlidingWindowAggregateTest. Its stream time t is our W = t - 1.
    Case(
        "kafka: sliding, aggregate of a small input, on close",
        Sliding(10),
        [10, 10, 14, 15, 20, 22, 30],
        [
            ("a", 0, 10, [1, 2]),
            ("a", 4, 14, [1, 2, 3]),
            ("a", 5, 15, [1, 2, 3, 4]),
            ("a", 10, 20, [1, 2, 3, 4, 5]),
            ("a", 11, 21, [3, 4, 5]),
            ("a", 12, 22, [3, 4, 5, 6]),
        ],
        grace=5,
        watermark_after=1,
    ),
    Case(
        "kafka: sliding, aggregate of a small input, on update",
        Sliding(10),
        [10, 10, 14, 15, 20, 22, 30],
        [
            ("a", 0, 10, [1]),
            ("a", 0, 10, [1, 2]),
            ("a", 4, 14, [1, 2, 3]),
            ("a", 5, 15, [1, 2, 3, 4]),
            ("a", 10, 20, [1, 2, 3, 4, 5]),
            ("a", 11, 21, [3]),
            ("a", 11, 21, [3, 4]),
            ("a", 11, 21, [3, 4, 5]),
            ("a", 12, 22, [3, 4, 5, 6]),
            ("a", 15, 25, [4]),
            ("a", 15, 25, [4, 5]),
            ("a", 15, 25, [4, 5, 6]),
            ("a", 16, 26, [5]),
            ("a", 16, 26, [5, 6]),
            ("a", 20, 30, [5, 6, 7]),
            ("a", 21, 31, [6]),
            ("a", 21, 31, [6, 7]),
            ("a", 23, 33, [7]),
        ],
        emit="update",
        grace=5,
        ordered=False,
        watermark_after=1,
    ),
    Case(
        "kafka: sliding, reduce of a small input, on update",
        Sliding(10),
        [10, 14, 15, 22, 26, 30],
        [
            ("a", 0, 10, [1]),
            ("a", 4, 14, [1, 2]),
            ("a", 5, 15, [1, 2, 3]),
            ("a", 11, 21, [2]),
            ("a", 11, 21, [2, 3]),
            ("a", 12, 22, [2, 3, 4]),
            ("a", 15, 25, [3]),
            ("a", 15, 25, [3, 4]),
            ("a", 16, 26, [4]),
            ("a", 16, 26, [4, 5]),
            ("a", 20, 30, [4, 5, 6]),
            ("a", 23, 33, [5]),
            ("a", 23, 33, [5, 6]),
            ("a", 27, 37, [6]),
        ],
        emit="update",
        grace=5,
        ordered=False,
        watermark_after=1,
    ),
    Case(
        "kafka: sliding, out of order, on close: what a closed window does not take, an open one does",
        Sliding(10),
        [
            *[(A, 10), (A, 20), (A, 22), (A, 15)],
            *[(B, 12), (B, 13), (B, 18), (B, 19), (B, 25), (B, 14)],
            *[(C, 11), (C, 15), (C, 16), (C, 21), (C, 23)],
            *[(D, 11), (D, 12), (D, 29), (D, 16)],
        ],
        [
            (A, 0, 10, [1]),
            (B, 2, 12, [5]),
            (B, 3, 13, [5, 6]),
            (A, 5, 15, [1, 4]),
            (C, 5, 15, [12]),
            (C, 6, 16, [12, 13]),
            (B, 8, 18, [5, 6, 7, 10]),
        ],
        grace=10,
        late=(11, 16, 17, 19),
        watermark_after=1,
    ),
    Case(
        "kafka: sliding, final results",
        Sliding(5),
        [10, 11, 10, 13, 10, 24, 5, 7, 90],
        [
            ("a", 5, 10, [1, 3, 5, 7, 8]),
            ("a", 6, 11, [1, 2, 3, 5, 8]),
            ("a", 8, 13, [1, 2, 3, 4, 5]),
            ("a", 11, 16, [2, 4]),
            ("a", 12, 17, [4]),
            ("a", 19, 24, [6]),
        ],
        grace=15,
        watermark_after=1,
    ),
    # Kafka Streams, SuppressScenarioTest.
    Case(
        "kafka: final results for time windows",
        Hopping(2, 2),
        [0, 1, 2, 1, 0, 5, 0],
        [("a", 0, 2, [1, 2, 4, 5]), ("a", 2, 4, [3])],
        grace=1,
        late=(7,),
        watermark_after=1,
    ),
    Case(
        "kafka: final results for time windows with a large jump",
        Hopping(2, 2),
        [0, 1, 2, 0, 3, 0, 4, 0, 30],
        [("a", 0, 2, [1, 2, 4, 6]), ("a", 2, 4, [3, 5]), ("a", 4, 6, [7])],
        grace=2,
        late=(8,),
        watermark_after=1,
    ),
    Case(
        "kafka: final results for session windows",
        Session(5),
        [0, 5, 1, ("b", 11), 5, 30],
        [("a", 0, 10, [1, 2, 3]), ("b", 11, 16, [4])],
        late=(5,),
        watermark_after=1,
    ),
    # Kafka Streams, KStreamSessionWindowAggregateProcessorTest.
    Case("kafka: one session within the gap", Session(GAP), [0, 500], [("a", 0, 500 + GAP, [1, 2])], ends=True),
    Case(
        "kafka: a record between two sessions merges them",
        Session(GAP),
        [0, GAP + 1, GAP // 2],
        [("a", 0, 2 * GAP + 1, [1, 2, 3])],
        ends=True,
    ),
    Case("kafka: a session of one moment", Session(GAP), [0, 0], [("a", 0, GAP, [1, 2])], ends=True),
    Case(
        "kafka: sessions further apart than the gap",
        Session(GAP),
        [0, GAP + 1, GAP + 1, 2 * GAP + 2, 2 * GAP + 2, 2 * GAP + 2],
        [("a", 0, GAP, [1]), ("a", GAP + 1, 2 * GAP + 1, [2, 3]), ("a", 2 * GAP + 2, 3 * GAP + 2, [4, 5, 6])],
        ends=True,
    ),
    Case(
        "kafka: a session that grows withdraws its old bounds",
        Session(GAP),
        [0, 5],
        [("a", 0, GAP, [1]), ("a", 0, GAP, []), ("a", 0, 5 + GAP, [1, 2])],
        emit="update",
    ),
    Case(
        "kafka: a late record is dropped without grace",
        Session(10),
        [("dummy", 0), ("on time", 0), ("dummy", 12), ("late", 0)],
        [("dummy", 0, 10, [1]), ("on time", 0, 10, [2])],
        late=(4,),
        watermark_after=1,
    ),
    # Flink, WindowOperatorTest: its sessions end a millisecond before ours; on_time is its default trigger.
    Case(
        "flink: sessions with lateness, fired again when a late record comes",
        Session(3_000),
        [1_000, W(1_999), 2_000, W(4_998), 4_500, 8_500, W(7_400), 7_000, W(11_501), 11_600, W(14_600), 10_000, 14_500, W(20_000)],
        [
            ("a", 1_000, 11_500, [1, 2, 3, 4, 5]),
            ("a", 11_600, 14_600, [6]),
            ("a", 1_000, 11_500, []),
            ("a", 11_600, 14_600, []),
            ("a", 1_000, 14_600, [1, 2, 3, 4, 5, 6, 7]),
            ("a", 1_000, 14_600, []),
            ("a", 1_000, 17_500, [1, 2, 3, 4, 5, 6, 7, 8]),
        ],
        emit="on_time",
        grace=10_000,
    ),
    Case(
        "flink: tumbling with lateness, fired again for each late record",
        Hopping(2_000, 2_000),
        [500, W(1_500), 1_300, W(2_300), 1_997, W(6_000), 1_998, W(7_000)],
        [("a", 0, 2_000, [1, 2]), ("a", 0, 2_000, [1, 2, 3])],
        emit="on_time",
        grace=500,
        late=(4,),
    ),
    # semantics.md, Windows.
    Case("exactly the gap apart: together", Session(10), [0, 10, 21], [("a", 0, 20, [1, 2]), ("a", 21, 31, [3])], ends=True),
    Case(
        "a late record bridges two sessions that are still open",
        Session(10),
        [0, 20, W(9), 10],
        [("a", 0, 30, [1, 2, 3])],
        ends=True,
    ),
    Case(
        "a late record does not merge with a session that was closed",
        Session(10),
        [0, 20, W(10), 10, W(29)],
        [("a", 0, 10, [1]), ("a", 10, 30, [2, 3])],
        ends=True,
    ),
    Case(
        "in update mode a merge withdraws both old sessions",
        Session(10),
        [0, 20, 10],
        [("a", 0, 10, [1]), ("a", 20, 30, [2]), ("a", 0, 10, []), ("a", 20, 30, []), ("a", 0, 30, [1, 2, 3])],
        emit="update",
        ordered=False,
    ),
    Case(
        "a session that a record leaves as wide as it was is replaced, not withdrawn",
        Session(10),
        [0, 10, 5],
        [("a", 0, 10, [1]), ("a", 0, 10, []), ("a", 0, 20, [1, 2]), ("a", 0, 20, [1, 2, 3])],
        emit="update",
    ),
    Case(
        "a session is open while W < last + gap + grace",
        Session(10),
        [0, W(14), 5, W(19), 3, W(20)],
        [("a", 0, 15, [1, 2, 3])],
        grace=5,
    ),
    Case(
        "windows close in order of end, then start, then key",
        Session(10),
        [("b", 5), ("a", 5), ("b", -3), ("é", -20), ("c", 0), ("c", 5)],
        [("é", -20, -10, [4]), ("b", -3, 15, [1, 3]), ("c", 0, 15, [5, 6]), ("a", 5, 15, [2])],
        ends=True,
    ),
    Case(
        "tumbling windows are aligned to the epoch plus offset, before it too",
        Hopping(10, 10, 3),
        [-7, -8, 2, 3, 12, 13],
        [("a", -17, -7, [2]), ("a", -7, 3, [1, 3]), ("a", 3, 13, [4, 5]), ("a", 13, 23, [6])],
        ends=True,
    ),
    Case(
        "hopping windows with a negative start are not clipped",
        Hopping(10, 4),
        [0],
        [("a", -8, 2, [1]), ("a", -4, 6, [1]), ("a", 0, 10, [1])],
        ends=True,
    ),
    Case(
        "on time, then again for each record within grace, then nothing",
        Hopping(10, 10),
        [1, W(8), 9, W(9), 3, W(13), 4, W(14), 5],
        [("a", 0, 10, [1, 2]), ("a", 0, 10, [1, 2, 3]), ("a", 0, 10, [1, 2, 3, 4])],
        emit="on_time",
        grace=5,
        late=(5,),
    ),
    Case(
        "a window that opens after its last moment is told at once",
        Hopping(10, 10),
        [W(9), 3],
        [("a", 0, 10, [1])],
        emit="on_time",
        grace=5,
    ),
    Case(
        "sliding windows are closed at both ends",
        Sliding(10),
        [0, 10, 21],
        [("a", -10, 0, [1]), ("a", 0, 10, [1, 2]), ("a", 1, 11, [2]), ("a", 11, 21, [3])],
        ends=True,
    ),
    Case("no sliding window comes twice", Sliding(10), [0, 0, 11], [("a", -10, 0, [1, 2]), ("a", 1, 11, [3])], ends=True),
    # Count windows.
    Case(
        "a window of three records, by arrival; what is not full closes at the end",
        Counted(3, 3),
        [5, 1, ("b", 2), 9, 0, W(1_000), 7],
        [("a", 1, 9, [1, 2, 4]), ("a", 0, 7, [5, 6]), ("b", 2, 2, [3])],
        ordered=False,
        ends=True,
    ),
    Case(
        "windows of three records, one beginning every two",
        Counted(3, 2),
        [1, 2, 3, 4, 5, 6],
        [("a", 1, 3, [1, 2, 3]), ("a", 3, 5, [3, 4, 5])],
    ),
    # Santiago: clocks go back at the end of Saturday 2024-04-06 (25 hours), and forward at that of 2024-09-07 (23 hours).
    Case(
        "a day of 25 hours",
        Days("America/Santiago"),
        [1_712_372_400_000, 1_712_372_399_999, 1_712_462_399_999, 1_712_462_400_000],
        [
            ("a", 1_712_286_000_000, 1_712_372_400_000, [2]),
            ("a", 1_712_372_400_000, 1_712_462_400_000, [1, 3]),
            ("a", 1_712_462_400_000, 1_712_548_800_000, [4]),
        ],
        ends=True,
    ),
    Case(
        "a day of 23 hours",
        Days("America/Santiago"),
        [1_725_767_999_999, 1_725_768_000_000, 1_725_850_799_999, 1_725_850_800_000],
        [
            ("a", 1_725_681_600_000, 1_725_768_000_000, [1]),
            ("a", 1_725_768_000_000, 1_725_850_800_000, [2, 3]),
            ("a", 1_725_850_800_000, 1_725_937_200_000, [4]),
        ],
        ends=True,
    ),
]


def compared(case: Case, outcome: Any) -> None:
    rows = [row for step in (outcome.rows if case.ends else outcome.rows[:-1]) for row in step]
    shown = [(row.key, row.start, row.end, row.numbers[0] if row.numbers else []) for row in rows]
    wanted = case.rows if case.ordered else sorted(case.rows)
    assert (shown if case.ordered else sorted(shown)) == wanted
    assert [number for step in outcome.late for number in step] == list(case.late)
    for row in rows if not isinstance(case.kind, Counted) else ():
        assert row.time == (row.end - 1 if isinstance(case.kind, Hopping | Days) else row.end), "rows have the time of max_ts"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_model_says_so(case: Case) -> None:
    compared(case, expected(Job(case.kind, case.emit, case.grace), steps(case)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_library_says_so(case: Case) -> None:
    compared(case, found(Job(case.kind, case.emit, case.grace), steps(case)))
