"""Texts that are compared and looked up by whole words: lengths around the words' ends, at the end of a column and inside it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.expr.program import Program
from streamdsl._native.flow.arrow import PyBatch
from streamdsl.physical.node import Instruction as I
from streamdsl.physical.node import ProgramSpec

# Few letters, and the NUL that a shorter text must not be taken for.
TEXTS = st.none() | st.text("ab\0", max_size=20)
A, B = I("column", "str", (), (0,)), I("column", "str", (), (1,))


def run(code: list[I], columns: dict[str, pa.Array], offset: int = 0) -> list[object]:
    batch = PyBatch.from_arrow(pa.record_batch(columns).slice(offset))
    result = Program(ProgramSpec(tuple(code), (len(code) - 1,))).evaluate_batch(batch)
    values: list[object] = result.to_arrow(["out"]).column(0).to_pylist()
    return values


def texts(values: list[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), st.integers(0, 3))
def test_equal(rows: list[tuple[str | None, str | None]], offset: int) -> None:
    columns = {"a": texts([a for a, _ in rows]), "b": texts([b for _, b in rows])}
    expected = [None if a is None or b is None else a == b for a, b in rows[offset:]]
    assert run([A, B, I("eq", "bool", (0, 1))], columns, offset) == expected
    assert run([A, B, I("ne", "bool", (0, 1))], columns, offset) == [None if same is None else not same for same in expected]


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8), st.lists(st.text("ab\0", max_size=20), min_size=1, max_size=12), st.integers(0, 3))
def test_lookups(rows: list[str | None], keys: list[str], offset: int) -> None:
    column = {"a": texts(rows)}
    rows = rows[offset:]
    assert run([A, I("is_in", "bool", (0,), (tuple(keys),))], column, offset) == [None if a is None else a in keys for a in rows]
    numbers = {key: i for i, key in enumerate(keys)}
    replace = I("replace", "i64", (0,), (tuple(numbers), tuple(numbers.values())))
    assert run([A, replace], column, offset) == [numbers.get(a) if a is not None else None for a in rows]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 16, 17, 24])
def test_a_literal_is_as_long_as_it_is(size: int) -> None:
    wanted = "x" * size
    rows = [wanted, wanted + "x", wanted[:-1] + "y", wanted]
    code = [A, I("literal", "str", (), (wanted,)), I("eq", "bool", (0, 1))]
    assert run(code, {"a": texts(rows)}) == [True, False, False, True]
