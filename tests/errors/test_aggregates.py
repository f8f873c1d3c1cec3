"""An aggregate that refuses a record is as if the record had not come: the run is that of the others alone."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import (
    Aggregate,
    Config,
    DataError,
    Topology,
    UserCodeError,
    col,
    count,
    dead_letter,
    expanding,
    hopping,
    memory,
    rolling,
    tumbling,
)
from streamdsl.testing import TopologyTestDriver

BIG = 2**62
SCHEMA = {"k": str, "x": int, "at": int}


def noted(seen: list[int], x: int | None) -> list[int]:
    """Add x in place, then refuse it if it is divisible by 7."""
    seen.append(x or 0)
    if x is not None and x % 7 == 0:
        raise ValueError(f"{x} is refused")
    return seen


NOTES = Aggregate(init=list, add=noted, merge=lambda a, b: a + b, type=list[int])


def added(total: Any, x: int) -> Any:
    """Add, and answer what is no integer if x is 5."""
    return "five" if x == 5 else total + x


SHAKY = Aggregate(init=int, add=added, merge=lambda a, b: a + b, type=int)


def frame(stream: Any) -> Any:
    return stream.with_columns(
        first=col("x").first().over(expanding()),
        total=col("x").sum().over(expanding()),
        before=col("x").sum().over(expanding(exclude_current=True)),
        previous=col("x").lag(),
        recent=col("x").sum().over(rolling("30ms")),
        seen=count().over(rolling("30ms")),
        largest=col("x").max().over(rolling("20ms")),
        product=(col("x") % 1000).product().over(expanding()),
        kinds=col("x").n_unique().over(rolling("25ms")),
    )


def custom_frame(stream: Any) -> Any:
    return stream.with_columns(
        notes=NOTES(col("x")).over(expanding()),
        shaky=SHAKY(col("x")).over(rolling("30ms")),
        largest=col("x").max().over(rolling("20ms")),
        rows=count().over(expanding()),
    )


#: Two of BIG have as many digits as the sum of decimals can have.
EXACT = col("x").cast(pa.decimal128(38, 19)) + col("x")


def decimal_frame(stream: Any) -> Any:
    return stream.with_columns(
        total=EXACT.sum().over(expanding()),
        before=EXACT.mean().over(expanding(exclude_current=True)),
        recent=EXACT.sum().over(rolling("30ms")),
        mean=EXACT.mean().over(rolling("20ms")),
        largest=EXACT.max().over(rolling("20ms")),
    )


DECIMAL_TOTALS = {"total": EXACT.sum(), "rows": count(), "mean": EXACT.mean(), "last": EXACT.last(), "kinds": EXACT.n_unique()}
TOTALS = {
    "total": col("x").sum(),
    "rows": count(),
    "notes": NOTES(col("x")),
    "last": col("x").last(),
    "product": (col("x") % 1000).product(),
    "shaky": SHAKY(col("x")),
    "few": col("x").sum().filter(col("x") < 5),
}


def window(kind: Any, emit: str) -> Any:
    return lambda stream: stream.window(kind, emit=emit).aggregate(
        **{name: one for name, one in TOTALS.items() if name != "shaky" or emit == "update"}
    )


VERBS = {
    "frame": frame,
    "custom frame": custom_frame,
    "decimal frame": decimal_frame,
    "aggregate": lambda stream: stream.aggregate(**TOTALS),
    "decimals": lambda stream: stream.aggregate(**DECIMAL_TOTALS),
    "decimal windows": lambda stream: stream.window(hopping("20ms", "5ms")).aggregate(**DECIMAL_TOTALS),
    "tumbling": window(tumbling("10ms"), "close"),
    "tumbling updates": window(tumbling("10ms"), "update"),
    "hopping": window(hopping("20ms", "5ms"), "close"),
    "hopping updates": window(hopping("20ms", "5ms"), "update"),
}


def topology(verb: str) -> Topology:
    made = Topology("t", errors=dead_letter(memory("bad")))
    stream = made.stream(memory("in", schema=SCHEMA), timestamp="at", watermarks="external")
    made_by = VERBS[verb](stream.key_by("k"))
    made_by.to(memory("out"))
    return made


def operator_of(made: Any) -> str:
    """Return the name of the operator that keeps state."""
    (name,) = {
        name for task in made.metrics()["tasks"] for name in task["operators"] if name.split(".")[0] in ("frame", "aggregate", "window")
    }
    return name


def outcome(verb: str, steps: list[Any], batch: int, cut: int) -> tuple[Any, ...]:
    """Return what comes of the steps (rows and watermarks), the state, and which rows were refused; in the middle it crashes."""
    driver, waiting = TopologyTestDriver(topology(verb)), []
    for at, step in enumerate([*steps, 0]):
        if waiting and (isinstance(step, int) or len(waiting) == batch):
            driver.send_batch("in", waiting)
            waiting = []
        if isinstance(step, int):
            driver.advance_watermark("in", step)
        else:
            waiting.append(dict(zip(SCHEMA, step, strict=True)))
        if at == cut and not waiting:
            driver.checkpoint()
            driver.crash_and_restore()
    state = driver.state(operator_of(driver))
    driver.end()
    refused = sorted(letter["offset"] for letter in driver.read("bad"))
    return sorted(driver.read("out", timestamps=True), key=repr), state, refused


XS = [1, 2, 5, 7, BIG, -BIG, BIG + 7, 999, -3]
ROW = st.tuples(st.sampled_from("ab"), st.sampled_from(XS), st.integers(0, 60))


@settings(max_examples=200, deadline=None)
@given(
    verb=st.sampled_from(sorted(VERBS)),
    steps=st.lists(st.one_of(ROW, ROW, ROW, st.integers(0, 40)), max_size=35),
    batch=st.integers(1, 12),
    cut=st.integers(0, 30),
)
def test_a_run_is_that_of_the_records_that_are_not_refused(verb, steps, batch, cut):
    found, state, refused = outcome(verb, steps, batch, cut)
    places = [i for i, step in enumerate(steps) if not isinstance(step, int)]
    bad = {places[offset] for offset in refused}
    again, state_again, none = outcome(verb, [step for i, step in enumerate(steps) if i not in bad], 1, -1)
    assert (found, state, none) == (again, state_again, [])


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_too_large_is_refused_by_itself(verb):
    rows = [("a", 1, 1), ("a", BIG, 2), ("a", 2, 3), ("a", BIG, 4), ("b", BIG, 4), ("a", 5 if "custom" in verb else 1, 5), ("a", 2, 6)]
    assert outcome(verb, rows, 10, -1)[2] == ([3, 5] if "custom" in verb else [3])


def numbers(xs: list[int], **options: Any) -> Any:
    rows = [{"k": "a", "x": x, "at": at} for at, x in enumerate(xs)]
    return Topology("t", **options).stream(memory("in", schema=SCHEMA, rows=rows), timestamp="at").key_by("k")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "custom frame"])
def test_without_a_policy_it_ends_the_run_and_says_which_record(verb):
    with pytest.raises(DataError, match=r"integer overflow in sum|decimal overflow: the sum") as caught:
        VERBS[verb](numbers([1, BIG, BIG])).collect()
    assert "at=2" in str(caught.value)


@pytest.mark.parametrize("verb", ["custom frame", "aggregate", "tumbling updates"])
@pytest.mark.parametrize("x", [7, 5])
def test_a_function_that_fails_is_named_with_its_record(verb, x):
    with pytest.raises(UserCodeError) as caught:
        VERBS[verb](numbers([1, x])).collect()
    assert "at=1" in str(caught.value)
    assert caught.value.field == ("notes" if x == 7 else "shaky")


def test_a_long_frame_refuses_records_without_reading_it_again():
    xs = [1] * 1000 + [BIG, BIG] * 100 + [1]
    stream = numbers(xs, errors="skip").with_columns(total=col("x").sum().over(rolling("1h")), n=col("x").n_unique().over(rolling("1h")))
    table = stream.collect(Config(batch_rows=50, state_backend="memory"))
    assert table.column("total").to_pylist() == [*range(1, 1001), 1000 + BIG, 1001 + BIG]
    assert table.column("n").to_pylist()[-1] == 2


def test_a_window_whose_result_cannot_be_computed_is_refused_alone():
    bad, out = memory("bad"), memory("out")
    topology = Topology("t", errors=dead_letter(bad))
    rows = [{"k": k, "x": x, "at": at} for k, x, at in [("a", 1, 1), ("b", 5, 2), ("c", 2, 3), ("b", 5, 12), ("a", 3, 13)]]
    stream = topology.stream(memory("in", schema=SCHEMA, rows=rows), timestamp="at").key_by("k")
    stream.window(tumbling("10ms")).aggregate(shaky=SHAKY(col("x")), rows=count()).to(out)
    topology.run()
    assert [(row["k"], row["shaky"], row["rows"]) for row in out.rows()] == [("a", 1, 1), ("c", 2, 1), ("a", 3, 1)]
    assert [json.loads(letter["value"]) for letter in bad.rows()] == [{"key": "b"}] * 2
    assert ["window [0, 10)" in letter["error"] for letter in bad.rows()] == [True, False]
