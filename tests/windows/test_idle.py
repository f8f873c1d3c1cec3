"""Splits that fall asleep step out of the minimum of the watermarks; one that wakes behind waits until it has caught up."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.windows.jobs import Job, check, examples, steps_of
from tests.windows.model import Hopping


@st.composite
def sleepers(draw: st.DrawFn) -> tuple[Job, list[Any]]:
    splits = draw(st.integers(2, 4))
    # One task reads all splits: which records are late after a sleep depends on who reads them with whom.
    job = Job(Hopping(10, draw(st.sampled_from([10, 5]))), grace=draw(st.sampled_from([0, 5])), splits=splits, cold=draw(st.booleans()))
    return job, draw(steps_of(splits=splits, idle=True, crash=False))


@examples
@given(sleepers())
def test_idle_inputs(case: Any) -> None:
    check(*case)
