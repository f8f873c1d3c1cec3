"""`evaluate` gives what an expression gives in a topology."""

import pyarrow as pa
import pytest

from streamdsl import DataError, TopologyError, col, count, event_time, expanding, lit, rolling
from streamdsl.testing import evaluate


def test_rows():
    assert evaluate(col("x") * 2, x=[1, None, 3]) == [2, None, 6]
    assert evaluate(col("x") + col("value"), x=[1], value=[2]) == [3]


def test_a_constant_has_one_row():
    assert evaluate(lit(1) + 2) == [3]
    assert evaluate("a") == ["a"]


def test_types_are_those_of_the_array():
    assert evaluate(col("x").cast(str), x=pa.array([None, 1], pa.int8())) == [None, "1"]
    assert evaluate(col("x").fill_null(0), x=pa.array([], pa.int64())) == []


def test_aggregates_see_all_rows():
    many = list(range(10_000))
    assert evaluate(col("x").sum() / count(), x=many) == [sum(many) / len(many)]


def test_frames_and_lags_give_a_value_each():
    assert evaluate(col("x").sum().over(rolling("2ms")) - col("x").lag(), x=[1, 2, 4]) == [None, 2, 4]
    assert evaluate(count().over(expanding()), x=[1, 2]) == [1, 2]


def test_the_time_of_a_row_is_its_number():
    assert evaluate(event_time().dt.epoch("ms"), x=[7, 7]) == [0, 1]


@pytest.mark.parametrize(
    ("columns", "words"),
    [({"x": [1], "y": [1, 2]}, "no table"), ({"x": [1, "a"]}, "no table"), ({"y": [1]}, "unknown column 'x'")],
)
def test_what_is_wrong_is_said(columns, words):
    with pytest.raises(TopologyError, match=words):
        evaluate(col("x"), **columns)


def test_a_row_that_fails_is_an_error():
    with pytest.raises(DataError, match="x"):
        evaluate(col("s").cast(int), s=["1", "x"])
