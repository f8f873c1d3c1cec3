"""Sessions with all contents and emissions, against the model."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.windows.jobs import cases, check, examples
from tests.windows.model import Session

SESSIONS = st.builds(Session, st.sampled_from([1, 3, 10, 10, 25]))


@examples
@given(cases(SESSIONS, ["close"], ["list", "count", "aggregates", "reduce", "process"]))
def test_sessions_that_close(case: Any) -> None:
    check(*case)


@examples
@given(cases(SESSIONS, ["update"], ["list", "count", "aggregates", "reduce"]))
def test_sessions_that_update(case: Any) -> None:
    check(*case)


@examples
@given(cases(SESSIONS, ["on_time", "throttle"], ["list", "aggregates", "reduce"]))
def test_sessions_on_time_and_throttled(case: Any) -> None:
    check(*case)
