"""Windows over windows: no stage makes the rows of another late, and what the second says is a function of the first's rows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdsl import Topology, TopologyError, col, memory, tumbling
from streamdsl.testing import TopologyTestDriver
from tests.windows.jobs import SCHEMA, bounds, examples, happen, steps_of, windows_of
from tests.windows.model import Hopping, Kind, Model, Record, Session, Sliding

FIXED = [Hopping(10, 10), Hopping(12, 5), Hopping(7, 7, 3)]
FREE = [Session(5), Sliding(8)]


def rows_of(kind: Kind, grace: int, steps: list[Any]) -> tuple[list[Record], dict[int, tuple[str, int, int]]]:
    """Let the model go through the steps; return its rows as records of the next stage, and the panes that they tell of."""
    model = Model(kind, grace=grace)
    for step in steps:
        if step.what == "rows":
            for record in step.records:
                model.on_record(record)
        elif step.what == "watermark":
            model.on_watermark(step.watermark)
    model.on_end()
    records, panes = [], {}
    for number, row in enumerate(model.rows):
        records.append(Record(number, row.key, row.time))
        panes[number] = (row.key, row.start, len(row.numbers))
    return records, panes


@st.composite
def stages(draw: st.DrawFn, kinds: list[Kind]) -> tuple[Any, ...]:
    first, second = draw(st.sampled_from(kinds)), draw(st.sampled_from(kinds))
    graces = draw(st.tuples(st.sampled_from([0, 6]), st.sampled_from([0, 6])))
    return first, second, graces, draw(st.sampled_from([1, 2, 3])), draw(st.booleans()), draw(steps_of(spread=50))


@pytest.mark.parametrize("kinds", [FIXED, [*FIXED, *FREE]], ids=["fixed", "all"])
@examples
@given(st.data())
def test_windows_of_windows(kinds: list[Kind], data: st.DataObject) -> None:
    first, second, graces, parallelism, cold, steps = data.draw(stages(kinds))
    topology = Topology("nested")
    stream = topology.stream(memory("in", schema=SCHEMA), timestamp="t", watermarks="external")
    inner = bounds(stream.key_by("k").window(windows_of(first), grace=graces[0]).count(name="first")).rename({"ws": "inner"}).drop("we")
    outer = inner.key_by("k").window(windows_of(second), grace=graces[1])
    result = outer.aggregate(starts=col("inner").to_list(), total=col("count").sum(), name="second")
    bounds(result).to(memory("out"))
    result.output("late").to(memory("late"))
    driver = TopologyTestDriver(topology, parallelism=parallelism, **({"state_memory": 4_096} if cold else {}))
    for step in [*steps, None]:
        happen(driver, step)
    assert driver.read("late") == []

    records, panes = rows_of(first, graces[0], steps)
    model = Model(second)
    for record in records:
        model.on_record(record)
    model.on_end()
    wanted = [
        (row.key, row.start, row.end, row.time, sorted(panes[n][1] for n in row.numbers), sum(panes[n][2] for n in row.numbers))
        for row in model.rows
    ]
    found = [
        (out["k"], out["ws"], out["we"], time, sorted(out["starts"]), out["total"]) for time, out in driver.read("out", timestamps=True)
    ]
    assert sorted(found) == sorted(wanted)


def test_a_key_with_a_name_that_a_window_makes_is_refused_by_name() -> None:
    minutes = Topology("t").stream(memory("in", schema=SCHEMA), timestamp="t").key_by("k").window(tumbling("1m")).count()
    with pytest.raises(TopologyError, match=r"(?s)window\(tumbling.*the key has the column 'window_start'.*key_by\(first="):
        minutes.key_by("window_start").window(tumbling("1h"))
    again = minutes.key_by(first=col("window_start")).window(tumbling("1h")).count()
    assert again.schema.visible().names == ("first", "window_start", "window_end", "count")
