"""Count windows with all contents, against the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.windows.jobs import cases, check, examples
from tests.windows.model import Counted

COUNTED = st.sampled_from([Counted(1, 1), Counted(2, 2), Counted(3, 1), Counted(3, 2), Counted(5, 3)])


@examples
@given(cases(COUNTED, ["close"], ["list", "count", "aggregates", "reduce", "process"]))
def test_count_windows(case: Any) -> None:
    job, steps = case
    check(replace(job, grace=0), steps)  # by number there is nothing late
