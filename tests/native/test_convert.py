"""Logical types to canonical ones and back."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.flow.arrow import roundtrip
from streamdsl._native.flow.convert import canonical_type, from_canonical, to_canonical
from streamdsl.errors import DataError

MS = st.integers(-62_135_596_800_000, 253_402_300_799_999)


def _whole(bits: int, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


_STRUCT = pa.struct([("a", pa.int32()), ("t", pa.timestamp("us")), ("b", pa.binary()), ("l", pa.list_(pa.float32()))])
_MAP = pa.map_(pa.string(), pa.decimal128(9, 2))
_DECIMALS = st.integers(-(10**8), 10**8).map(lambda x: Decimal(x).scaleb(-2))
LOGICAL: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *((getattr(pa, f"int{bits}")(), _whole(bits, True)) for bits in (8, 16, 32, 64)),
    *((getattr(pa, f"uint{bits}")(), _whole(bits, False)) for bits in (8, 16, 32, 64)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    *((kind, st.text(max_size=5)) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *((kind, st.binary(max_size=5)) for kind in (pa.binary(), pa.large_binary())),
    (pa.dictionary(pa.int32(), pa.string()), st.text("ab", max_size=1)),
    (pa.timestamp("s"), MS.map(lambda x: x // 1000)),
    (pa.timestamp("ms", "UTC"), MS),
    (pa.timestamp("us", "Europe/Paris"), MS.map(lambda x: x * 1000)),
    (pa.timestamp("ns"), st.integers(-(2**62), 2**62).map(lambda x: x // 10**6 * 10**6)),
    (pa.duration("us"), MS.map(lambda x: x * 1000)),
    (pa.date32(), st.integers(-700_000, 2_900_000)),
    (pa.decimal128(12, 2), _DECIMALS),
    (pa.decimal256(40, 2), _DECIMALS),
    (pa.list_(pa.int64()), st.lists(st.integers(-5, 5) | st.none(), max_size=3)),
    (pa.list_(pa.list_(pa.string())), st.lists(st.lists(st.text(max_size=2), max_size=2) | st.none(), max_size=3)),
    (
        _STRUCT,
        st.fixed_dictionaries(
            {
                "a": st.integers(-9, 9) | st.none(),
                "t": MS.map(lambda x: x * 1000 + 7) | st.none(),
                "b": st.binary(max_size=3) | st.none(),
                "l": st.lists(st.floats(width=32, allow_nan=False), max_size=2) | st.none(),
            }
        ),
    ),
    (_MAP, st.dictionaries(st.text(max_size=3), _DECIMALS, max_size=3).map(lambda d: list(d.items()))),
]


def make(values: list[Any], type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type_):
        return pa.array(values, type_.value_type).dictionary_encode()
    if pa.types.is_timestamp(type_) or pa.types.is_duration(type_):
        return pa.array(values, pa.int64()).cast(type_)
    return pa.array(values, type_)


@pytest.mark.parametrize(("type_", "values"), LOGICAL, ids=lambda x: str(x) if isinstance(x, pa.DataType) else "")
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_there_and_back(type_: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    drawn = data.draw(st.lists(values | st.none(), max_size=8))
    given_batch = pa.record_batch([make(drawn, type_)], ["x"]).slice(data.draw(st.integers(0, 2)))
    canonical = to_canonical(given_batch, [type_])
    assert canonical.schema.types == [canonical_type(type_)]
    back = from_canonical(roundtrip(canonical), pa.schema([("x", type_)]))
    back.validate(full=True)
    # Equal values may be numbered differently in a dictionary.
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    assert back["x"].cast(plain).equals(given_batch["x"].cast(plain))


def test_canonical_columns_pass_untouched() -> None:
    record_batch = pa.record_batch({"a": [1], "b": ["x"], "c": [1.5]})
    assert to_canonical(record_batch, record_batch.schema.types) is record_batch
    assert from_canonical(record_batch, record_batch.schema) is record_batch


def test_times_are_whole_numbers_of_the_declared_unit_and_finer_ones_are_floored() -> None:
    record_batch = pa.record_batch([pa.array([-1, -1000, -1001, 999, 1000, None], pa.timestamp("us"))], ["t"])
    assert to_canonical(record_batch, [pa.timestamp("us")])["t"].to_pylist() == [-1, -1000, -1001, 999, 1000, None]
    assert to_canonical(record_batch, [pa.timestamp("ms")])["t"].to_pylist() == [-1, -1, -2, 0, 1, None]
    assert to_canonical(record_batch, [pa.timestamp("ns")])["t"].to_pylist() == [-1000, -1000000, -1001000, 999000, 1000000, None]


def test_whole_numbers_for_times_count_in_the_unit() -> None:
    record_batch = pa.record_batch({"t": [-1, 1500]})
    for unit in ("s", "ms", "us", "ns"):
        assert to_canonical(record_batch, [pa.timestamp(unit)])["t"].to_pylist() == [-1, 1500]


def test_what_a_decoder_finds_becomes_the_declared_type() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)
    found = pa.record_batch(
        {
            "t": ["2026-01-02T03:04:05.678Z"],
            "n": pa.array([None], pa.null()),
            "f": [3],
            "i": [3.0],
            "d": ["1.5"],
            "day": [moment.date()],
        }
    )
    wanted = [pa.timestamp("us"), pa.string(), pa.float32(), pa.int16(), pa.decimal128(5, 2), pa.date32()]
    assert to_canonical(found, wanted).to_pydict() == {
        "t": [1767323045678000],
        "n": [None],
        "f": [3.0],
        "i": [3],
        "d": [Decimal("1.50")],
        "day": [20455],
    }


@pytest.mark.parametrize(
    ("found", "type_"),
    [
        (pa.array([300]), pa.int8()),
        (pa.array([1.5]), pa.int64()),
        (pa.array([-1]), pa.uint64()),
        (pa.array(["soon"]), pa.timestamp("ms")),
        (pa.array([b"\xff"]), pa.string()),
        (pa.array(["1.555"]), pa.decimal128(5, 2)),
        (pa.array([2**62], pa.timestamp("s")), pa.timestamp("ms")),
        (pa.array([2**62], pa.timestamp("ms")), pa.timestamp("us")),
        (pa.array([Decimal("1.555")]), pa.decimal128(5, 2)),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_names_the_column(found: pa.Array, type_: pa.DataType) -> None:
    with pytest.raises(DataError, match="'x'") as caught:
        to_canonical(pa.record_batch([found], ["x"]), [type_])
    assert caught.value.field == "x"


def test_the_way_back_refuses_what_does_not_fit() -> None:
    for type_, value in ((pa.int8(), 128), (pa.uint16(), -1)):
        with pytest.raises(DataError, match="'x'"):
            from_canonical(pa.record_batch({"x": [value]}), pa.schema([("x", type_)]))
