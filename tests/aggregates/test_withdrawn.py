"""Withdrawing: a state out of which rows were taken again is the one that never had them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Aggregate
from streamdsl._native.aggregates.testing import States
from streamdsl.errors import InternalError, TopologyError
from streamdsl.logical.aggregates import check_withdrawable
from streamdsl.logical.expression import TypedAggregate
from tests.aggregates.test_merge import ARGUMENTS, RECORD, SPECS, bits, spec


def _remove(seen: list[int], value: int) -> list[int]:
    seen.remove(value)
    return seen


BAG = Aggregate(list, lambda seen, x: sorted([*seen, x]), result=lambda seen: str(seen) if seen else None, type=str, withdraw=_remove)
EXACT = [one for one in SPECS if one.kind != "custom" and not dict(one.params).get("approximate")]
TAKEN_BACK = [
    *(dataclasses.replace(one, retracts=True) for one in EXACT),
    dataclasses.replace(spec("custom", "i", output="str", custom=BAG), retracts=True),
]
#: The order of arrival has a part in these: the oldest of equal rows leaves.
ORDERED = frozenset({"first", "last", "to_list", "min_by", "max_by", "top_k"})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(RECORD, st.booleans(), st.booleans()), max_size=12), st.randoms(use_true_random=False))
def test_what_was_taken_out_leaves_no_trace(records: list[tuple[dict[str, Any], bool, bool]], chance: Any) -> None:
    states = States(TAKEN_BACK)
    batch = pa.RecordBatch.from_pylist([record for record, _, _ in records], schema=ARGUMENTS)
    changing, plain = states.new(), states.new()
    for at, (_, stays, again) in enumerate(records):
        # What refuses a product is no matter here.
        if states.add(changing, batch, [at], 5):
            return
        if again:
            states.rewrite(changing)
        if stays:
            states.add(plain, batch, [at], 5)
    leaving = [at for at, (_, stays, _) in enumerate(records) if not stays]
    chance.shuffle(leaving)
    for at in leaving:
        states.withdraw(changing, batch, [at])
    states.rewrite(changing)
    repeated = len({repr(record) for record, _, _ in records}) < len(records)
    for one, found, wanted in zip(TAKEN_BACK, states.results(changing), states.results(plain), strict=True):
        if one.kind in ORDERED and (repeated or _equal_ones(one, [record for record, _, _ in records])):
            continue
        assert bits(found) == bits(wanted), (one.name, found, wanted)
    for at, (_, stays, _) in enumerate(records):
        if stays:
            states.withdraw(changing, batch, [at])
    empty = states.new()
    assert [bits(value) for value in states.results(changing)] == [bits(value) for value in states.results(empty)]
    states.clear(changing)
    states.clear(plain)
    assert states.kept == 0


def _equal_ones(one: Any, records: list[dict[str, Any]]) -> bool:
    """Whether two records are the same to the aggregate: which of them leaves is another test."""
    names = [ARGUMENTS.names[place] for place in (one.argument, one.by, *one.then_by) if place >= 0]
    cells = [repr([bits(record[name]) for name in names]) for record in records]
    return len(set(cells)) < len(cells)


#: Of these, those of one column and one condition have one state.
TOGETHER = [
    dataclasses.replace(one, retracts=True)
    for one in (
        *(spec(kind, "f", where=where) for where in ("", "w") for kind in ("mean", "sum")),
        *(spec(kind, "f", ddof=ddof) for kind in ("std", "var") for ddof in (0, 1)),
        *(spec(kind, name) for name in "id" for kind in ("sum", "mean")),
    )
]


@settings(max_examples=100, deadline=None)
@given(st.permutations(TOGETHER), st.booleans(), st.lists(st.tuples(RECORD, st.booleans(), st.booleans()), max_size=12))
def test_results_of_one_state_are_those_of_their_own(
    together: list[Any], retracts: bool, records: list[tuple[dict[str, Any], bool, bool]]
) -> None:
    together = [dataclasses.replace(one, retracts=retracts) for one in together]
    batch = pa.RecordBatch.from_pylist([record for record, _, _ in records], schema=ARGUMENTS)

    def results(specs: list[Any]) -> list[Any]:
        states = States(specs)
        pair = states.new(), states.new()
        for at, (_, first, _) in enumerate(records):
            states.add(pair[first], batch, [at], 5)
        for at, (_, first, stays) in enumerate(records):
            if retracts and not stays:
                states.withdraw(pair[first], batch, [at])
        states.merge(*pair)
        states.rewrite(pair[0])
        found = [bits(value) for value in states.results(pair[0])]
        states.clear(pair[0])
        assert states.kept == 0
        return found

    assert results(together) == [results([one])[0] for one in together]


def test_a_sum_and_a_mean_of_one_column_take_the_room_of_one() -> None:
    def room(specs: list[Any]) -> int:
        states = States(specs)
        return len(states.rewrite(states.new()))

    assert room(TOGETHER[:2]) == room(TOGETHER[:1])
    assert room(TOGETHER[:4]) == 2 * room(TOGETHER[:1])  # another condition, another state


def test_of_equal_rows_the_oldest_leaves() -> None:
    specs = [dataclasses.replace(one, retracts=True) for one in (spec("to_list", "s"), spec("first", "s"), spec("last", "s"))]
    states = States(specs)
    state = states.new()
    batch = pa.RecordBatch.from_pylist([{"s": text} for text in ("x", "y", "x", "z")], schema=ARGUMENTS)
    states.add(state, batch, range(4), 10)
    states.withdraw(state, batch, [2])
    assert states.results(state) == ['["y","x","z"]', "y", "z"]
    states.withdraw(state, batch, [3])
    assert states.results(state) == ['["y","x"]', "y", "x"]


@pytest.mark.parametrize("n", [1, 129, 1_000])
def test_a_large_group_is_kept_in_order(n: int) -> None:
    """Many more values than one block has, added in a scattered order and taken out in another."""
    specs = [spec("min", "i"), spec("max", "i"), spec("n_unique", "i"), spec("quantile", "f", q=0.5, interpolation="linear")]
    specs += [spec("first", "i"), spec("last", "i"), spec("max_by", "i", by="by")]
    states = States([dataclasses.replace(one, retracts=True) for one in specs])
    state = states.new()
    values = [at * 7_919 % n for at in range(n)]
    batch = pa.RecordBatch.from_pylist([{"i": value, "f": float(value), "by": float(-value)} for value in values], schema=ARGUMENTS)
    states.add(state, batch, range(n), 0)
    left = dict(enumerate(values))
    for step, at in enumerate(at * 5_003 % n for at in range(n - 1)):
        states.withdraw(state, batch, [at])
        del left[at]
        if step % 97 == 0 or step == n - 2:
            states.rewrite(state)
            ordered = sorted(left.values())
            middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
            first, last = left[min(left)], left[max(left)]
            assert states.results(state) == [ordered[0], ordered[-1], len(ordered), middle, first, last, ordered[0]]


def test_sums_are_exact_however_far_apart_the_values_are() -> None:
    specs = [dataclasses.replace(spec(kind, "f"), retracts=True) for kind in ("sum", "mean", "var")]
    states = States(specs)
    state = states.new()
    batch = pa.RecordBatch.from_pylist([{"f": value} for value in (1e300, 0.1, -1e300, 5e-324, -0.0)], schema=ARGUMENTS)
    states.add(state, batch, range(5), 0)
    states.withdraw(state, batch, [2, 0, 4])
    assert states.results(state) == [0.1, 0.05, 0.0025000000000000005]
    for _ in range(50):
        states.add(state, batch, [2, 0], 0)
        states.withdraw(state, batch, [0, 2])
    assert len(states.rewrite(state)) < 1_600  # the digits of 1e300 are gone
    assert states.results(state)[0] == 0.1


def test_a_value_that_is_not_there_cannot_be_taken_out() -> None:
    for one in (spec("max", "i"), spec("last", "i")):
        states = States([dataclasses.replace(one, retracts=True)])
        with pytest.raises(InternalError, match="does not have"):
            states.withdraw(states.new(), pa.RecordBatch.from_pylist([{"i": 1}], schema=ARGUMENTS), [0])


def test_what_cannot_give_a_value_back_is_refused_by_name() -> None:
    plain = Aggregate(lambda: 0, max, type=int)
    for made, remedy in (
        (TypedAggregate(name="n", kind="custom", type=pa.int64(), nullable=True, custom=plain), "withdraw="),
        (TypedAggregate(name="n", kind="n_unique", type=pa.int64(), nullable=True, params=(("approximate", True),)), "approximate="),
    ):
        with pytest.raises(TopologyError, match="aggregate: n = ") as caught:
            check_withdrawable("aggregate", [made])
        assert remedy in str(caught.value.remedy)
