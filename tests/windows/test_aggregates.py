"""What each aggregate says of the records of a window, whatever the window is: as of the same records in a list."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, col, memory
from streamdsl.testing import TopologyTestDriver
from tests.aggregates.jobs import AGGREGATES, ROWS
from tests.aggregates.jobs import SCHEMA as COLUMNS
from tests.aggregates.oracle import EXPECTED, same
from tests.windows.jobs import EXAMPLES, bounds, steps_of, windows_of
from tests.windows.model import Hopping, Kind, Model, Session, Sliding

#: Where records meet in another order than they came, sums of floats may round otherwise.
ROUNDED = {"sum_f", "mean_f", "std_f", "var_i"}
FIXED = [Hopping(10, 10), Hopping(10, 10, 3), Hopping(12, 5), Hopping(7, 1)]
FREE = [Session(6), Sliding(8)]


@pytest.mark.parametrize("kinds", [FIXED, FREE], ids=["fixed", "free"])
@settings(max_examples=EXAMPLES // 3, deadline=None)  # each has two dozen aggregates
@given(st.data())
def test_every_aggregate_in_every_window(kinds: list[Kind], data: st.DataObject) -> None:
    kind, grace, emit = data.draw(st.tuples(st.sampled_from(kinds), st.sampled_from([0, 4]), st.sampled_from(["close", "update"])))
    cold, parallelism = data.draw(st.tuples(st.booleans(), st.sampled_from([1, 2])))
    steps = data.draw(steps_of(spread=40))
    numbers = [record.number for step in steps for record in step.records]
    values = {number: data.draw(ROWS) for number in numbers}
    left_out = set() if isinstance(kind, Hopping) else ROUNDED | ({"joined"} if isinstance(kind, Session) else set())  # it has no merge
    names = [name for name in AGGREGATES if name not in left_out]

    topology = Topology("job")
    stream = topology.stream(memory("in", schema={**COLUMNS, "number": int}), timestamp="t", watermarks="external")
    windowed = stream.key_by("k").window(windows_of(kind), grace=grace, emit=emit)
    made = windowed.aggregate(numbers=col("number").to_list(), **{name: AGGREGATES[name] for name in names})
    bounds(made).to(memory("out"))
    driver = TopologyTestDriver(topology, parallelism=parallelism, **({"state_memory": 4_096} if cold else {}))
    model = Model(kind, emit, grace)
    for step in [*steps, None]:
        before = len(model.rows)
        _happen(driver, model, step, values)
        found = {}
        for out in driver.read("out"):
            if out.get("op") != "withdraw":  # the rows are the driver's own: what it has given is recognised after a crash
                found[out["k"], out["ws"], out["we"], tuple(out["numbers"])] = {name: same(out[name]) for name in names}
        wanted = {
            (row.key, row.start, row.end, row.numbers): {
                name: same(EXPECTED[name]([values[number] for number in row.numbers])) for name in names
            }
            for row in model.rows[before:]
            if row.op == "value"
        }
        # What is told once a batch and what once a record differ in number: each that was told is right.
        assert {pane: says for pane, says in wanted.items() if pane in found} == found
        assert emit == "update" or found.keys() == wanted.keys()


def _happen(driver: TopologyTestDriver, model: Model, step: Any, values: dict[int, dict[str, Any]]) -> None:
    if step is None:
        driver.end()
        model.on_end()
    elif step.what == "rows":
        rows = [values[one.number] | {"k": one.key, "t": one.time, "number": one.number} for one in step.records]
        driver.send_batch("in", rows)
        for one in step.records:
            model.on_record(one)
    elif step.what == "watermark":
        driver.advance_watermark("in", step.watermark)
        model.on_watermark(step.watermark)
    elif step.what == "checkpoint":
        driver.checkpoint()
    elif step.what == "crash":
        driver.crash_and_restore(parallelism=step.parallelism)


def test_all_aggregates_are_asked() -> None:
    assert set(EXPECTED) == set(AGGREGATES)
