"""Merging: two states of a key become the one that a single pass over its records, by arrival, would have left."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Aggregate, Topology, col, count, memory
from streamdsl._native.aggregates.testing import States
from streamdsl._native.operators.key_lookup import KeyLookup
from streamdsl.errors import RecordError, TopologyError, UserCodeError
from streamdsl.logical.aggregates import check_mergeable, mergeable
from streamdsl.logical.expression import TypedAggregate
from streamdsl.physical.node import AggregateSpec
from streamdsl.testing import TopologyTestDriver
from tests.aggregates.jobs import driven, row

MONEY = pa.decimal128(12, 2)
#: The columns of a record, in the order of the argument program: what is aggregated, what orders, what filters.
ARGUMENTS = pa.schema(
    [
        ("i", pa.int64()),
        ("u", pa.uint64()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("b", pa.bool_()),
        ("by", pa.float64()),
        ("w", pa.bool_()),
        ("d", MONEY),
    ]
)
PLACE = {name: at for at, name in enumerate(ARGUMENTS.names)}
KIND: dict[str, Any] = {"i": "i64", "u": "u64", "f": "f64", "s": "str", "b": "bool", "by": "f64", "w": "bool", "d": "dec"}
ROUNDED = frozenset({"sum", "mean", "var", "std", "product"})


def _refusing_add(seen: list[int], value: int) -> list[int]:
    seen.append(value)  # the state may be changed before the record is refused
    if value == 7:
        raise ValueError("seven")
    return sorted(seen)


TRAIL = Aggregate(list, _refusing_add, lambda a, b: sorted(a + b), result=lambda seen: ",".join(map(str, seen)), type=str)
FIRST = Aggregate(lambda: None, lambda seen, value: value if seen is None else seen, lambda a, b: a, type=int)


def spec(
    kind: str, column: str = "", *, by: str = "", then_by: str = "", where: str = "", output: str = "", custom: Any = None, **params: Any
) -> AggregateSpec:
    """Return the aggregate as the physical plan has it."""
    given: Any = KIND[column] if column else None
    fixed: dict[str, Any] = {
        "count": "i64",
        "n_unique": "i64",
        "mean": "dec" if given == "dec" else "f64",
        "var": "f64",
        "std": "f64",
        "to_list": "str",
        "top_k": "str",
    }
    kind_of: Any = output or fixed.get(kind) or ("i64" if kind == "sum" and given == "bool" else given)
    return AggregateSpec(
        name=f"{kind}_{column}_{by}_{where}",
        kind=kind,
        input_kind=given,
        output_kind=kind_of,
        output_type={
            "i64": pa.int64(),
            "u64": pa.uint64(),
            "f64": pa.float64(),
            "str": pa.string(),
            "bool": pa.bool_(),
            "dec": pa.decimal128(38, 2),
        }[kind_of],
        argument=PLACE[column] if column else -1,
        by=PLACE[by] if by else -1,
        by_kind=KIND[by] if by else None,
        then_by=tuple(PLACE[name] for name in then_by),
        then_kinds=tuple(KIND[name] for name in then_by),
        where=PLACE[where] if where else -1,
        params=tuple(sorted(params.items())),
        input_type=ARGUMENTS.field(column).type if column else None,
        custom=custom,
    )


#: Every aggregate, over every kind of column that it takes.
SPECS = [
    spec("count"),
    spec("count", "i", where="w"),
    *(spec("sum", name) for name in "iufbd"),
    *(spec(kind, name) for kind in ("min", "max") for name in "iufsbd"),
    *(spec("mean", name) for name in "iufd"),
    *(spec(kind, "f", ddof=ddof) for kind in ("var", "std") for ddof in (0, 1)),
    *(spec(kind, name) for kind in ("first", "last") for name in "iufsbd"),
    *(spec(kind, name, by=by) for kind in ("min_by", "max_by") for name in "isd" for by in ("by", "s", "d")),
    *(spec("to_list", name) for name in "iufsbd"),
    spec("to_list", "s", where="w"),
    *(spec("n_unique", name) for name in "iufsd"),
    *(spec("top_k", name, by=by, n=n) for name in "isd" for by in ("by", "d") for n in (1, 3, 50)),
    spec("top_k", "f", n=2),
    *(spec("top_k", "i", by="by", then_by=then_by, n=n) for then_by in ("s", "f", "d", "uf", "sidb") for n in (2, 50)),
    *(spec(kind, "s", by="by", then_by=then_by) for kind in ("max_by", "min_by") for then_by in ("f", "us", "sidb")),
    *(spec("n_unique", name, approximate=True) for name in "iufsd"),
    *(spec("quantile", "f", q=q, interpolation="linear", approximate=True) for q in (0.0, 0.25, 0.5, 1.0)),
    spec("product", "f"),
    spec("product", "i"),
    *(spec("quantile", "f", q=q, interpolation=between) for q in (0.0, 0.5, 0.9) for between in ("nearest", "linear")),
    spec("custom", "i", output="str", custom=TRAIL),
    spec("custom", "i", output="i64", custom=FIRST),
]
ODD = [0.0, -0.0, math.nan, math.inf, -math.inf, 1.0, 1.5, 1e300, -1e300, 5e-324]
VALUES: dict[str, Any] = {
    "i": st.integers(-9, 9),
    "u": st.integers(0, 9),
    "f": st.sampled_from(ODD) | st.integers(-9, 9).map(float),
    "s": st.sampled_from(["", "a", "b", "ab", "a\x00", "long enough to lie in another place"]),
    "b": st.booleans(),
    "by": st.sampled_from([0.0, -0.0, math.nan, 1.0, 2.0]),
    "w": st.booleans(),
    "d": st.sampled_from(["0.00", "-1.50", "12.25", "9999999999.99"]).map(Decimal),
}
RECORD = st.fixed_dictionaries({name: st.none() | value for name, value in VALUES.items()})


def bits(value: Any) -> Any:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else struct.pack("<d", value)
    return value


def same(one: AggregateSpec, merged: Any, single: Any, values: list[float]) -> bool:
    """Whether two results are equal, bit for bit; what is made of float sums up to rounding."""
    if bits(merged) == bits(single):
        return True
    if not isinstance(single, float) or not isinstance(merged, float) or one.kind not in ROUNDED or one.input_kind != "f64":
        return False
    if max(map(abs, values)) > 100 or any(map(math.isnan, values)):
        return True  # in which order huge numbers are added decides what is left of the others
    return math.isclose(merged, single, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(RECORD, st.integers(0, 2), st.booleans()), max_size=12), st.integers(1, 2**40), st.booleans())
def test_merged_states_are_those_of_one_pass(records: list[tuple[dict[str, Any], int, bool]], arrived: int, swapped: bool) -> None:
    states = States(SPECS)
    batch = pa.RecordBatch.from_pylist([record for record, _, _ in records], schema=ARGUMENTS)
    single = states.new()
    parts = [states.new(), states.new(), states.new()]
    refused = set(states.add(single, batch, range(len(records)), arrived))
    refused_apart = set()
    for at, (_, part, again) in enumerate(records):
        refused_apart |= set(states.add(parts[part], batch, [at], arrived))
        if again:
            states.rewrite(parts[part])
    assert refused_apart == refused
    into, *others = reversed(parts) if swapped else parts
    for other in others:
        states.merge(into, other)
        assert states.empty(other)
        states.rewrite(into)
    values = [record["f"] for record, _, _ in records if record["f"] is not None]
    for one, merged, wanted in zip(SPECS, states.results(into), states.results(single), strict=True):
        assert same(one, merged, wanted, values), (one.name, merged, wanted)
    states.clear(into)
    states.clear(single)
    assert states.kept == 0


#: What chooses one record, of each kind over several columns: where none is null, they share a state.
CHOSEN = [
    *(spec(kind, name, where=where) for kind in ("first", "last") for where in ("", "w") for name in "iufsbd"),
    *(spec(kind, name, by=by) for kind in ("min_by", "max_by") for name in "isd" for by in ("by", "s", "d")),
    *(spec(kind, name, by="by", then_by=ties, where="w") for kind in ("min_by", "max_by") for name in "sub" for ties in ("f", "sidb")),
]
WHOLE = st.fixed_dictionaries({name: st.none() | value if name in ("by", "w") else value for name, value in VALUES.items()})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(WHOLE, st.integers(0, 2), st.booleans()), max_size=8), st.integers(1, 2**40))
def test_aggregates_that_choose_one_record_share_a_state(records: list[tuple[dict[str, Any], int, bool]], arrived: int) -> None:
    batch = pa.RecordBatch.from_pylist([record for record, _, _ in records], schema=ARGUMENTS)
    found, sizes = [], []
    for shared in (False, True):
        states = States([replace(one, never_null=shared) for one in CHOSEN])
        parts = [states.new(), states.new(), states.new()]
        results = []
        for at, (_, part, again) in enumerate(records):
            states.add(parts[part], batch, [at], arrived)
            sizes.append(len(states.rewrite(parts[part])) if again else 0)
            results.append(list(map(bits, states.results(parts[part]))))
        for other in parts[1:]:
            states.merge(parts[0], other)
            assert states.empty(other)
            results.append(list(map(bits, states.results(parts[0]))))
        states.clear(parts[0])
        assert states.empty(parts[0])
        assert states.kept == 0
        found.append(results)
    assert found[0] == found[1]
    apart, together = sizes[: len(records)], sizes[len(records) :]
    assert all(one == 0 or other < one for one, other in zip(apart, together, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(RECORD, st.booleans()), min_size=1, max_size=10))
def test_it_does_not_matter_which_state_is_merged_into_which(records: list[tuple[dict[str, Any], bool]]) -> None:
    batch = pa.RecordBatch.from_pylist([record for record, _ in records], schema=ARGUMENTS)
    found = []
    for turned in (False, True):
        states = States(SPECS)
        pair = [states.new(), states.new()]
        for at, (_, second) in enumerate(records):
            states.add(pair[second], batch, [at], 5)
        if turned:
            pair.reverse()
        states.merge(*pair)
        found.append([bits(value) for value in states.results(pair[0])])
    assert [one for one, a, b in zip(SPECS, *found, strict=True) if a != b] == []


def test_a_merged_mean_is_the_sum_by_the_count() -> None:
    specs = [spec("mean", "f"), spec("sum", "f"), spec("count", "f")]
    values = [0.1, 0.2, 0.3, 1e17, -1e17, 7.7, 1 / 3]
    states = States(specs)
    one, other = states.new(), states.new()
    batch = pa.RecordBatch.from_pylist([{"f": value} for value in values], schema=ARGUMENTS)
    states.add(one, batch, [0, 2, 4, 6], 0)
    states.add(other, batch, [1, 3, 5], 0)
    states.merge(one, other)
    mean, total, n = states.results(one)
    assert mean == total / n


def test_a_merge_that_one_aggregate_refuses_changes_none() -> None:
    def no(a: Any, b: Any) -> Any:
        a.append("spoilt")
        raise ValueError("these two do not go together")

    for last, error in (
        (spec("custom", "i", output="i64", custom=Aggregate(list, lambda a, b: [*a, b], no, result=len, type=int)), UserCodeError),
        (spec("sum", "i"), RecordError),
        (spec("product", "i"), RecordError),
    ):
        specs = [spec("to_list", "i"), spec("custom", "i", output="str", custom=TRAIL), spec("sum", "u"), last]
        states = States(specs)
        one, other = states.new(), states.new()
        batch = pa.RecordBatch.from_pylist([{"i": 2**62 + at, "u": at} for at in range(4)], schema=ARGUMENTS)
        states.add(one, batch, [0], 0)
        states.add(other, batch, [1], 0)
        before = [states.results(state) for state in (one, other)]
        with pytest.raises(error):
            states.merge(one, other)
        assert [states.results(state) for state in (one, other)] == before
        assert [states.rewrite(state) for state in (one, other)] == [states.rewrite(state) for state in (one, other)]


def _typed(kind: str, custom: Any = None) -> TypedAggregate:
    return TypedAggregate(name="n", kind=kind, type=pa.int64(), nullable=True, custom=custom)


def test_an_aggregate_without_merge_is_refused_where_windows_merge() -> None:
    plain = Aggregate(lambda: 0, max, type=int)
    assert [mergeable(_typed("count")), mergeable(_typed("lag")), mergeable(_typed("custom", plain))] == [True, False, False]
    check_mergeable("aggregate", 'session("5m")', [_typed("count"), _typed("custom", FIRST)])
    with pytest.raises(TopologyError, match=r'aggregate: session\("5m"\) merges windows.*n = custom') as caught:
        check_mergeable("aggregate", 'session("5m")', [_typed("custom", plain)])
    assert caught.value.remedy == "give Aggregate(..., merge=...)"


def test_an_aggregate_may_have_a_result_that_is_not_its_state() -> None:
    spread = Aggregate(list, lambda seen, value: [*seen, value], result=lambda seen: max(seen) - min(seen), type=int)
    topology = Topology("t")
    rows = [{"k": "a", "v": 3}, {"k": "a", "v": 10}, {"k": "b", "v": 1}]
    keyed = topology.stream(memory("in", schema={"k": str, "v": int}, rows=rows)).key_by("k")
    made = keyed.aggregate(spread=spread(col("v")), n=count()).to_stream().collect().to_pylist()
    assert [(row["k"], row["spread"], row["n"]) for row in made] == [("a", 0, 1), ("a", 7, 2), ("b", 0, 1)]


def test_arrival_numbers_go_on_after_a_restore_at_any_parallelism() -> None:
    rows = [row(key, s=str(i)) for i, key in enumerate(["a", "b", "", "ab", "a", "a"])]
    driver = driven(lambda keyed: keyed.aggregate(first=col("s").first(), last=col("s").last()).to_stream(), parallelism=2)
    numbers = [_arrived(driver)]
    for parallelism in (3, 1):
        driver.send_batch("in", rows)
        driver.checkpoint()
        before = _arrived(driver)
        driver.crash_and_restore(parallelism=parallelism)
        numbers.append(_arrived(driver))
        assert set(numbers[-1]) == {max(before)}
        assert min(numbers[-1]) > max(numbers[-2])


def _arrived(driver: TopologyTestDriver) -> list[int]:
    return [one.arrived() for chain in driver._job._chains for one in chain.operators if isinstance(one, KeyLookup)]
