"""As-of joins and joins with a table, against their models."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamdsl import Topology, memory
from streamdsl.testing import TopologyTestDriver
from tests.joins.jobs import KEYS, LEFT, RIGHT, Step, examples, happen
from tests.joins.model import AsOfModel, Joined, Record, StreamTableModel


def asof(tolerance: int | None = None, allow_exact: bool = True, how: str = "left") -> Topology:
    """Return: left, each beside the latest of right → "out"."""
    topology = Topology("job")
    left = topology.stream(memory("left", schema=LEFT), timestamp="lt", watermarks="external")
    right = topology.stream(memory("right", schema=RIGHT), timestamp="rt", watermarks="external")
    left.join_asof(right, by="k", how=how, tolerance=tolerance, allow_exact=allow_exact).to(memory("out"))
    return topology


def enriched(how: str) -> Topology:
    """Return: left, each beside the table's row of its key → "out"."""
    topology = Topology("job")
    left = topology.stream(memory("left", schema=LEFT), timestamp="lt", watermarks="external")
    table = topology.table(memory("right", schema={"k": str | None, "m": int | None}), key="k")
    left.join(table, on="k", how=how).to(memory("out"))
    return topology


@st.composite
def on_time(draw: st.DrawFn) -> list[Step]:
    """Draw records of both sides that are never late, in any order beyond that, with a checkpoint and a crash."""
    reached = {"left": 0, "right": 0}
    made: list[Step] = []
    number = 0
    for _ in range(draw(st.integers(1, 14))):
        side = draw(st.sampled_from(["left", "right"]))
        if draw(st.integers(0, 2)):
            size = draw(st.sampled_from([1, 1, 2, 4]))
            keys = [None, *KEYS] if draw(st.integers(0, 4)) == 0 else KEYS
            moments = [reached[side] + draw(st.integers(1, 20)) for _ in range(size)]
            made.append(Step("rows", side, tuple(Record(number + i, draw(st.sampled_from(keys)), moments[i]) for i in range(size))))
            number += size
        else:
            reached[side] += draw(st.integers(1, 15))
            made.append(Step("watermark", side, watermark=reached[side]))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(made)))
        made[at:at] = [Step("checkpoint"), Step("crash", parallelism=draw(st.integers(1, 4)))]
    return made


OPTIONS = st.tuples(st.sampled_from([None, 0, 3, 15]), st.booleans(), st.sampled_from(["left", "inner"]))


@examples
@given(OPTIONS, on_time(), st.integers(1, 4), st.booleans(), st.none() | st.integers(0, 99))
def test_the_latest_row_at_or_before_each(options: Any, steps: list[Step], parallelism: int, cold: bool, seed: int | None) -> None:
    tolerance, allow_exact, how = options
    driver = TopologyTestDriver(asof(*options), parallelism=parallelism, seed=seed, **({"state_memory": 4_096} if cold else {}))
    model, at = AsOfModel(tolerance, allow_exact), {"left": -(2**63), "right": -(2**63)}
    for step in [*steps, None]:
        before = len(model.rows)
        happen(driver, step)
        if step is None:
            model.on_end()
        elif step.what == "rows":
            for one in step.records:
                model.on_record(step.side, one)
        elif step.what == "watermark":
            at[step.side] = step.watermark
            model.on_watermark(min(at.values()))
        found = [Joined(time, out["k"], out["n"], out["m"]) for time, out in driver.read("out", timestamps=True)]
        wanted = [row for row in model.rows[before:] if how == "left" or row.right is not None]
        assert sorted(found, key=repr) == sorted(wanted, key=repr)


@examples
@given(st.sampled_from(["inner", "left"]), on_time(), st.integers(1, 4), st.booleans(), st.sets(st.integers(0, 60), max_size=8))
def test_the_table_as_it_is_then(how: str, steps: list[Step], parallelism: int, cold: bool, tombstones: set[int]) -> None:
    driver = TopologyTestDriver(enriched(how), parallelism=parallelism, **({"state_memory": 4_096} if cold else {}))
    model = StreamTableModel(how)
    for step in steps:
        before = len(model.rows)
        if step.what == "rows" and step.side == "right":
            rows = [{"k": one.key, "m": None if one.number in tombstones else one.number} for one in step.records]
            driver.send_batch("right", rows, timestamps=[one.time for one in step.records])
        elif step.what != "watermark" or step.side == "left":
            happen(driver, step)
        if step.what == "rows":
            for one in step.records:
                model.on_record(step.side, one, tombstone=one.number in tombstones)
        found = [Joined(time, out["k"], out["n"], out["m"]) for time, out in driver.read("out", timestamps=True)]
        assert sorted(found, key=repr) == sorted(model.rows[before:], key=repr)


def test_a_cold_row_of_an_empty_key_waits_for_its_time() -> None:
    driver = TopologyTestDriver(asof(), state_memory=4_096)
    rows = [("", 4), ("a", 1), ("a", 4), ("a", 4), ("b", 4), ("b", 5)]
    for number, (key, at) in enumerate(rows):
        driver.send("left", {"k": key, "n": number, "lt": at})
    driver.advance_watermark("left", 3)
    driver.advance_watermark("right", 3)
    assert [row["n"] for row in driver.read("out")] == [1]
    driver.send("right", {"k": "", "m": 9, "rt": 4})
    driver.advance_watermark("left", 4)
    driver.advance_watermark("right", 4)
    assert [(row["k"], row["m"]) for row in driver.read("out") if row["k"] == ""] == [("", 9)]
