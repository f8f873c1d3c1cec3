"""A session that became one of two gives what one pass over its records, by arrival, gives: for every aggregate."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Aggregate, Topology, col, count, memory, row, session, tumbling
from streamdsl.errors import TopologyError
from streamdsl.testing import TopologyTestDriver

SCHEMA = {"k": str, "t": int, "i": int | None, "s": str | None, "f": float | None}
JOINED = Aggregate(lambda: [], lambda seen, v: [*seen, v], lambda a, b: sorted(a + b), result=lambda seen: sorted(seen)[0], type=int)
MADE = {
    "n": count(),
    "total": col("i").sum(),
    "mean": col("i").mean(),
    "low": col("f").min(),
    "high": col("s").max(),
    "first": col("s").first(),
    "last": col("s").last(),
    "best": col("s").max_by("i"),
    "least": col("i").min_by("s"),
    "all": col("s").to_list(),
    "different": col("s").n_unique(),
    "nearly": col("i").n_unique(approximate=True),
    "middle": col("f").median(),
    "about": col("f").median(approximate=True),
    "top": col("s").top_k(3, by="i", then_by="f"),
    "rows": row().top_k(2, by="i"),
    "own": JOINED(col("i")),
}
RECORD = st.fixed_dictionaries(
    {
        "k": st.sampled_from("ab"),
        "t": st.integers(0, 60),
        "i": st.none() | st.integers(-3, 3),
        "s": st.none() | st.sampled_from("xyz"),
        "f": st.none() | st.sampled_from([-1.0, -0.0, 0.0, 2.5]),
    }
)


def driven(window: Any) -> TopologyTestDriver:
    topology = Topology("t")
    source = topology.stream(memory("in", schema=SCHEMA), timestamp="t", watermarks="external")
    source.key_by("k").window(window).aggregate(**MADE).to(memory("out"))
    return TopologyTestDriver(topology)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(RECORD, min_size=1, max_size=12), st.lists(st.integers(0, 12), max_size=3), st.none() | st.integers(0, 12), st.integers(1, 3)
)
def test_sessions_that_merge_give_what_one_pass_gives(
    records: list[dict[str, Any]], cuts: list[int], crash: int | None, parallelism: int
) -> None:
    # The last two records join all sessions of a key.
    records = [*records, *({"k": key, "t": t, "i": 1, "s": "y", "f": 1.0} for key in "ab" for t in range(0, 61, 10))]
    driver = driven(session(10))
    at = 0
    for end in sorted({*cuts, *([] if crash is None else [crash]), len(records)}):
        if records[at:end]:
            driver.send_batch("in", records[at:end])
        at = end
        if end == crash:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=parallelism)
    driver.end()
    merged = driver.read("out")
    single = driven(tumbling(1_000))
    single.send_batch("in", records)
    single.end()
    assert [without_bounds(one) for one in by_key(merged)] == [without_bounds(one) for one in by_key(single.read("out"))]


def by_key(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda one: str(one["k"]))


def without_bounds(one: dict[str, Any]) -> dict[str, Any]:
    return {name: repr(value) for name, value in one.items() if not name.startswith("window_")}


def test_a_session_refuses_an_aggregate_without_merge() -> None:
    plain = Aggregate(lambda: 0, max, type=int)
    keyed = Topology("t").stream(memory("in", schema=SCHEMA), timestamp="t").key_by("k")
    with pytest.raises(TopologyError, match="cannot be merged") as caught:
        keyed.window(session(10)).aggregate(x=plain(col("i")))
    assert "merge=" in str(caught.value.remedy)
