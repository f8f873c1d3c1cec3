"""Expressions: Kleene's logic, true division, null, overflow, NaN, and what is not evaluated."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, coalesce, col, concat_str, format, greatest, least, lit, memory, when
from streamdsl.errors import DataError, TopologyError
from tests.semantics.jobs import evaluated, nullable

NUMBERS = {"a": int, "b": int, "x": float, "y": float}
TRUTH = (True, False, None)
LOW, HIGH = -(2**63), 2**63 - 1
NAN, INF = math.nan, math.inf


def same(a, b):
    """Equal, NaN to NaN and -0.0 not to 0.0."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return a == b and type(a) is type(b)


def number(**values):
    return {**dict.fromkeys(NUMBERS), **values}


def one(expression, **values):
    return evaluated(NUMBERS, [number(**values)], out=expression)[0]["out"]


def test_logic_is_kleenes():
    rows = [{"p": p, "q": q} for p in TRUTH for q in TRUTH]
    p, q = col("p"), col("q")
    found = evaluated({"p": bool, "q": bool}, rows, both=p & q, either=p | q, no=~p)
    for sent, out in zip(rows, found, strict=True):
        values = (sent["p"], sent["q"])
        assert out["both"] is (False if False in values else None if None in values else True)
        assert out["either"] is (True if True in values else None if None in values else False)
        assert out["no"] is (None if sent["p"] is None else not sent["p"])


def test_division_of_integers_is_true_and_by_zero_null():
    found = evaluated(
        NUMBERS,
        [number(a=7, b=2), number(a=-7, b=2), number(a=1, b=0), number(a=0, b=0), number(b=2)],
        div=col("a") / col("b"),
        floor=col("a") // col("b"),
        mod=col("a") % col("b"),
    )
    assert [tuple(out.values()) for out in found] == [(3.5, 3, 1), (-3.5, -4, 1), (None,) * 3, (None,) * 3, (None,) * 3]


def test_division_of_floats_is_ieees():
    cases = [(1.0, 0.0, INF), (-1.0, 0.0, -INF), (1.0, -0.0, -INF), (0.0, 0.0, NAN), (INF, INF, NAN), (1.0, INF, 0.0), (1.0, None, None)]
    found = evaluated(NUMBERS, [number(x=x, y=y) for x, y, _ in cases], out=col("x") / col("y"))
    assert all(same(out["out"], wanted) for out, (_, _, wanted) in zip(found, cases, strict=True))


def test_an_integer_and_a_float_divide_as_floats():
    assert one(col("a") / col("x"), a=1, x=0.0) == INF
    assert one(col("a") / 0, a=1) is None
    assert one(col("a") / 0.0, a=1) == INF


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        (col("a") + 1, {"a": HIGH}),
        (col("a") - 1, {"a": LOW}),
        (col("a") * 2, {"a": HIGH}),
        (-col("a"), {"a": LOW}),
        (col("a").abs(), {"a": LOW}),
        (col("a") ** 2, {"a": 2**40}),
        (col("a") // col("b"), {"a": LOW, "b": -1}),
        (1 + col("a"), {"a": HIGH}),
    ],
)
def test_an_integer_overflow_is_an_error_of_the_record(expression, values):
    with pytest.raises(DataError, match="overflow"):
        one(expression, **values)


def test_nan_is_the_greatest_number_and_equal_to_itself():
    x, y = col("x"), col("y")
    [out] = evaluated(
        NUMBERS, [number(x=NAN, y=INF)], gt=x > y, lt=x < y, eq=x == x, most=greatest(x, y), least=least(x, y), nan=x.is_nan()
    )
    assert (out["gt"], out["lt"], out["eq"], out["least"], out["nan"]) == (True, False, True, INF, True)
    assert math.isnan(out["most"])


def test_when_computes_a_branch_only_where_it_is_taken():
    rows = [number(a=HIGH, b=0), number(a=1, b=1), number(a=HIGH)]
    found = evaluated(NUMBERS, rows[:2], out=when(col("b") == 0).then(-1).otherwise(col("a") + 1))
    assert [out["out"] for out in found] == [-1, 2]
    # A null condition is not true: the other branch is needed.
    with pytest.raises(DataError, match="overflow"):
        evaluated(NUMBERS, rows, out=when(col("b") == 0).then(-1).otherwise(col("a") + 1))


def test_and_or_look_at_the_second_operand_only_where_they_must():
    found = evaluated(
        NUMBERS,
        [number(a=HIGH, b=0), number(a=1, b=1)],
        both=(col("b") != 0) & (col("a") + 1 > 0),
        either=(col("b") == 0) | (col("a") + 1 > 0),
    )
    assert [tuple(out.values()) for out in found] == [(False, True), (True, True)]
    text = evaluated({"s": str, "p": bool}, [{"s": "x", "p": False}], out=col("p") & (col("s").cast(int) > 0))
    assert text == [{"out": False}]


def test_when_chains_take_the_first_that_is_true():
    choice = when(col("a") < 3).then(lit("low")).when(col("a") < 7).then(lit("middle")).otherwise(lit("high"))
    assert [out["out"] for out in evaluated(NUMBERS, [number(a=a) for a in (1, 5, 9, None)], out=choice)] == [
        "low",
        "middle",
        "high",
        "high",
    ]


def test_a_filter_keeps_what_is_true():

    rows = [number(a=a) for a in (1, 2, None, 3)]
    stream = Topology("job").stream(memory("in", schema=nullable(NUMBERS), rows=rows))
    assert stream.filter(col("a") > 1).collect().column("a").to_pylist() == [2, 3]
    assert stream.filter(~(col("a") > 1)).collect().column("a").to_pylist() == [1]


def test_null_handling():
    rows = [number(a=1), number(b=2), number()]
    found = evaluated(
        NUMBERS,
        rows,
        null=col("a").is_null(),
        some=col("a").is_not_null(),
        filled=col("a").fill_null(9),
        first=coalesce(col("a"), col("b"), 0),
    )
    assert [tuple(out.values()) for out in found] == [(False, True, 1, 1), (True, False, 9, 2), (True, False, 9, 0)]


def test_replace_and_format():
    rows = [{"s": "Lima", "n": 1}, {"s": "Cusco", "n": None}, {"s": None, "n": 3}]
    found = evaluated(
        {"s": str, "n": int},
        rows,
        code=col("s").replace_strict({"Lima": "LIM"}, default="?"),
        bare=col("s").replace_strict({"Lima": 1}, default=None),
        own=col("s").replace({"Lima": "LIM"}),
        text=format("{} of {}", col("n"), col("s")),
    )
    assert [tuple(out.values()) for out in found] == [
        ("LIM", 1, "LIM", "1 of Lima"),
        ("?", None, "Cusco", "null of Cusco"),
        ("?", None, None, "3 of null"),
    ]


def test_replace_keeps_what_it_does_not_name():
    rows = [{"s": "a", "n": 1}, {"s": "b", "n": None}, {"s": None, "n": 3}]
    found = evaluated(
        {"s": str, "n": int},
        rows,
        mapping=col("n").replace({1: 10}),
        lists=col("s").replace(["a", "b"], ["x", "y"]),
        one=col("s").replace("a", "x"),
        to_null=col("n").replace({1: None}),
        of_null=col("n").replace({None: 0}),
        other_column=col("s").replace_strict({"a": 1.5}, default=col("n").cast(float)),
        strict=col("n").replace_strict({1: "one", 3: "three"}),
    )
    assert [tuple(out.values()) for out in found] == [
        (10, "x", "x", None, 1, 1.5, "one"),
        (None, "y", "b", None, 0, None, None),
        (3, None, None, 3, 3, 3.0, "three"),
    ]
    for expression, shown in ((col("n").replace_strict({1: 5}), "3"), (col("s").replace_strict({"a": 1}), "'b'")):
        with pytest.raises(DataError, match=f"does not name {shown}.*default="):
            evaluated({"s": str, "n": int}, rows, out=expression)


def test_a_choice_without_an_end_is_null():
    choice = when(col("a") > 1).then(lit("much"))
    found = evaluated(NUMBERS, [number(a=1), number(a=2), number()], bare=choice, more=choice.when(col("a") == 1).then(lit("one")))
    assert [tuple(out.values()) for out in found] == [(None, "one"), ("much", "much"), (None, None)]


def test_between_takes_the_bounds_that_are_named():
    kinds = ("both", "left", "right", "none")
    [low, high, inner, null] = evaluated(
        NUMBERS,
        [number(a=1), number(a=3), number(a=2), number()],
        **{closed: col("a").is_between(1, 3, closed) for closed in kinds},
    )
    assert list(low.values()) == [True, True, False, False]
    assert list(high.values()) == [True, False, True, False]
    assert list(inner.values()) == [True] * 4
    assert list(null.values()) == [None] * 4


def test_texts_with_separators():
    both = {"separator": "-", "ignore_nulls": True}
    found = evaluated(
        {"a": str, "b": int},
        [{"a": "x", "b": 1}, {"a": None, "b": 2}, {"a": None, "b": None}, {"a": "", "b": None}],
        strict=concat_str(col("a"), col("b"), separator="-"),
        bare=concat_str(col("a"), col("b"), ignore_nulls=True),
        present=concat_str(col("a"), col("b"), "z", **both),
    )
    assert [tuple(out.values()) for out in found] == [("x-1", "x1", "x-1-z"), (None, "2", "2-z"), (None, "", "z"), (None, "", "-z")]


def test_cast():
    [out] = evaluated(
        {"s": str, "x": float, "p": bool, "n": int},
        [{"s": "12", "x": 2.9, "p": True, "n": 300}],
        i=col("s").cast(int),
        f=col("x").cast(int),
        b=col("p").cast(int),
        t=col("n").cast(str),
        none=col("n").cast("int8", strict=False),
    )
    assert out == {"i": 12, "f": 2, "b": 1, "t": "300", "none": None}
    with pytest.raises(DataError, match="300"):
        evaluated({"n": int}, [{"n": 300}], out=col("n").cast("int8"))


def test_an_expression_has_no_truth_value():
    with pytest.raises(TopologyError, match="&"):
        bool(col("a") > 1)
    with pytest.raises(TopologyError, match="between"):
        1 < col("a") < 3  # noqa: B015


def test_integers_beyond_64_bits():
    assert evaluated({"u": "uint64"}, [{"u": 2**64 - 1}], same=col("u") == 2**64 - 1, less=col("u") - 1, more=col("u") > -1) == [
        {"same": True, "less": 2**64 - 2, "more": True}
    ]
    assert one(col("a") < 2**63, a=HIGH) is True
    for expression in (col("a") + 2**63, col("a") + 2**64, when(col("a") > 0).then(col("a")).otherwise(2**63)):
        with pytest.raises(TopologyError, match="does not fit"):
            one(expression, a=1)
    with pytest.raises(DataError, match="overflow"):
        evaluated({"u": "uint64"}, [{"u": 0}], out=col("u") - 1)


INTS = st.none() | st.integers(LOW, HIGH) | st.integers(-5, 5)
FLOATS = st.none() | st.floats(allow_nan=True, allow_infinity=True)


def plain(op, a, b):
    """What Python says, null for null, None for division of integers by 0, OverflowError beyond 64 bits."""
    if a is None or b is None:
        return None
    if op in "//%" and b == 0:
        return None
    out = {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b, "//": lambda: a // b, "%": lambda: a % b}[op]()
    if op != "/" and not LOW <= out <= HIGH:
        raise OverflowError
    return out


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(INTS, INTS), min_size=1, max_size=8), st.sampled_from(["+", "-", "*", "//", "%"]))
def test_integers_answer_as_python_does(pairs, op):
    expression = {
        "+": col("a") + col("b"),
        "-": col("a") - col("b"),
        "*": col("a") * col("b"),
        "//": col("a") // col("b"),
        "%": col("a") % col("b"),
    }[op]
    rows = [number(a=a, b=b) for a, b in pairs]
    try:
        wanted = [plain(op, a, b) for a, b in pairs]
    except OverflowError:
        with pytest.raises(DataError, match="overflow"):
            evaluated(NUMBERS, rows, out=expression)
        return
    assert [out["out"] for out in evaluated(NUMBERS, rows, out=expression)] == wanted


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=8))
def test_floats_compare_with_nan_last(pairs):
    def rank(value):
        return (math.isnan(value), 0.0 if math.isnan(value) else value)

    x, y = col("x"), col("y")
    found = evaluated(NUMBERS, [number(x=a, y=b) for a, b in pairs], lt=x < y, le=x <= y, eq=x == y, ne=x != y, s=x + y, p=x * y)
    for (a, b), out in zip(pairs, found, strict=True):
        if a is None or b is None:
            assert set(out.values()) == {None}
            continue
        assert (out["lt"], out["le"], out["eq"], out["ne"]) == (
            rank(a) < rank(b),
            rank(a) <= rank(b),
            rank(a) == rank(b),
            rank(a) != rank(b),
        )
        assert same(out["s"], a + b)
        assert same(out["p"], a * b)
