"""merge(columns="union"): streams of different columns become one; what one lacks is null in its rows."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, TopologyError, col, count, memory
from streamdsl.testing import TopologyTestDriver

TYPES: dict[str, Any] = {
    "a": pa.int64(), "b": pa.string(), "c": pa.float64(), "d": pa.decimal128(9, 2), "e": pa.timestamp("us", "UTC"), "f": pa.bool_(),
    "g": pa.list_(pa.int64()), "h": pa.struct([("x", pa.int64())]), "i": pa.uint64(), "j": pa.binary(),
}  # fmt: skip
VALUES: dict[str, Any] = {"a": 1, "b": "x", "c": 0.5, "d": 2, "e": 3, "f": True, "g": [1], "h": {"x": 1}, "i": 2**64 - 1, "j": b"x"}


def source(topology: Topology, name: str, columns: list[str], nullable: bool = False) -> Any:
    schema = pa.schema([pa.field(column, TYPES[column], nullable) for column in columns])
    return topology.stream(memory(name, schema=schema, rows=[{column: VALUES[column] for column in columns}]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=6, unique=True), min_size=2, max_size=4))
def test_missing_columns_are_null_and_those_of_the_first_come_first(columns: list[list[str]]) -> None:
    topology = Topology("t")
    first, *others = [source(topology, f"s{number}", names) for number, names in enumerate(columns)]
    merged = first.merge(*others, columns="union")
    wanted = list(dict.fromkeys(name for names in columns for name in names))
    assert list(merged.schema.names) == wanted
    for name in wanted:
        assert merged.schema.field(name).nullable == any(name not in names for names in columns)
    found = merged.collect()
    expected = [pa.table({name: pa.array([VALUES[name] if name in names else None], TYPES[name]) for name in wanted}) for names in columns]
    assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, pa.concat_tables(expected).to_pylist()))


def test_types_must_agree_with_whichever_stream_has_the_column() -> None:
    topology = Topology("t")
    one, two = source(topology, "one", ["a"]), source(topology, "two", ["b"])
    three = source(topology, "three", ["a"]).select(b=col("a"))
    with pytest.raises(TopologyError, match="column 'b' is string in stream 2 and int64 in stream 3"):
        one.merge(two, three, columns="union")


def test_the_same_columns_are_still_asked_for_by_default() -> None:
    topology = Topology("t")
    with pytest.raises(TopologyError, match="lacks 'a' and has 'b' besides") as caught:
        source(topology, "one", ["a"]).merge(source(topology, "two", ["b"]))
    assert 'columns="union"' in str(caught.value)
    with pytest.raises(TopologyError, match="columns='all' is unknown"):
        source(topology, "three", ["a"]).merge(columns="all")  # type: ignore[arg-type]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_rows_of_both_meet_by_key_and_survive_a_crash(parallelism: int) -> None:
    topology = Topology("t")
    pays = topology.stream(memory("pays", schema={"k": str, "amount": int, "at": int}), timestamp="at", watermarks="external")
    logins = topology.stream(memory("logins", schema={"k": str, "city": str, "at": int}), timestamp="at", watermarks="external")
    merged = pays.merge(logins, columns="union").key_by("k")
    merged.with_columns(n=count().over(_all()), city=col("city").last().over(_all()), total=col("amount").sum().over(_all())).to(
        memory("out")
    )
    driver = TopologyTestDriver(topology, parallelism=parallelism)
    driver.send("logins", {"k": "a", "city": "Lima", "at": 1})
    driver.send("pays", {"k": "a", "amount": 5, "at": 2})
    driver.checkpoint()
    driver.crash_and_restore()
    driver.send("pays", {"k": "a", "amount": 6, "at": 3})
    found = driver.read("out")
    assert [(row["n"], row["city"], row["total"], row["amount"]) for row in found] == [
        (1, "Lima", 0, None),
        (2, "Lima", 5, 5),
        (3, "Lima", 11, 6),
    ]


def _all() -> Any:
    from streamdsl import expanding

    return expanding()
