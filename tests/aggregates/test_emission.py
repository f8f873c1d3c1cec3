"""When the rows of a table leave: for each record, for each batch and key, by the wall clock. The last row of a key is the same."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, TopologyError, col, count, dead_letter, memory, throttle, tumbling
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


def grouped(emit: Any, parallelism: int = 1, **options: Any) -> TopologyTestDriver:
    """Return a driver of: the table "in" by `k` → groups by `s` → "out"."""
    topology = Topology("job")
    table = topology.table(memory("in", schema={"k": str, "s": str | None, "i": int | None}), key="k")
    made = table.group_by("s").aggregate(n=count(), total=col("i").sum(), emit=emit, **options)
    made.to_stream().to(memory("out"))
    return TopologyTestDriver(topology, parallelism=parallelism)


def member(k: str, s: str | None, i: int | None = 1) -> dict[str, Any]:
    return {"k": k, "s": s, "i": i}


def groups_shown(driver: TopologyTestDriver) -> list[tuple[Any, ...]]:
    return [(out["s"], out["n"], out["total"], out["op"]) for out in driver.read("out")]


def test_a_batch_gives_one_row_for_each_group_and_none_of_one_that_came_and_went() -> None:
    driver = grouped("batch")
    driver.send_batch("in", [member("a", "x", 1), member("b", "x", 2), member("c", "y", 5), member("a", "z", 4), member("c", "x", 7)])
    assert sorted(groups_shown(driver)) == [("x", 2, 9, "add"), ("z", 1, 4, "add")]
    driver.send_batch("in", [member("a", None, None), member("b", "x", 3)])
    assert sorted(groups_shown(driver)) == [("x", 2, 10, "replace"), ("z", 1, 4, "withdraw")]
    driver.checkpoint()
    driver.crash_and_restore()
    driver.send_batch("in", [member("a", "x", 1), member("a", "z", 1), member("d", "x", 1)])
    assert sorted(groups_shown(driver)) == [("x", 3, 11, "replace"), ("z", 1, 1, "add")]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y", None]), st.integers(-3, 3) | st.just(2**62)), max_size=25),
    st.lists(st.integers(0, 25), max_size=4),
    st.integers(0, 25),
    st.integers(1, 3),
    st.booleans(),
)
def test_groups_shown_by_batch_end_as_those_shown_by_row(
    rows: list[Any], cuts: list[int], restore: int, parallelism: int, skips: bool
) -> None:
    ends: list[dict[Any, Any]] = []
    for emit in ("update", "batch"):
        driver = grouped(emit, errors="skip") if skips else grouped(emit)
        sent = [member(k, s, None if s is None else i if skips else min(i, 3)) for k, s, i in rows]
        bounds = sorted({0, len(sent), *(at for at in (*cuts, restore) if at < len(sent))})
        standing: dict[Any, Any] = {}
        for begin, end in itertools.pairwise(bounds):
            driver.send_batch("in", sent[begin:end])
            if end == restore:
                driver.checkpoint()
                driver.crash_and_restore(parallelism)
        for s, n, total, op in groups_shown(driver):
            assert op == ("add" if s not in standing else op) and (op != "add" or s not in standing), "each change fits what stands"
            standing[s] = (n, total)
            if op == "withdraw":
                del standing[s]
        ends.append(standing)
    assert ends[0] == ends[1]


def test_aggregates_of_windows_shown_early_may_leave_by_batch() -> None:
    driver = driven(
        lambda keyed: (
            keyed.window(tumbling(10), emit="update").aggregate(n=count()).key_by("k").aggregate(n=col("n").sum(), emit="batch").to_stream()
        )
    )
    driver.send_batch("in", [{**row("a"), "t": t} for t in (1, 2, 11)])
    assert [(out["n"], out["op"]) for out in driver.read("out")] == [(3, "add")]


def reduced(emit: Any, **options: Any) -> TopologyTestDriver:
    def add(so_far: Any, new: Any) -> dict[str, Any]:
        if new.i == 13:
            raise ValueError("unlucky")
        return {**so_far.asdict(), "i": so_far.i + new.i}

    return driven(lambda keyed: keyed.reduce(add, emit=emit, **options).to_stream())


def test_a_reduction_gives_one_row_for_each_batch_and_key() -> None:
    driver = reduced("batch")
    driver.send_batch("in", [row(key, i=i) for i, key in enumerate(["a", "b", "a", "c", "a"])])
    assert [(out["k"], out["i"], out["op"]) for out in driver.read("out")] == [("b", 1, "add"), ("c", 3, "add"), ("a", 6, "add")]
    driver.checkpoint()
    driver.crash_and_restore(parallelism=2)
    driver.send_batch("in", [row("a", i=4), row("d", i=1), row("d", i=1)])
    assert sorted((out["k"], out["i"], out["op"]) for out in driver.read("out")) == [("a", 10, "replace"), ("d", 2, "add")]


def test_a_row_that_a_reduction_refuses_leaves_nothing_in_the_row_of_its_batch() -> None:
    driver = reduced("batch", errors=dead_letter(memory("letters")))
    driver.send_batch("in", [row("a", i=1), row("a", i=13), row("a", i=2), row("b", i=13), row("b", i=13)])
    assert [(out["k"], out["i"], out["op"]) for out in driver.read("out")] == [("a", 3, "add"), ("b", 13, "add")]
    assert len(driver.read("letters")) == 2


def test_only_what_a_table_can_do_is_taken() -> None:
    with pytest.raises(TopologyError, match="aggregate: emit=throttle"):
        grouped(throttle("1s"))
    with pytest.raises(TopologyError, match="reduce: emit=throttle"):
        reduced(throttle("1s"))
    with pytest.raises(TopologyError, match="aggregate: emit='close'"):
        counted("close")
    with pytest.raises(TopologyError, match="count: emit=1"):
        driven(lambda keyed: keyed.count(emit=1))
