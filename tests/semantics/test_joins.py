"""Sentences about joins, tables and look-ups, one by one. Each test begins with its sentence; the models are in tests/joins."""

from __future__ import annotations

from typing import Any

import pytest

from streamdsl import Config, Topology, col, count, dead_letter, memory, tumbling
from streamdsl.testing import TopologyTestDriver

ROW = {"k": str | None, "t": int, "v": int | None}
FIRST, LAST = -(2**63), 2**63 - 1


def sides(topology: Topology) -> list[Any]:
    return [topology.stream(memory(name, ROW), timestamp="t", watermarks="external") for name in ("left", "right")]


def joined(how: str = "inner", parallelism: int = 1, **options: Any) -> TopologyTestDriver:
    topology = Topology("job")
    left, right = sides(topology)
    left.join(right, on="k", how=how, name="join", **options).to(memory("out"))
    return TopologyTestDriver(topology, parallelism=parallelism)


def send(driver: TopologyTestDriver, side: str, *times: int, key: str | None = "a") -> None:
    driver.send_batch(side, [{"k": key, "t": t, "v": t} for t in times])


def both(driver: TopologyTestDriver, watermark: int) -> None:
    for side in ("left", "right"):
        driver.advance_watermark(side, watermark)


def pairs(driver: TopologyTestDriver) -> list[tuple[Any, Any, int]]:
    return [(row["v"], row["v_right"], at) for at, row in driver.read("out", timestamps=True)]


# Stream-stream ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["inner", "left", "right", "outer"])
def test_nothing_wraps_near_the_ends_of_time(how: str) -> None:
    driver = joined(how, before=1_000, after=1_000, grace=10)
    send(driver, "left", FIRST + 1, LAST - 1)
    send(driver, "right", FIRST + 5, LAST - 5)
    assert sorted(pairs(driver)) == [(FIRST + 1, FIRST + 5, FIRST + 5), (LAST - 1, LAST - 5, LAST - 1)]
    both(driver, 0)
    driver.end()
    assert pairs(driver) == []


def test_unmatched_rows_have_their_own_time_and_come_before_the_watermark_that_passes_them() -> None:
    topology = Topology("job")
    left, right = sides(topology)
    both_sides = left.join(right, on="k", how="outer", before=3, after=20, grace=5)
    windows = both_sides.select("k", "t").key_by("k").window(tumbling(10)).count(name="windows")
    windows.select("count", start=col("window_start").cast(int)).to(memory("out"))
    driver = TopologyTestDriver(topology)
    send(driver, "left", 1, 12)
    both(driver, 25)  # the first row waits until 1 + 20 + 5
    send(driver, "left", 100)
    both(driver, 30)
    assert driver.read("out") == []  # it has come out, but others up to 30 - 20 - 5 may, too
    both(driver, 60)
    assert driver.read("out") == [{"count": 1, "start": 0}, {"count": 1, "start": 10}]


def test_a_late_row_within_the_grace_still_matches_and_one_behind_it_is_counted() -> None:
    driver = joined(before=10, after=10, grace=5)
    send(driver, "left", 100)
    both(driver, 98)
    send(driver, "right", 94, 93)
    assert pairs(driver) == [(100, 94, 100)]
    (figures,) = [found for task in driver.metrics()["tasks"] for name, found in task["operators"].items() if name == "join"]
    assert figures["late"] == 1


@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_a_row_that_ever_matched_never_also_appears_unmatched_also_across_a_restart(crash_at: int) -> None:
    driver = joined("outer", parallelism=2, before=10, after=10)
    steps = [lambda: send(driver, "left", 10), lambda: send(driver, "right", 15), lambda: both(driver, 30), driver.end]
    for at, step in enumerate(steps):
        if at == crash_at:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=crash_at)
        step()
    assert pairs(driver) == [(10, 15, 15)]


def test_rows_of_equal_times_that_wait_come_out_once_each() -> None:
    driver = joined("left", before=0, after=10)
    send(driver, "left", 5, 5, 5, 6)
    both(driver, 14)
    send(driver, "left", 15)
    both(driver, 15)
    assert pairs(driver) == [(5, None, 5)] * 3
    both(driver, 16)
    assert pairs(driver) == [(6, None, 6)]


# As-of ------------------------------------------------------------------------------------------------------------------


def test_as_of_waits_for_the_time_and_takes_the_last_to_arrive_of_equal_times() -> None:
    topology = Topology("job")
    left, right = sides(topology)
    left.join_asof(right, by="k").to(memory("out"))
    driver = TopologyTestDriver(topology)
    send(driver, "left", 10, 10, 11)
    for v in (1, 2):
        driver.send("right", {"k": "a", "t": 10, "v": v})
    both(driver, 9)
    assert pairs(driver) == []
    driver.checkpoint()
    driver.crash_and_restore(parallelism=2)
    both(driver, 10)
    assert pairs(driver) == [(10, 2, 10)] * 2
    driver.send("right", {"k": "a", "t": 11, "v": 3})
    both(driver, 11)
    assert pairs(driver) == [(11, 3, 11)]


# Tables -----------------------------------------------------------------------------------------------------------------


def tables(*names: str, schema: Any = None, **options: Any) -> tuple[Topology, list[Any]]:
    topology = Topology("job")
    schema = {"k": str, "v": int | None} if schema is None else schema
    return topology, [topology.table(memory(name, schema), key="k", **options) for name in names]


def changes(driver: TopologyTestDriver, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in ("op", *columns)) for row in driver.read("out")]


def test_either_side_of_two_tables_emits_and_a_tombstone_withdraws() -> None:
    topology, (left, right) = tables("left", "right")
    left.join(right.select("k", w=col("v")), on="k", how="inner").to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send("left", {"k": "a", "v": 1}, timestamp=1)
    assert changes(driver) == []
    driver.send("right", {"k": "a", "v": 2}, timestamp=2)
    driver.send("left", {"k": "a", "v": 3}, timestamp=3)
    assert changes(driver, "v", "w") == [("add", 1, 2), ("replace", 3, 2)]
    driver.send("right", {"k": "a", "v": None}, timestamp=4)
    assert changes(driver, "k") == [("withdraw", "a")]


def test_regrouping_a_table_withdraws_the_old_row_before_it_adds_the_new_one() -> None:
    topology, (table,) = tables("left")
    table.group_by("v").aggregate(n=count()).to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology)
    for t, v in ((1, 1), (2, 2), (3, 2)):
        driver.send("left", {"k": "a", "v": v}, timestamp=t)
    found = changes(driver, "v", "n")
    assert found[:3] == [("add", 1, 1), ("withdraw", 1, 1), ("add", 2, 1)]
    assert [change for change in found[3:] if change[0] != "replace"] in ([], [("withdraw", 2, 1), ("add", 2, 1)])


def test_a_table_keeps_the_last_row_by_arrival_and_a_versioned_one_by_time() -> None:
    for options, found in (({}, 5), ({"versioned": "1h"}, 9)):
        topology, (table,) = tables("right", schema=ROW, timestamp="t", **options)
        stream = topology.stream(memory("left", ROW), timestamp="t", watermarks="external")
        stream.join(table, on="k").to(memory("out"))
        driver = TopologyTestDriver(topology)
        driver.send("right", {"k": "a", "t": 9, "v": 9})
        driver.send("right", {"k": "a", "t": 5, "v": 5})
        send(driver, "left", 20)
        assert [row["v_right"] for row in driver.read("out")] == [found]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_with_both_inputs_waiting_the_earlier_time_goes_first(parallelism: int) -> None:
    topology = Topology("job")
    table = topology.table(memory("right", ROW, [{"k": "a", "t": t, "v": t} for t in (1, 4, 8)]), key="k", timestamp="t")
    stream = topology.stream(memory("left", ROW, [{"k": "a", "t": t, "v": t} for t in (0, 1, 5, 8, 9)]), timestamp="t")
    found = stream.join(table, on="k", how="left").collect(Config(parallelism=parallelism, batch_rows=1)).to_pylist()
    assert [(row["t"], row["v_right"]) for row in found] == [(0, None), (1, 1), (5, 4), (8, 8), (9, 8)]


def test_what_leaves_through_a_sink_is_an_upsert_by_key_or_a_tombstone() -> None:
    topology, (table,) = tables("left")
    table.filter(col("v") > 1).to(memory("out"))
    driver = TopologyTestDriver(topology)
    for t, v in ((1, 1), (2, 2), (3, 3), (4, 0)):
        driver.send("left", {"k": "a", "v": v}, timestamp=t)
    assert [(row["k"], row["v"]) for row in driver.read("out")] == [("a", 2), ("a", 3), ("a", None)]


# Look-ups ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("errors", ["skip", "dead_letter"])
def test_a_look_up_that_fails_follows_the_policy(errors: str) -> None:
    async def named(key: str) -> dict[str, str]:
        if key == "b":
            raise ConnectionError("away")
        return {"name": key.upper()}

    letters = memory("letters")
    topology = Topology("job", errors=dead_letter(letters) if errors == "dead_letter" else "skip")
    stream = topology.stream(memory("in", ROW), timestamp="t")
    stream.join_lookup(named, on="k", schema={"name": str}, retry=0).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send_batch("in", [{"k": k, "t": 1, "v": 1} for k in "abc"])
    assert [row["name"] for row in driver.read("out")] == ["A", "C"]
    assert len(driver.read("letters")) == 1 if errors == "dead_letter" else True


def test_names_of_a_look_up_that_clash_are_refused_with_the_remedy() -> None:
    async def named(key: str) -> dict[str, int]:
        return {"v": 1}

    stream = Topology("job").stream(memory("in", {**ROW, "v_right": int}))
    with pytest.raises(Exception, match=r"'v'.*'v_right'.*\n.*suffix="):
        stream.join_lookup(named, on="k", schema={"v": int})
    assert stream.join_lookup(named, on="k", schema={"v": int}, suffix="_2").schema.names[-1] == "v_2"
