"""Aggregates without a window: a changed row for each record, and the aggregates themselves one by one."""

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Aggregate, Topology, col, count, expanding, memory
from streamdsl.errors import DataError, UserCodeError
from streamdsl.schema import type_of
from streamdsl.testing import TopologyTestDriver
from tests.aggregates.jobs import AGGREGATES, arrivals, cut, driven, row, send
from tests.aggregates.oracle import EXPECTED, Arrival, same


def over(aggregate, schema, found):
    """Return the aggregate of a column `x` after each of the values."""
    topology = Topology("job")
    keyed = topology.stream(memory("in", schema={"x": pa.field("x", type_of(schema)), "y": int | None}), watermarks="external").key_by()
    keyed.with_columns(out=aggregate.over(expanding())).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send_batch("in", [{"x": x, "y": i} for i, x in enumerate(found)], timestamps=[0] * len(found))
    return [out["out"] for out in driver.read("out")]


def test_the_first_row_of_a_key_is_added_then_replaced():
    driver = driven(lambda keyed: keyed.aggregate(n=count(), total=col("i").sum()).to_stream())
    send(driver, [Arrival(i, row(key, i=i)) for i, key in enumerate(["a", "b", "a", "a"])])
    assert [(out["k"], out["n"], out["total"], out["op"]) for out in driver.read("out")] == [
        ("a", 1, 0, "add"),
        ("b", 1, 1, "add"),
        ("a", 2, 2, "replace"),
        ("a", 3, 5, "replace"),
    ]


@settings(max_examples=40, deadline=None)
@given(arrivals(), st.lists(st.integers(0, 40), max_size=4), st.integers(0, 40), st.integers(1, 3))
def test_running_aggregates_answer_as_plain_python_does(sent, cuts, restore, parallelism):
    sent = [arrival for arrival in sent if arrival.row is not None]
    driver = driven(lambda keyed: keyed.aggregate(**AGGREGATES).to_stream())
    cut(driver, sent[:restore], cuts)
    driver.checkpoint()
    driver.crash_and_restore(parallelism)
    cut(driver, sent[restore:], cuts)
    history, expected = {}, {}
    for arrival in sent:
        rows = history.setdefault(arrival.row["k"], [])
        rows.append(arrival.row)
        changed = {"k": arrival.row["k"], "op": "add" if len(rows) == 1 else "replace"}
        expected.setdefault(arrival.row["k"], []).append(same(changed | {name: value(rows) for name, value in EXPECTED.items()}))
    found = {}
    for out in driver.read("out"):
        found.setdefault(out["k"], []).append(same(out))
    assert found == expected


def test_nan_is_the_greatest_number():
    found = [2.0, math.nan, 3.0]
    assert [same(x) for x in over(col("x").max(), float, found)] == [same(x) for x in (2.0, math.nan, math.nan)]
    assert over(col("x").min(), float, found[1:])[1] == 3.0
    assert same(over(col("x").top_k(2), float, found)[2]) == same([math.nan, 3.0])
    assert over(col("y").max_by(col("x")), float, found) == [0, 1, 1]


def test_unsigned_numbers_keep_their_range():
    top = 2**64 - 1
    assert over(col("x").max(), "uint64", [1, top, 5]) == [1, top, top]
    assert over(col("x").sum(), "uint64", [top - 1, 1]) == [top - 1, top]
    assert over(col("x").to_list(), "uint64", [top, 0])[1] == [top, 0]
    assert over(col("x").mean(), "uint64", [top]) == [float(top)]
    with pytest.raises(DataError, match="overflow"):
        over(col("x").sum(), "uint64", [top, 1])


def test_an_overflow_is_the_error_of_the_record():
    with pytest.raises(DataError, match="overflow"):
        over(col("x").sum(), int, [2**63 - 1, 1])
    assert over(col("x").sum(), int, [-(2**63), 2**63 - 1]) == [-(2**63), -1]


def test_ties_go_to_the_first_arrival():
    assert over(col("y").max_by(col("x")), int, [1, 2, 2]) == [0, 1, 1]
    assert over(col("y").min_by(col("x")), str, ["b", "a", "a"]) == [0, 1, 1]
    assert over(col("y").top_k(3, by=col("x")), int, [1, 5, 5, 5, 7])[4] == [4, 1, 2]


def test_sets_and_lists_grow():
    texts = [f"value {i % 500} {'x' * (i % 40)}" for i in range(3000)]
    seen, expected = set(), []
    for text in texts:
        seen.add(text)
        expected.append(len(seen))
    assert over(col("x").n_unique(), str, texts) == expected
    assert over(col("x").n_unique(), int, [0, -1, 0, 7, -1]) == [1, 2, 2, 3, 3]
    assert over(col("x").to_list(), str, texts[:200])[199] == texts[:200]
    assert over(col("x").top_k(100), int, list(range(300)))[299] == list(range(299, 199, -1))


def test_an_aggregate_of_ones_own_sees_values_in_order():
    longest = Aggregate(lambda: [], lambda held, value: [*held, value], type=list[str])
    assert over(longest(col("x")), str, ["a", None, "b"]) == [["a"], ["a"], ["a", "b"]]


def test_what_user_code_raises_is_its_fault():
    def broken(held, value):
        raise KeyError(value)

    with pytest.raises(UserCodeError, match="KeyError") as raised:
        over(Aggregate(lambda: 0, broken, type=int)(col("x")), int, [1])
    assert isinstance(raised.value.__cause__, KeyError)
    with pytest.raises(UserCodeError, match="out"):
        over(Aggregate(lambda: 0, lambda held, value: "text", type=int)(col("x")), int, [1])
