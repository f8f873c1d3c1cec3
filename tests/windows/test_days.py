"""Days of a time zone, those of 23 and 25 hours among them, against the model."""

from __future__ import annotations

import bisect
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdsl import Topology, col, memory, tumbling
from streamdsl.physical.zones import transitions
from tests.windows.jobs import Job, bounds, check, examples, steps_of
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
    ("America/Santiago", 253_315_911_600_000),  # 9997-04-05: the rules of today hold for ever
    ("America/Santiago", 253_329_220_800_000),
    ("Europe/Berlin", 16_744_000_000_000),  # 2500, in summer
    ("America/Sao_Paulo", 1_541_300_400_000),  # 2018-11-04 begins at 1:00
    ("Africa/Cairo", 1_682_632_800_000),  # 2023-04-28 begins at 1:00
    ("Pacific/Kiritimati", 788_868_000_000),  # 1994-12-31 did not happen
    ("Pacific/Apia", 1_325_239_200_000),  # nor did 2011-12-30 here
    ("Etc/GMT-3", -62_100_000_000_000),  # the second year
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


DAY, HOUR = 86_400_000, 3_600_000
#: Clocks of St. John's went back a minute after midnight: some minutes of a date came again when the next one had begun.
ODD = ["America/St_Johns", "America/Santiago", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Europe/Amsterdam", "Asia/Gaza"]


def first_moment(tz: str, local: int) -> int:
    """Return the first moment at which clocks show `local`, or later."""
    found = [*transitions(tz), (2**62, 0)]
    at = bisect.bisect([moment for moment, _ in found], local)
    near = [(-(2**62) if i == 0 else found[i][0], found[i][1], found[i + 1][0]) for i in range(max(at - 5, 0), min(at + 4, len(found) - 1))]
    moments = [(max(start, local - ahead), end) for start, ahead, end in near]
    return min(moment for moment, end in moments if moment < end)


@pytest.mark.parametrize(("days", "offset"), [(1, 0), (1, -8 * HOUR), (1, 30 * HOUR), (2, -DAY), (7, 4 * DAY + 1)])
@pytest.mark.parametrize("tz", ODD)
def test_a_window_of_days_is_from_the_first_moment_of_a_date_to_that_of_another(tz: str, days: int, offset: int) -> None:
    near = [moment for moment, _ in transitions(tz)[1:] if -4_000_000_000_000 < moment < 4_000_000_000_000]
    times = [moment + by for moment in near[:: 1 + len(near) // 15] for by in (-DAY - 1, -HOUR, -1, 0, HOUR // 2, DAY - HOUR)]
    topology = Topology("days")
    stream = topology.stream(memory("in", {"t": int}, [{"t": t} for t in times]), timestamp="t", disorder="40000w")
    made = bounds(stream.key_by().window(tumbling(days * DAY, tz=tz, offset=offset)).aggregate(ts=col("t").to_list())).collect()
    found = {t: (row["ws"], row["we"]) for row in made.to_pylist() for t in row["ts"]}
    for t in times:
        date = (t - offset) // (days * DAY) - 2
        starts = [first_moment(tz, (date + i) * days * DAY + offset) for i in range(5)]
        assert [found[t]] == [window for window in itertools.pairwise(starts) if window[0] <= t < window[1]]
