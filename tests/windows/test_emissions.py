"""When rows leave tumbling and hopping windows: on time and then for each late record; throttled by the wall clock."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from tests.windows.jobs import cases, check, examples
from tests.windows.test_tumbling_and_hopping import HOPPING, TUMBLING


@examples
@given(cases(TUMBLING | HOPPING, ["on_time"], ["list", "count", "aggregates", "reduce"]))
def test_on_time(case: Any) -> None:
    check(*case)


@examples
@given(cases(TUMBLING | HOPPING, ["throttle"], ["list", "aggregates", "reduce"]))
def test_throttle(case: Any) -> None:
    check(*case)
