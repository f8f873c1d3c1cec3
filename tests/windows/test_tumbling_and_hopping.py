"""Tumbling and hopping windows with all contents, closing and updating, against the model."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.windows.jobs import cases, check, examples
from tests.windows.model import Hopping

CONTENTS = ["list", "count", "aggregates", "reduce", "process"]
TUMBLING = st.builds(lambda size, offset: Hopping(size, size, offset % size), st.sampled_from([1, 7, 10, 40]), st.integers(0, 40))
SIZES = st.sampled_from([(10, 5), (12, 5), (20, 4), (7, 1), (5, 3)])
HOPPING = st.builds(lambda size, offset: Hopping(*size, offset % size[1]), SIZES, st.integers(0, 20))


@examples
@given(cases(TUMBLING, ["close", "close", "update"], CONTENTS))
def test_tumbling(case: Any) -> None:
    check(*case)


@examples
@given(cases(HOPPING, ["close", "close", "update"], CONTENTS))
def test_hopping(case: Any) -> None:
    check(*case)
