"""Sliding windows, as Kafka Streams has them, with all contents and emissions, against the model."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.windows.jobs import cases, check, examples
from tests.windows.model import Sliding

SLIDING = st.builds(Sliding, st.sampled_from([1, 3, 10, 10, 25]))


@examples
@given(cases(SLIDING, ["close"], ["list", "count", "aggregates", "reduce", "process"]))
def test_sliding_windows_that_close(case: Any) -> None:
    check(*case)


@examples
@given(cases(SLIDING, ["update", "on_time", "throttle"], ["list", "aggregates", "reduce"]))
def test_sliding_windows_that_emit_early(case: Any) -> None:
    check(*case)
