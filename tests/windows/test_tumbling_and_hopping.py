"""Tumbling and hopping windows with all contents, closing and updating, against the model."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.windows.jobs import Job, Step, cases, check, examples
from tests.windows.model import Hopping, Record

CONTENTS = ["list", "count", "aggregates", "reduce", "process"]
TUMBLING = st.builds(lambda size, offset: Hopping(size, size, offset % size), st.sampled_from([1, 7, 10, 40]), st.integers(0, 40))
SIZES = st.sampled_from([(10, 5), (12, 5), (20, 4), (7, 1), (5, 3)])
HOPPING = st.builds(lambda size, offset: Hopping(*size, offset % size[1]), SIZES, st.integers(0, 20))


@examples
@given(cases(TUMBLING, ["close", "close", "update"], CONTENTS))
def test_tumbling(case: Any) -> None:
    check(*case)


def test_rows_of_a_processor_behind_a_crash_are_those_of_other_batches() -> None:
    """Before the crash [1, 2] and [1, 2, 3, 4] are shown; behind it, at parallelism 3, [1, 2, 3] as well."""
    job = Job(Hopping(7, 7, 0), emit="update", content="process", cold=True, disorder=0)
    records = tuple(Record(number, "a", time) for number, time in [(1, 0), (2, 1), (3, 0), (4, 0)])
    rows = [Step("rows", records=(Record(0, None, 0),)), Step("rows", records=records)]
    check(job, [Step("checkpoint"), *rows, Step("crash", parallelism=3), Step("clock")])


@examples
@given(cases(HOPPING, ["close", "close", "update"], CONTENTS))
def test_hopping(case: Any) -> None:
    check(*case)
