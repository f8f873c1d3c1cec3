"""The rows that joins keep: of every type and with nulls, and no longer than they are of use."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, memory
from streamdsl.testing import TopologyTestDriver

TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "whole": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "unsigned": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "real": (pa.float64(), st.floats(allow_nan=False)),
    "yes": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.text(max_size=20)),
    "exact": (pa.decimal128(20, 2), st.decimals(-(10**17), 10**17, places=2)),
    "day": (pa.date32(), st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 1, 1))),
}
NAMES = st.lists(st.sampled_from(list(TYPES)), max_size=9)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Draw a few rows of a few columns, with nulls."""
    names = draw(NAMES)
    n = draw(st.integers(1, 4))
    columns: dict[str, pa.Array] = {"k": pa.array([draw(st.integers(0, 1)) for _ in range(n)], pa.int64())}
    columns["at"] = pa.array(range(n), pa.int64())
    for i, name in enumerate(names):
        type_, values = TYPES[name]
        columns[f"{name}{i}"] = pa.array([draw(values | st.none()) for _ in range(n)], type_)
    return pa.table(columns)


@settings(max_examples=100, deadline=None)
@given(tables(), tables(), st.booleans())
def test_rows_come_back_as_they_were(left: pa.Table, right: pa.Table, restored: bool) -> None:
    right = right.rename_columns(["k", "at_r", *(f"r_{name}" for name in right.column_names[2:])])
    topology = Topology("t")
    a = topology.stream(memory("left", schema=left.schema), timestamp="at", watermarks="external")
    b = topology.stream(memory("right", schema=right.schema), timestamp="at_r", watermarks="external")
    a.join(b, on="k", how="outer", within=None).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send_batch("left", left.to_pylist())
    if restored:
        driver.checkpoint()
        driver.crash_and_restore()
    driver.send_batch("right", right.to_pylist())
    driver.end()
    nothing = [dict.fromkeys(table.column_names) for table in (left, right)]
    lefts, rights = left.to_pylist(), right.to_pylist()
    expected = [{**a, **b} for a in lefts for b in rights if a["k"] == b["k"]]
    expected += [{**nothing[1], **a} for a in lefts if all(a["k"] != b["k"] for b in rights)]
    expected += [{**nothing[0], **b} for b in rights if all(a["k"] != b["k"] for a in lefts)]
    order = list(expected[0])
    assert sorted(repr({name: row[name] for name in order}) for row in driver.read("out")) == sorted(
        repr({name: row[name] for name in order}) for row in expected
    )


def test_a_key_without_pause_keeps_few_rows_and_one_deadline() -> None:
    topology = Topology("t")
    a = topology.stream(memory("left", schema={"k": str, "at": int}), timestamp="at", watermarks="external")
    b = topology.stream(memory("right", schema={"k": str, "at_r": int}), timestamp="at_r", watermarks="external")
    a.join(b, on="k", within=100).to(memory("out"))
    driver = TopologyTestDriver(topology)
    sizes = []
    for at in range(0, 5_000, 10):
        driver.send("left", {"k": "a", "at": at})
        driver.send("right", {"k": "a", "at_r": at})
        driver.advance_watermark("left", at)
        driver.advance_watermark("right", at)
        assert driver.read("out")
        deadlines = [one["deadlines"] for one in driver.metrics()["operators"].values() if "deadlines" in one]
        assert deadlines == [1]
        sizes.append(driver.metrics()["state"]["bytes"])
    assert max(sizes[100:]) <= 2 * max(sizes[10:100])
    driver.advance_watermark("left", 10_000)
    driver.advance_watermark("right", 10_000)
    assert [one["deadlines"] for one in driver.metrics()["operators"].values() if "deadlines" in one] == [0]
