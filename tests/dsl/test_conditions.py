"""Where a condition stands, a plain bool is refused: it is what Python's own tests for None make of an expression."""

import pytest

from streamdsl import TopologyError, col, count, expanding, lit, when
from tests.dsl.fakes import payments, refused

VERBS = {
    "filter": lambda stream, condition: stream.filter(condition),
    "branch": lambda stream, condition: stream.branch(one=condition),
    "second branch": lambda stream, condition: stream.branch(one=col("id") > 1, two=condition),
    "counter": lambda stream, condition: stream.counter("seen", where=condition),
    "when": lambda stream, condition: when(condition).then(1).otherwise(2),
    "second when": lambda stream, condition: when(col("id") > 1).then(1).when(condition),
    "aggregate": lambda stream, condition: count().filter(condition),
    "left of &": lambda stream, condition: condition & (col("id") > 1),
    "right of &": lambda stream, condition: (col("id") > 1) & condition,
    "left of |": lambda stream, condition: condition | (col("id") > 1),
    "right of |": lambda stream, condition: (col("id") > 1) | condition,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("make", [lambda: col("city") is None, lambda: col("city") is not None], ids=["is", "is-not"])
def test_python_tests_for_none(verb, make):
    stream = payments()[1]
    with refused("is a plain bool", ".is_null()", ".is_not_null()"):
        VERBS[verb](stream, make())


@pytest.mark.parametrize("none", [None, lit(None)], ids=["None", "lit"])
@pytest.mark.parametrize("sign", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons_with_none(sign, none):
    with refused("null for every row", ".is_null()", ".is_not_null()"):
        getattr(col("city"), f"__{sign}__")(none)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: 1 < x < 5,
        lambda x: x > 1 and x < 5,
        lambda x: x < 1 or x > 5,
        lambda x: not x,
        lambda x: x in [1, 2],
        lambda x: 1 if x > 1 else 2,
    ],
    ids=["chain", "and", "or", "not", "in", "if"],
)
def test_python_words(make):
    with refused("has no truth value", "&", "|", "~", "between(", "is_in(", "is_null()"):
        make(col("id"))


@pytest.mark.parametrize("condition", [None, "amount > 1", 1, [True]])
@pytest.mark.parametrize("verb", ["filter", "branch", "counter", "when", "aggregate"])
def test_other_values(verb, condition):
    if verb == "counter" and condition is None:
        return
    with refused("is not a condition"):
        VERBS[verb](payments()[1], condition)


def test_brackets_are_named_where_they_are_missing():
    with refused("& joins conditions", "brackets"):
        col("id") > 1 & col("amount")  # noqa: B015


def test_a_constant_condition_can_be_meant():
    stream = payments()[1]
    assert stream.filter(lit(True)).schema == stream.schema
    assert set(stream.branch(all=lit(True), default=None)) == {"all"}
    assert str((col("city").is_null() & lit(True)).node) == 'is_null(col("city")) & True'


def test_an_aggregate_in_a_verb_without_state_says_what_to_write():
    keyed = payments()[1].key_by("account").window(expanding())
    with refused("counter: count() is an aggregate", "with_columns"):
        keyed.counter("many", where=count() > 1)
    with pytest.raises(TopologyError, match="needs a key"):
        payments()[1].branch(many=count() > 1)
