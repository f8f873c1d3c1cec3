"""Expressions: frozen values, their types, and what they refuse."""

import datetime

import pyarrow as pa
import pytest

from streamdsl import (
    Aggregate,
    Schema,
    TopologyError,
    coalesce,
    col,
    concat_str,
    count,
    expanding,
    format,
    greatest,
    haversine_km,
    lit,
    rolling,
    tumbling,
    when,
)
from streamdsl.expr import node_of
from streamdsl.logical.bind import Binder
from tests.dsl.fakes import refused

SCHEMA = Schema.of(
    {
        "i": int,
        "small": "int8",
        "u": "uint64",
        "f": float,
        "s": str,
        "b": bool,
        "raw": bytes,
        "t": "timestamp",
        "d": "date",
        "items": list[int],
        "price": pa.decimal128(10, 2),
    }
)


def bound(expr):
    return Binder(SCHEMA, "test").bind(node_of(expr))


@pytest.mark.parametrize(
    ("expr", "type_", "text"),
    [
        (col("i") + 1, "int64", "i + 1"),
        (col("small") + col("small"), "int64", "small + small"),
        (col("u") + 1, "uint64", "u + 1"),
        (col("u") + col("u"), "uint64", "u + u"),
        (col("u") + col("i"), "int64", "cast_i64(u, True) + i"),
        (col("i") + 1.5, "float64", "cast_f64(i) + 1.5"),
        (2 * col("f"), "float64", "2.0 * f"),
        (col("i") / 2, "float64", "cast_f64(i) / 2.0"),
        (col("i") // 2, "int64", "i // 2"),
        (7 % col("i"), "int64", "7 % i"),
        (col("i") ** 2, "int64", "i * i"),
        (col("f") ** 2, "float64", "f ** 2.0"),
        (col("i") ** col("i"), "float64", "cast_f64(i) ** cast_f64(i)"),
        (-col("i"), "int64", "-i"),
        (-lit(3), "int64", "-3"),
        (abs(col("f")), "float64", "abs(f)"),
        (col("i") > 3, "bool", "i > 3"),
        (col("i") > 3.5, "bool", "cast_f64(i) > 3.5"),
        (col("u") > col("i"), "bool", "u > i"),
        (col("s") == "x", "bool", "s == 'x'"),
        (~(col("b") & (col("i") == 1)), "bool", "~(b & (i == 1))"),
        (col("i").is_between(1, 5), "bool", "(i >= 1) & (i <= 5)"),
        (col("i").is_in([1, 2]), "bool", "is_in(i, (1, 2))"),
        (col("t") > datetime.datetime(1970, 1, 1, 0, 0, 1), "bool", "t > 1000"),
        (col("t") > 5, "bool", "t > 5"),
        (col("t") - col("t"), "int64", "t - t"),
        (col("s").is_null(), "bool", "is_null(s)"),
        (col("i").fill_null(0), "int64", "coalesce(i, 0)"),
        (col("small").fill_null(0), "int8", "coalesce(small, 0)"),
        (coalesce(None, col("s"), "x"), "string", "coalesce(None, s, 'x')"),
        (greatest(col("i"), 2.5), "float64", "greatest(cast_f64(i), 2.5)"),
        (col("s") + "!", "string", "concat(s, '!')"),
        (concat_str(col("s"), col("i")), "string", "concat(s, cast_str(i, 'int64'))"),
        (when(col("b")).then(1).otherwise(None), "int64", "when(b, 1, None)"),
        (when(col("b")).then(1).when(col("i") > 2).then(2.5).otherwise(3), "double", "when(b, 1.0, i > 2, 2.5, 3.0)"),
        (col("s").replace({"a": "b"}), "string", "replace(s, s, ('a',), ('b',))"),
        (col("s").replace_strict({"a": 1.0}), "double", "replace_strict(s, ('a',), (1.0,))"),
        (col("s").replace_strict({"a": 1}, default=0), "int64", "replace(s, 0, ('a',), (1,))"),
        (col("s").cast(int), "int64", "parse_i64(s, True)"),
        (col("f").cast(int, strict=False), "int64", "cast_i64(f, False)"),
        (col("i").cast("int8"), "int8", "check_range(i, -128, 127, 'int8')"),
        (col("small").cast("int16"), "int16", "small"),
        (col("t").cast(int), "int64", "t"),
        (col("i").cast(float), "double", "cast_f64(i)"),
        (col("i").cast(str), "string", "cast_str(i, 'int64')"),
        (col("t").cast("date"), "date32[day]", "t // 86400000"),
        (col("d").cast("timestamp"), "timestamp[ms, tz=UTC]", "d * 86400000"),
        (col("b").cast(int), "int64", "cast_i64(b, True)"),
        (col("price").cast(float), "double", "to_f64(price)"),
        (col("s").str.to_lowercase().str.len_chars(), "int64", "str_len_chars(str_to_lowercase(s))"),
        (col("s").str.contains("x"), "bool", "str_contains(s, 'x')"),
        (col("s").str.split_part("/", 3), "string", "str_split_part(s, '/', 3)"),
        (col("s").str.extract("a=(.)"), "string", "str_extract(s, 'a=(.)', 1)"),
        (col("i").dt.hour(), "int64", "dt_hour(i)"),
        (col("t").dt.truncate("1h"), "timestamp[ms, tz=UTC]", "dt_truncate(t, 3600000)"),
        (col("f").round(2), "double", "round(f, 2)"),
        (col("i").round(), "int64", "i"),
        (col("i").sqrt(), "double", "sqrt(cast_f64(i))"),
        (format("{} of {:.2f}", col("i"), col("i")), "string", "format(i, cast_f64(i), ('', ' of ', ''), ('', '.2f'))"),
    ],
)
def test_types_and_casts(expr, type_, text):
    typed = bound(expr)
    assert str(typed) == text
    assert str(typed.type) == (type_ if "[" in type_ else str(pa.type_for_alias(type_)))


def test_timestamps_move_by_durations():
    for expr in (col("t") + 5, col("t") + datetime.timedelta(milliseconds=5), 5 + col("t"), col("t") - 5):
        assert pa.types.is_timestamp(bound(expr).type)


def test_haversine_is_written_out_in_the_order_of_the_formula():
    schema = Schema.of({"a": float, "b": float, "c": float, "d": float})
    typed = Binder(schema, "test").bind(node_of(haversine_km(col("a"), col("b"), col("c"), col("d"))))
    assert str(typed) == (
        "12742.0 * arcsin(sqrt((sin(radians(c - a) / 2.0) ** 2.0) + "
        "((cos(radians(a)) * cos(radians(c))) * (sin(radians(d - b) / 2.0) ** 2.0))))"
    )


@pytest.mark.parametrize(
    ("expr", "parts"),
    [
        (col("I") + 1, ["test: unknown column 'I'", "did you mean 'i'", "known: i, small"]),
        (col("s") + 1, ["+ needs two numbers or two texts", "s (string)", "1 (int64)"]),
        (col("s") * 2, ["* needs numbers", "s (string)"]),
        (col("b") * 2, ["* needs numbers", ".cast(int)"]),
        (col("s") > 1, ["> needs values of one type", "s (string) and 1 (int64)"]),
        (col("items") == col("items"), ["== needs comparable values"]),
        (col("t") + col("t"), ["+ needs a timestamp and a duration"]),
        (col("i") & lit(True), ["each side of & must be true or false", "i (int64)"]),
        (when(col("i")).then(1).otherwise(2), ["the condition of when() must be true or false"]),
        (when(col("b")).then(1).otherwise("x"), ["when needs values of one type"]),
        (col("i").str.to_lowercase(), [".str.to_lowercase needs texts", ".cast(str)"]),
        (col("s").dt.hour(), [".dt.hour needs a timestamp"]),
        (col("s").sqrt(), ["sqrt needs numbers"]),
        (col("items").cast(int), ["cannot cast items"]),
        (format("{:.1f}", col("s")), ["needs a number"]),
        (format("{:d}", col("f")), ["does not fit f"]),
        (col("i").sum(), ["is an aggregate and cannot stand here"]),
        (coalesce(None, None), ["has no type"]),
    ],
)
def test_binding_refuses(expr, parts):
    with refused(*parts):
        bound(expr)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: bool(col("a") > 1), ["has no truth value", "use & for and, | for or"]),
        (lambda: 1 < col("a") < 3, ["has no truth value", "is_between("]),
        (lambda: list(col("a")), ["cannot be iterated over"]),
        (lambda: col(""), ["name of a column"]),
        (lambda: col("a") * [1], ["is not an expression"]),
        (lambda: col("a") + when(col("b")), ["not an expression yet", ".then(value)"]),
        (lambda: format("{} {}", 1), ["2 places for 1 values"]),
        (lambda: format("{name}", 1), ["may only hold {}"]),
        (lambda: format("{:>10}", 1), ["not supported"]),
        (lambda: col("a").is_in("abc"), ["needs a list"]),
        (lambda: col("a").is_in([None]), ["is_null()"]),
        (lambda: col("a").replace({}), ["at least one value"]),
        (lambda: col("a").replace([1, 2], [3]), ["2 old and 1 new values"]),
        (lambda: col("a").replace(1), ["replace needs a mapping"]),
        (lambda: col("a").is_between(1, 2, "open"), ["closed='open'", '"none"']),
        (lambda: col("a").str.extract("("), ["not a regular expression"]),
        (lambda: col("a").str.extract("a"), ["has 0 groups"]),
        (lambda: col("a").filter(col("b")), ["belongs to an aggregate"]),
        (lambda: col("a").over(rolling("1s")), ["belongs to an aggregate"]),
        (lambda: col("a").sum().over(tumbling("1s")), ["needs rolling(...) or expanding()"]),
        (lambda: col("a").lag().over(expanding()), ["lag() looks at arrivals"]),
        (lambda: col("a").lag(0), ["at least 1"]),
        (lambda: col("a").cast("strin"), ["unknown type 'strin'", "did you mean 'string'"]),
        (lambda: Aggregate(int, max), ["needs type="]),
    ],
)
def test_building_refuses(make, parts):
    with refused(*parts):
        make()


@pytest.mark.parametrize(
    ("owner", "word", "shown"),
    [
        (col("a"), "shift", "write lag(n)"),
        (col("a"), "not_null", "write is_not_null()"),
        (col("a"), "is_nul", "did you mean 'is_null'"),
        (col("a").str, "lower", "write str.to_lowercase()"),
        (col("a").str, "split_prt", "did you mean 'str.split_part'"),
        (col("a").dt, "day_of_year", "write dt.ordinal_day()"),
    ],
)
def test_words_of_other_libraries_name_ours(owner, word, shown):
    assert not hasattr(owner, word)
    with refused("expressions have no", word, shown):
        getattr(owner, word)


def test_expressions_are_frozen_values():
    expr = col("a") + 1
    with pytest.raises(AttributeError):
        expr.node = None
    assert hash(expr) == hash(col("a") + 1)
    assert hash(lit(1)) != hash(lit(True))
    assert hash(lit(0.0)) != hash(lit(-0.0))


def test_repr_reads_like_the_source():
    assert repr((col("a") + 1) * 2) == '(col("a") + 1) * 2'
    assert repr(count().filter(col("a") > 1).over(rolling("90s"))) == 'count().filter(col("a") > 1).over(rolling("90s"))'


def test_over_reaches_every_aggregate_of_a_calculation():
    expr = (col("a").sum() / count()).over(rolling("1m"))
    assert repr(expr) == 'col("a").sum().over(rolling("1m")) / count().over(rolling("1m"))'


def test_integers_out_of_range_are_refused():
    with pytest.raises(TopologyError, match="64 bits"):
        bound(lit(2**64))
    assert bound(lit(2**63)).type == pa.uint64()
