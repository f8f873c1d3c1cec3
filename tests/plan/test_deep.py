"""Expressions of thousands of terms, shared ones, and thousands of verbs: no depth of the stack, no cost that doubles."""

import copy
import pickle
import time

import pytest

from streamdsl import Topology, TopologyError, coalesce, col, expanding, lit, memory, when
from streamdsl.compiler import compile, explain

ROWS = [{"b": i, "x": float(i), "k": "a"} for i in range(10)]
MANY = 3000


def rows():
    return Topology("t").stream(memory("m", schema={"b": int, "x": float, "k": str}, rows=ROWS))


def built(start, step, n=MANY):
    expr = start
    for i in range(n):
        expr = step(expr, i)
    return expr


def by_rule(expr, i):
    return when(col("b") == i).then(i * 2).otherwise(expr)


EXPRESSIONS = {
    "left or": (lambda: built(col("b") == -1, lambda e, i: e | (col("b") == 2 * i)), lambda b: b % 2 == 0),
    "right or": (lambda: built(col("b") == -1, lambda e, i: (col("b") == 2 * i) | e), lambda b: b % 2 == 0),
    "and": (lambda: built(col("b") >= 0, lambda e, i: e & (col("b") != 2 * i)), lambda b: b % 2 == 1),
    "and of or": (lambda: built(col("b") == 1, lambda e, i: (col("b") != 20 + i) & ((col("b") == 30 + i) | e)), lambda b: b == 1),
    "left sum": (lambda: built(col("b"), lambda e, i: e + 1), lambda b: b + MANY),
    "right sum": (lambda: built(col("b"), lambda e, i: 1 + e), lambda b: b + MANY),
    "shared": (lambda: built(col("x"), lambda e, i: e * 0.5 + e * 0.5), float),
    "table": (lambda: built(lit(-1), by_rule), lambda b: 2 * b),
    "adjusted": (lambda: built(col("b"), lambda e, i: when(col("b") > 5).then(e + 1).otherwise(e)), lambda b: b + MANY * (b > 5)),
    "again": (
        lambda: built(col("b"), lambda e, i: when(e > 5).then(e - 1).otherwise(e + 1)),
        lambda b: 5 + (b + 1) % 2 if MANY > 20 else None,
    ),
    "fill": (lambda: built(lit(None).cast(float), lambda e, i: e.fill_null(float(i))), lambda b: 0.0),
    "not": (lambda: built(col("b") > 5, lambda e, i: ~e), lambda b: b > 5),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_deep_expressions(name):
    make, expected = EXPRESSIONS[name]
    expr = make()
    made = rows().select("b", z=expr).collect().to_pylist()
    assert [row["z"] for row in made] == [expected(row["b"]) for row in ROWS]
    assert len(repr(expr)) < 10_000
    assert copy.deepcopy(expr).node == expr.node
    assert pickle.loads(pickle.dumps(expr)).node == expr.node  # noqa: S301
    assert expr.node != (make() + 1 if name not in ("not", "left or", "right or", "and", "and of or") else ~make()).node


def test_ten_thousand_terms_and_verbs():
    found = rows().filter(built(col("b") == -1, lambda e, i: e | (col("b") == 2 * i), 10_000))
    assert found.collect().column("b").to_pylist() == [0, 2, 4, 6, 8]
    stream = rows()
    for _ in range(10_000):
        stream = stream.counter("seen")
    assert stream.collect().num_rows == 10


def test_eighteen_levels_of_sharing_are_planned_at_once():
    began = time.process_time()
    stream = rows().select(z=built(col("x"), lambda e, i: e * 0.5 + e * 0.5, 18))
    stream.to(memory("out"))
    explain(compile(stream.topology))
    assert time.process_time() - began < 1


def test_a_thousand_terms_are_planned_in_a_second():
    began = time.process_time()
    stream = rows().with_columns(z=built(col("b"), lambda e, i: e + when(col("b") > i).then(i).otherwise(0), 1000))
    stream.to(memory("out"))
    compile(stream.topology)
    assert time.process_time() - began < 1


def test_what_branches_share_is_computed_once_a_row():
    def level(expr, i):
        return when(col("b") > 5).then(expr).otherwise(0) + (expr - coalesce(expr, 0))

    began = time.process_time()
    made = rows().select(z=built(col("b") + 1, level, 1000)).collect().column("z").to_pylist()
    assert made == [b + 1 if b > 5 else 0 for b in range(10)]
    assert time.process_time() - began < 10


def test_conditions_within_conditions_have_a_limit_that_is_told():
    def level(expr, i):
        return ((col("b") + i) >= 0) & (((col("b") + i) < -1) | expr)

    assert rows().filter(built((col("b") + 1) > 3, level, 500)).collect().num_rows == 7
    with pytest.raises(TopologyError, match=r"2000 conditions within conditions.*(?s:.*)with_columns"):
        rows().filter(built((col("b") + 1) > 3, level, 5000)).collect()


def test_deep_aggregates():
    expr = built(col("b").sum(), lambda e, i: e + col("b").max(), 2000)
    made = rows().key_by("k").window(expanding()).with_columns(z=expr).collect().column("z").to_pylist()
    assert made == [sum(range(b + 1)) + 2000 * b for b in range(10)]


VERBS = {
    "filter": lambda s, i: s.filter(col("b") != i + 5),
    "floats": lambda s, i: s.with_columns(x=col("x") + 1),
    "integers": lambda s, i: s.with_columns(b=col("b") + 1),
    "both": lambda s, i: s.with_columns(x=col("x") + 1) if i % 2 else s.filter(col("x") >= 0),
    "counter": lambda s, i: s.counter("seen"),
    "rename": lambda s, i: s.rename(x="y") if i % 2 == 0 else s.rename(y="x"),
    "merge": lambda s, i: s.merge(s.filter(col("b") < 0)),
    "branch": lambda s, i: s.branch(a=col("b") >= 0, default=None)["a"],
    "peek": lambda s, i: s.peek(id),
    "key_by": lambda s, i: s.key_by("k").filter(col("b") != -1 - i),
}


@pytest.mark.parametrize("name", VERBS)
def test_long_chains(name):
    stream = rows()
    for i in range(1500):
        stream = VERBS[name](stream, i)
    stream.to(memory("out"))
    assert explain(compile(stream.topology))
    made = stream.collect()
    assert made.num_rows == (5 if name == "filter" else 10)
    if name in ("floats", "integers"):
        assert made.column("x" if name == "floats" else "b").to_pylist()[0] == 1500
