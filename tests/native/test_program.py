"""Programs: laziness, errors, event time, shared parts, memory that is used again."""

from __future__ import annotations

import gc

import pyarrow as pa
import pytest

from streamdsl._native.expr.program import Program
from streamdsl._native.flow.arrow import PyBatch
from streamdsl.errors import InternalError, RecordError
from streamdsl.physical.node import Instruction as I
from streamdsl.physical.node import ProgramSpec

MOST = 2**63 - 1


def run(instructions: list[I], batch: PyBatch, *outputs: int) -> list[list[object]]:
    spec = ProgramSpec(tuple(instructions), outputs or (len(instructions) - 1,))
    result = Program(spec).evaluate_batch(batch)
    return [column.to_pylist() for column in result.to_arrow([str(i) for i in range(len(spec.outputs))]).columns]


def ints(*values: int | None) -> PyBatch:
    return PyBatch.from_arrow(pa.record_batch({"a": pa.array(values, pa.int64())}))


A = I("column", "i64", (), (0,))


def overflowing_where_a_is(limit: int) -> list[I]:
    """a, limit, a < limit, a + MOST: fails for every a above 0."""
    return [A, I("literal", "i64", (), (limit,)), I("lt", "bool", (0, 1)), I("literal", "i64", (), (MOST,)), I("add", "i64", (0, 3))]


def test_an_error_names_the_row_and_null_rows_do_not_count() -> None:
    with pytest.raises(RecordError, match="integer overflow in add") as caught:
        run(overflowing_where_a_is(0), ints(0, None, -1, 5, 7))
    assert caught.value.row == 3


def test_when_does_not_evaluate_what_is_not_taken() -> None:
    code = [*overflowing_where_a_is(1), I("when", "i64", (2, 4, 0))]
    assert run(code, ints(0, 5, None, -2)) == [[MOST, 5, None, MOST - 2]]


def test_coalesce_evaluates_the_second_only_for_nulls() -> None:
    batch = PyBatch.from_arrow(pa.record_batch({"a": [5, None, 7], "b": ["1", "2", "no number"]}))
    parsed = [A, I("column", "str", (), (1,)), I("parse_i64", "i64", (1,), (True,)), I("coalesce", "i64", (0, 2))]
    assert run(parsed, batch) == [[5, 2, 7]]


def test_and_or_evaluate_the_second_only_where_it_decides() -> None:
    failing = [*overflowing_where_a_is(1), I("lt", "bool", (4, 0))]
    assert run([*failing, I("and", "bool", (2, 5))], ints(0, 5, -1)) == [[False, False, False]]
    assert run([*failing, I("not", "bool", (2,)), I("or", "bool", (6, 5))], ints(0, 5, -1)) == [[False, True, False]]


def test_a_filter_narrows_step_by_step() -> None:
    program = Program(ProgramSpec((*overflowing_where_a_is(1), I("lt", "bool", (0, 4)), I("and", "bool", (2, 5))), (6,)))
    assert program.select_rows(ints(9, 0, None, -4, 3)) == [1, 3]


def test_a_failing_constant_fails_only_where_it_is_needed() -> None:
    code = [
        *overflowing_where_a_is(1),
        I("literal", "i64", (), (1,)),
        I("add", "i64", (3, 5)),
        I("when", "i64", (2, 0, 6)),
    ]
    assert run(code, ints(0, -3)) == [[0, -3]]
    with pytest.raises(RecordError) as caught:
        run(code, ints(0, -3, 5, 6))
    assert caught.value.row == 2


def test_event_time_and_its_absence() -> None:
    batch = PyBatch.from_arrow(pa.record_batch({"a": [1, 2]}), time=pa.array([10, -20]))
    assert run([I("time", "i64")], batch) == [[10, -20]]
    with pytest.raises(InternalError):
        run([I("time", "i64")], ints(1))


def test_a_column_of_another_kind_or_place_is_an_error() -> None:
    with pytest.raises(InternalError):
        run([I("column", "f64", (), (0,))], ints(1))
    with pytest.raises(InternalError):
        run([I("column", "i64", (), (1,))], ints(1))


def test_constants_become_columns_at_the_outputs() -> None:
    code = [
        I("literal", "str", (), ("é",)),
        I("literal", "f64", (), (None,)),
        I("literal", "bool", (), (True,)),
        I("literal", "u64", (), (2**64 - 1,)),
    ]
    assert run(code, ints(1, 2), 0, 1, 2, 3, 0) == [["é"] * 2, [None] * 2, [True] * 2, [2**64 - 1] * 2, ["é"] * 2]
    assert run(code, ints(), 0, 1) == [[], []]


def test_a_part_that_is_used_often_is_computed_once() -> None:
    code = [A]
    for i in range(60):  # 2**60 evaluations if it were not
        code.append(I("add", "i64", (i, i)) if i < 40 else I("least", "i64", (i, i)))
    assert run(code, ints(1, -3, None)) == [[2**40, -3 * 2**40, None]]


def test_outputs_survive_the_next_batch() -> None:
    program = Program(ProgramSpec((A, I("neg", "i64", (0,)), I("cast_str", "str", (1,), ("",))), (1, 2)))
    results = [program.evaluate_batch(ints(*range(k, k + 50))) for k in range(200)]
    del program
    gc.collect()
    for k, result in enumerate(results):
        numbers, texts = result.to_arrow(["n", "t"]).columns
        assert numbers.to_pylist() == [-i for i in range(k, k + 50)]
        assert texts.to_pylist() == [str(-i) for i in range(k, k + 50)]


def test_a_program_works_on_after_an_error() -> None:
    program = Program(ProgramSpec((*overflowing_where_a_is(0), I("neg", "i64", (4,))), (4, 5)))
    for _ in range(100):
        with pytest.raises(RecordError):
            program.evaluate_batch(ints(1))
    assert program.evaluate_batch(ints(0, -1)).to_arrow(["a", "b"]).to_pydict() == {"a": [MOST, MOST - 1], "b": [-MOST, 1 - MOST]}


@pytest.mark.parametrize(
    "code",
    [
        [I("nothing", "i64")],
        [I("literal", "decimal", (), (1,))],
        [A, I("add", "i64", (0,))],
        [A, I("add", "i64", (0, 1))],
        [A, I("add", "f64", (0, 0)), I("add", "i64", (0, 1))],
        [A, I("and", "bool", (0, 0))],
        [A, I("str_to_lowercase", "str", (0,))],
        [I("literal", "i64", (), ("x",))],
        [I("literal", "str", (), ("x",)), I("str_extract", "str", (0,), ("(", 0))],
        [I("literal", "str", (), ("x",)), I("str_replace", "str", (0,), ("", "y"))],
        [A, I("dt_truncate", "i64", (0,), (0,))],
        [A, I("format", "str", (0,), (("a",), ("",)))],
    ],
)
def test_instructions_without_sense_are_refused(code: list[I]) -> None:
    with pytest.raises(ValueError, match=r"instruction|operation|kind"):
        Program(ProgramSpec(tuple(code), (len(code) - 1,)))
    with pytest.raises(ValueError, match="output"):
        Program(ProgramSpec((A,), (1,)))


def test_select_needs_one_bool() -> None:
    with pytest.raises(ValueError, match="filter"):
        Program(ProgramSpec((A,), (0,))).select_rows(ints(1))


def test_radians_and_the_distance_of_two_places_are_pythons() -> None:
    import math
    import random

    chance = random.Random(5)
    degrees = [chance.uniform(-180, 180) for _ in range(2000)]
    batch = PyBatch.from_arrow(pa.record_batch({"d": degrees}))
    code = [
        I("column", "f64", (), (0,)),
        I("radians", "f64", (0,)),
        I("sin", "f64", (1,)),
        I("literal", "f64", (), (2,)),
        I("pow", "f64", (2, 3)),
        I("sqrt", "f64", (4,)),
        I("arcsin", "f64", (5,)),
    ]
    assert run(code, batch, 1, 4, 6) == [
        [math.radians(d) for d in degrees],
        [math.sin(math.radians(d)) ** 2 for d in degrees],
        [math.asin(math.sqrt(math.sin(math.radians(d)) ** 2)) for d in degrees],
    ]
