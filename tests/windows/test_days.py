"""Days of a time zone, those of 23 and 25 hours among them, against the model."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.windows.jobs import Job, check, examples, steps_of
from tests.windows.model import Days

#: Midnights near which clocks change: forward at midnight, back at midnight, by half an hour, long ago; and days without any.
AROUND = [
    ("America/Santiago", 1_712_372_400_000),  # 2024-04-06, of 25 hours
    ("America/Santiago", 1_725_768_000_000),  # 2024-09-08, of 23 hours
    ("America/Havana", 1_730_606_400_000),  # 2024-11-03: 0:00 comes twice
    ("Europe/Berlin", 1_711_839_600_000),  # 2024-03-31
    ("Australia/Lord_Howe", 1_712_408_400_000),  # 2024-04-07, of 24.5 hours
    ("Asia/Kathmandu", 1_700_000_000_000),  # an offset of 5:45
    ("America/Santiago", -1_000_000_000_000),  # 1938
    ("UTC", 0),
]


@st.composite
def days(draw: st.DrawFn) -> tuple[Job, list[Any]]:
    tz, around = draw(st.sampled_from(AROUND))
    emit = draw(st.sampled_from(["close", "close", "update"]))
    job = Job(
        Days(tz), emit, grace=draw(st.sampled_from([0, 3_600_000])), parallelism=draw(st.sampled_from([1, 3])), cold=draw(st.booleans())
    )
    return job, draw(steps_of(around=around, spread=100_000_000))


@examples
@given(days())
def test_days(case: Any) -> None:
    check(*case)
