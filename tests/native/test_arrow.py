"""Batches from and to Arrow."""

from __future__ import annotations

import gc
import threading

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.flow.arrow import PyBatch, roundtrip
from tests.native.cases import record_batches


@settings(deadline=None)
@given(record_batch=record_batches(), data=st.data())
def test_round_trip_slice_and_take(record_batch: pa.RecordBatch, data: st.DataObject) -> None:
    # Compared as dicts: equals() says that NaN differs from NaN.
    back = roundtrip(record_batch)
    back.validate(full=True)
    assert back.schema == record_batch.schema
    assert repr(back.to_pydict()) == repr(record_batch.to_pydict())
    n = record_batch.num_rows
    offset = data.draw(st.integers(0, n))
    size = data.draw(st.integers(0, n - offset))
    batch = PyBatch.from_arrow(record_batch)
    part = batch.slice(offset, size).to_arrow(record_batch.schema)
    part.validate(full=True)
    assert repr(part.to_pydict()) == repr(record_batch.slice(offset, size).to_pydict())
    rows = data.draw(st.lists(st.integers(0, n - 1), max_size=20)) if n else []
    taken = batch.slice(0, n).take(rows).to_arrow(record_batch.schema)
    taken.validate(full=True)
    assert repr(taken.to_pydict()) == repr(record_batch.take(pa.array(rows, pa.int32())).to_pydict())


def test_binary_and_empty_forms() -> None:
    for record_batch in (
        pa.record_batch({"z": [b"\xff\x00", None, b""]}),
        pa.record_batch({"s": pa.array([], pa.string()), "b": pa.array([], pa.bool_())}),
        pa.record_batch([pa.array([None, None], pa.int64())], ["n"]),
        pa.record_batch([], names=[]),
    ):
        assert roundtrip(record_batch).equals(record_batch)


def test_nulls_outside_of_the_slice_are_no_nulls() -> None:
    part = pa.record_batch({"a": [None, 1, 2]}).slice(1)
    assert roundtrip(part)["a"].buffers()[0] is None


def test_values_are_not_copied() -> None:
    numbers = pa.array(range(1000))
    texts = pa.array([str(i) for i in range(1000)])
    back = roundtrip(pa.record_batch([numbers, texts], ["n", "t"]))
    assert back["n"].buffers()[1].address == numbers.buffers()[1].address
    assert back["t"].buffers()[2].address == texts.buffers()[2].address


def test_memory_lives_as_long_as_it_is_used_and_no_longer() -> None:
    # A pool of its own: in the process's total other tests' threads and garbage come and go.
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    numbers = pa.array(range(10_000), memory_pool=pool)
    texts = pa.array([str(i) for i in range(10_000)], memory_pool=pool)
    source = pa.record_batch({"a": numbers, "s": texts})
    del numbers, texts
    assert pool.bytes_allocated() > 80_000
    batch = PyBatch.from_arrow(source.slice(5))
    del source
    gc.collect()
    back = batch.to_arrow(["a", "s"])
    del batch
    assert back["a"].to_pylist() == list(range(5, 10_000))
    assert pool.bytes_allocated() > 80_000
    held: list[pa.RecordBatch] = [back]
    del back
    releasing = threading.Thread(target=held.clear)
    releasing.start()
    releasing.join()
    gc.collect()
    assert pool.bytes_allocated() == 0


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1], pa.int32()),
        pa.array([1], pa.timestamp("ms")),
        pa.array(["x"], pa.large_string()),
        pa.array(["x"]).dictionary_encode(),
        pa.array([[1]]),
    ],
    ids=lambda array: str(array.type),
)
def test_what_is_not_canonical_is_refused_by_name(array: pa.Array) -> None:
    with pytest.raises(TypeError, match="'odd'"):
        PyBatch.from_arrow(pa.record_batch({"fine": [1.5], "odd": array}))


def test_a_schema_that_does_not_fit_is_refused() -> None:
    batch = PyBatch.from_arrow(pa.record_batch({"a": [1]}))
    with pytest.raises(TypeError, match="'a' is int64"):
        batch.to_arrow(pa.schema([("a", pa.float64())]))
    with pytest.raises(TypeError, match="1 columns"):
        batch.to_arrow(pa.schema([]))
    with pytest.raises(TypeError, match="record batch"):
        PyBatch.from_arrow(pa.array([1]))  # type: ignore[arg-type]


def test_system_columns() -> None:
    batch = PyBatch.from_arrow(pa.record_batch({"a": ["x", "y", "z"]}), time=pa.array([3, 1, 2]))
    assert batch.take([2, 0]).system(0) == pa.array([2, 3])
    assert batch.system(1) is None
    with pytest.raises(ValueError, match="rows"):
        batch.set_system(1, pa.array([1]))
