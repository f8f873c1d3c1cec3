"""When the rows of a table leave: for each record, for each batch and key, by the wall clock. The last row of a key is the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import TopologyError, col, count, throttle
from streamdsl.testing import TopologyTestDriver
from tests.aggregates.jobs import AGGREGATES, arrivals, cut, driven, row
from tests.aggregates.oracle import EXPECTED, same


def counted(emit: Any, **options: Any) -> TopologyTestDriver:
    return driven(lambda keyed: keyed.aggregate(n=count(), total=col("i").sum(), emit=emit).to_stream(), **options)


def shown(driver: TopologyTestDriver) -> list[tuple[Any, ...]]:
    return [(out["k"], out["n"], out["total"], out["op"]) for out in driver.read("out")]


def test_a_batch_gives_one_row_for_each_key() -> None:
    driver = counted("batch")
    driver.send_batch("in", [row(key, i=i) for i, key in enumerate(["a", "b", "a", "c", "a"])])
    assert shown(driver) == [("b", 1, 1, "add"), ("c", 1, 3, "add"), ("a", 3, 6, "add")]
    driver.send_batch("in", [row("a", i=4), row("c", i=1), row("c", i=1)])
    assert shown(driver) == [("a", 4, 10, "replace"), ("c", 3, 5, "replace")]


def test_throttled_rows_leave_by_the_wall_clock_and_at_the_end() -> None:
    driver = counted(throttle("1s"))
    driver.send_batch("in", [row(key, i=i) for i, key in enumerate(["a", "b", "a"])])
    driver.advance_processing_time(999)
    assert shown(driver) == []
    driver.advance_processing_time(1)
    assert shown(driver) == [("a", 2, 2, "add"), ("b", 1, 1, "add")]
    driver.advance_processing_time(5_000)
    assert shown(driver) == []
    driver.send("in", row("b", i=9))
    driver.checkpoint()
    driver.crash_and_restore(parallelism=2)
    driver.end()
    assert shown(driver) == [("b", 2, 10, "replace")]


def test_a_throttled_row_is_not_late_behind_its_table() -> None:
    driver = driven(lambda keyed: keyed.aggregate(n=count(), emit=throttle("1s")).to_stream())
    driver.send("in", {**row("a"), "t": 10})
    driver.advance_watermark("in", 500)
    driver.advance_processing_time(2_000)
    assert [time for time, _ in driver.read("out", timestamps=True)] == [501]
    driver.send("in", {**row("a"), "t": 700})
    driver.advance_processing_time(2_000)
    assert [time for time, _ in driver.read("out", timestamps=True)] == [700]


@settings(max_examples=60, deadline=None)
@given(
    arrivals(),
    st.lists(st.integers(0, 40), max_size=4),
    st.integers(0, 40),
    st.integers(1, 3),
    st.sampled_from(["batch", throttle("1s")]),
    st.booleans(),
)
def test_the_last_row_of_each_key_is_that_of_all_its_records(
    sent: Any, cuts: list[int], restore: int, parallelism: int, emit: Any, cold: bool
) -> None:
    sent = [arrival for arrival in sent if arrival.row is not None]
    options = {"state_memory": 4_096} if cold else {}
    driver = driven(lambda keyed: keyed.aggregate(**AGGREGATES, emit=emit).to_stream(), **options)
    cut(driver, sent[:restore], cuts)
    driver.checkpoint()
    driver.crash_and_restore(parallelism)
    driver.advance_processing_time(1_500)
    cut(driver, sent[restore:], cuts)
    driver.end()
    history: dict[str, list[Any]] = {}
    for arrival in sent:
        history.setdefault(arrival.row["k"], []).append(arrival.row)
    found: dict[str, Any] = {}
    for out in driver.read("out"):
        assert out.pop("op") == ("replace" if out["k"] in found else "add")
        found[out["k"]] = same(out)
    assert found == {key: same({"k": key} | {name: value(rows) for name, value in EXPECTED.items()}) for key, rows in history.items()}


@pytest.mark.parametrize("emit", ["batch", throttle("1s")])
def test_a_record_that_is_refused_leaves_nothing_behind(emit: Any) -> None:
    driver = driven(lambda keyed: keyed.aggregate(n=count(), total=col("i").sum(), errors="skip", emit=emit).to_stream())
    driver.send_batch("in", [row("a", i=2**62), row("a", i=2**62), row("b", i=1), row("a", i=5)])
    driver.end()
    assert sorted(shown(driver)) == [("a", 2, 2**62 + 5, "add"), ("b", 1, 1, "add")]


def test_only_what_a_table_can_do_is_taken() -> None:
    with pytest.raises(TopologyError, match="aggregate: emit='close'"):
        counted("close")
    with pytest.raises(TopologyError, match="count: emit=1"):
        driven(lambda keyed: keyed.count(emit=1))
