"""What has Polars' name means what it means in Polars: both compute the same columns of random values."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import streamdsl as sd
from streamdsl import Topology, col, memory
from streamdsl.schema import type_of

TIME = pa.timestamp("ms", tz="UTC")
SCHEMA = {"i": int, "j": int, "x": float, "y": float, "s": str, "t": str, "b": bool, "c": bool, "d": TIME, "k": int, "g": str}
TYPES = {
    **dict.fromkeys("ij", pl.Int64),
    **dict.fromkeys("xy", pl.Float64),
    **dict.fromkeys("st", pl.String),
    **dict.fromkeys("bc", pl.Boolean),
    "d": pl.Datetime("ms", "UTC"),
}

Pair = Callable[[Any, Any], Any]

PARTS = ["year", "iso_year", "quarter", "month", "week", "weekday", "day", "ordinal_day"]
PARTS += ["hour", "minute", "second", "millisecond", "is_leap_year", "date"]

#: Each is written once and means a column of ours and one of Polars: `m` is the module, `c` its `col`.
SAME: dict[str, Pair] = {
    "add": lambda m, c: c("i") + c("j"),
    "mul": lambda m, c: c("x") * c("y"),
    "div floats": lambda m, c: c("x") / c("y"),
    "floordiv": lambda m, c: c("i") // c("j"),
    "mod": lambda m, c: c("i") % c("j"),
    "floordiv floats": lambda m, c: c("x").clip(-9.0, 9.0) // 2.5,
    "mod floats": lambda m, c: c("x") % 2.5,
    "compare": lambda m, c: c("x") < c("y"),
    "equal": lambda m, c: c("x") == c("y"),
    "greater than a number": lambda m, c: c("x") > 1.0,
    "and": lambda m, c: c("b") & c("c"),
    "or": lambda m, c: c("b") | c("c"),
    "not": lambda m, c: ~c("b"),
    "is_null": lambda m, c: c("i").is_null(),
    "is_not_null": lambda m, c: c("s").is_not_null(),
    "is_nan": lambda m, c: c("x").is_nan(),
    "is_not_nan": lambda m, c: c("x").is_not_nan(),
    "is_finite": lambda m, c: c("x").is_finite(),
    "is_infinite": lambda m, c: c("x").is_infinite(),
    "fill_nan": lambda m, c: c("x").fill_nan(0.5),
    "fill_nan null": lambda m, c: c("x").fill_nan(None),
    "fill_null": lambda m, c: c("i").fill_null(7),
    "is_in": lambda m, c: c("i").is_in([1, 2, 3]),
    **{
        f"is_between {closed}": lambda m, c, closed=closed: c("i").is_between(-1, 2, closed) for closed in ("both", "left", "right", "none")
    },
    "is_between columns": lambda m, c: c("i").is_between(c("j"), 2),
    "clip": lambda m, c: c("i").clip(-1, 2),
    "clip floats": lambda m, c: c("x").clip(-1.0, 2.0),
    "clip below": lambda m, c: c("x").clip(upper_bound=0.5),
    "clip columns": lambda m, c: c("i").clip(c("j"), 3),
    "replace": lambda m, c: c("i").replace({1: 10, 2: None}),
    "replace null": lambda m, c: c("i").replace({None: 5, 1: 0}),
    "replace lists": lambda m, c: c("s").replace(["a", "b"], ["x", "y"]),
    "replace_strict default": lambda m, c: c("i").replace_strict({1: "one", 2: "two"}, default="?"),
    "when": lambda m, c: m.when(c("b")).then(c("i")).when(c("c")).then(c("j")).otherwise(0),
    "when without otherwise": lambda m, c: m.when(c("b")).then(c("i")),
    "coalesce": lambda m, c: m.coalesce(c("i"), c("j")),
    "abs": lambda m, c: c("x").abs(),
    "sign": lambda m, c: c("i").sign(),
    "floor": lambda m, c: c("x").floor(),
    "ceil": lambda m, c: c("x").ceil(),
    "round": lambda m, c: c("x").round(),
    "sqrt": lambda m, c: c("x").sqrt(),
    "pow": lambda m, c: c("x") ** 2,
    "log base 2": lambda m, c: c("x").log(2),
    **{
        name: lambda m, c, name=name: getattr(c("x"), name)()
        for name in [
            "cbrt",
            "exp",
            "log",
            "log10",
            "log1p",
            "sin",
            "cos",
            "tan",
            "arcsin",
            "arccos",
            "arctan",
            "sinh",
            "cosh",
            "tanh",
            "arcsinh",
            "arccosh",
            "arctanh",
            "radians",
            "degrees",
        ]
    },
    "arctan2": lambda m, c: m.arctan2(c("y"), c("x")),
    "cast to text": lambda m, c: c("i").cast(str if m is sd else pl.String),
    "cast to int": lambda m, c: c("x").cast(int if m is sd else pl.Int64, strict=False),
    "cast text": lambda m, c: c("t").cast(float if m is sd else pl.Float64, strict=False).is_null() & c("t").is_null(),
    "concat_str": lambda m, c: m.concat_str(c("s"), c("t"), separator="-"),
    "concat_str ignoring": lambda m, c: m.concat_str(c("s"), c("i"), separator="-", ignore_nulls=True),
    **{name: lambda m, c, name=name: getattr(c("s").str, name)() for name in ("to_lowercase", "to_uppercase", "len_chars", "len_bytes")},
    **{name: lambda m, c, name=name: getattr(c("s").str, name)() for name in ("strip_chars", "strip_chars_start", "strip_chars_end")},
    "strip_chars ab": lambda m, c: c("s").str.strip_chars("ab"),
    "strip_prefix": lambda m, c: c("s").str.strip_prefix("a"),
    "strip_suffix": lambda m, c: c("s").str.strip_suffix("b"),
    "starts_with": lambda m, c: c("s").str.starts_with(c("t")),
    "ends_with": lambda m, c: c("s").str.ends_with("b"),
    "contains": lambda m, c: c("s").str.contains("a.b"),
    "contains literal": lambda m, c: c("s").str.contains("a.b", literal=True),
    "count_matches": lambda m, c: c("s").str.count_matches("[ab]+"),
    "replace first": lambda m, c: c("s").str.replace("a", "b"),
    "replace group": lambda m, c: c("s").str.replace_all("(a)(b?)", "<$2$1>"),
    "replace_all": lambda m, c: c("s").str.replace_all("a", "-"),
    "replace_all nothing": lambda m, c: c("s").str.replace_all("", "-"),
    "replace_all literal": lambda m, c: c("s").str.replace_all(".", "$1", literal=True),
    "slice": lambda m, c: c("s").str.slice(1, 2),
    "slice negative": lambda m, c: c("s").str.slice(-2),
    "slice before": lambda m, c: c("s").str.slice(-5, 3),
    **{f"head {n}": lambda m, c, n=n: c("s").str.head(n) for n in (2, -2, 0)},
    **{f"tail {n}": lambda m, c, n=n: c("s").str.tail(n) for n in (2, -2, 0)},
    "zfill": lambda m, c: c("t").str.zfill(4),
    "pad_start": lambda m, c: c("s").str.pad_start(4, "*"),
    "pad_end": lambda m, c: c("s").str.pad_end(4),
    "extract": lambda m, c: c("s").str.extract("(a)(b)?", 2),
    "extract_all": lambda m, c: c("s").str.extract_all("[ab]"),
    "split": lambda m, c: c("s").str.split("a"),
    "split inclusive": lambda m, c: c("s").str.split("a", inclusive=True),
    "split characters": lambda m, c: c("s").str.split(""),
    "list.len": lambda m, c: c("s").str.split("a").list.len(),
    "list.get": lambda m, c: c("s").str.split("a").list.get(1, null_on_oob=True),
    "list.last": lambda m, c: c("s").str.split("a").list.last(),
    "list.contains": lambda m, c: c("s").str.split("a").list.contains("b"),
    "list.join": lambda m, c: c("s").str.split("a").list.join("+"),
    "to_integer": lambda m, c: c("t").str.to_integer(strict=False),
    "to_integer 16": lambda m, c: c("t").str.to_integer(base=16, strict=False),
    **{name: lambda m, c, name=name: getattr(c("d").dt, name)() for name in PARTS},
    **{
        f"truncate {every}": lambda m, c, every=every: c("d").dt.truncate(every)
        for every in ("1h", "7h", "1d", "1w", "2w", "1mo", "5mo", "1q", "3y")
    },
    **{f"offset_by {by}": lambda m, c, by=by: c("d").dt.offset_by(by) for by in ("1h", "-1mo", "1y2d", "-3w")},
    "month_start": lambda m, c: c("d").dt.month_start(),
    "month_end": lambda m, c: c("d").dt.month_end(),
    "timestamp": lambda m, c: c("d").dt.timestamp(),
    "timestamp ms": lambda m, c: c("d").dt.timestamp("ms"),
    "epoch s": lambda m, c: c("d").dt.epoch("s"),
    "epoch d": lambda m, c: c("d").dt.epoch("d"),
    "strftime": lambda m, c: c("d").dt.strftime("%Y-%m-%d %H:%M:%S%.3f %j %a %B %e %U %W %V %G %I %p %y %u"),
    "to_string": lambda m, c: c("d").dt.to_string(),
    "in Vienna": lambda m, c: c("d").dt.convert_time_zone("Europe/Vienna").dt.hour(),
    "date in Vienna": lambda m, c: c("d").dt.convert_time_zone("Europe/Vienna").dt.date(),
    "day in Vienna": lambda m, c: c("d").dt.convert_time_zone("Europe/Vienna").dt.truncate("1d").dt.timestamp("ms"),
    "hour in Vienna": lambda m, c: c("d").dt.convert_time_zone("Europe/Vienna").dt.truncate("1h").dt.timestamp("ms"),
    "zone in Vienna": lambda m, c: c("d").dt.convert_time_zone("Europe/Vienna").dt.strftime("%z %:z %Z"),
    "of Vienna": lambda m, c: c("d").dt.replace_time_zone("Europe/Vienna", ambiguous="earliest", non_existent="null").dt.timestamp("ms"),
    "to_datetime": lambda m, c: c("d").dt.strftime("%d.%m.%Y %H:%M:%S%.3f").str.to_datetime("%d.%m.%Y %H:%M:%S%.f").dt.timestamp("ms"),
    "to_date": lambda m, c: c("d").dt.strftime("%Y-%m-%d").str.to_date(),
}

AGGREGATES: dict[str, Pair] = {
    "count": lambda m, c: c("i").count(),
    "len": lambda m, c: c("i").len(),
    "sum": lambda m, c: c("i").sum(),
    "mean": lambda m, c: c("i").mean(),
    "min": lambda m, c: c("i").min(),
    "max": lambda m, c: c("s").max(),
    "std": lambda m, c: c("i").std(),
    "std 0": lambda m, c: c("i").std(ddof=0),
    "var": lambda m, c: c("i").var(),
    "median": lambda m, c: c("i").median(),
    **{f"quantile {q}": lambda m, c, q=q: c("i").quantile(q) for q in (0.0, 0.25, 0.5, 0.9, 1.0)},
    **{f"quantile {way}": lambda m, c, way=way: c("i").quantile(0.3, way) for way in ("lower", "higher", "midpoint", "linear")},
    "any": lambda m, c: c("b").any(),
    "all": lambda m, c: c("b").all(),
    "product": lambda m, c: c("k").product(),
}

INTS = st.none() | st.integers(-4, 6) | st.integers(-(10**6), 10**6)
FLOATS = (
    st.none() | st.floats(-5, 5).map(lambda x: round(x, 3)) | st.sampled_from([math.nan, math.inf, -math.inf, 0.5, 1.5, 2.5, -2.5, 0.0])
)
TEXTS = st.none() | st.text("ab.é ", max_size=5)
NUMBERS = st.none() | st.sampled_from(["12", "-7", "+3", "ff", "", "x", "1.5", " 1"])
TIMES = st.none() | st.datetimes(datetime.datetime(1930, 1, 1), datetime.datetime(2090, 1, 1), timezones=st.just(datetime.UTC)).map(
    lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "i": INTS,
            "j": INTS,
            "x": FLOATS,
            "y": FLOATS,
            "s": TEXTS,
            "t": NUMBERS,
            "b": st.none() | st.booleans(),
            "c": st.none() | st.booleans(),
        }
        | {"d": TIMES}
    ),
    min_size=1,
    max_size=12,
)


def columns(names: Any) -> pa.Schema:
    return pa.schema([(name, type_of(SCHEMA[name])) for name in names])


def alike(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, float) and isinstance(ours, (int, float)):
        if math.isnan(theirs) or math.isnan(ours):
            return math.isnan(theirs) and math.isnan(ours)
        return math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-12)
    return bool(ours == theirs)


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking takes minutes
@given(ROWS)
def test_columns(rows: list[dict[str, Any]]) -> None:
    stream = Topology("job").stream(memory("in", schema=columns("ijxystbcd"), rows=rows))
    ours = stream.select(**{f"c{n}": make(sd, col) for n, make in enumerate(SAME.values())}).collect().to_pylist()
    frame = pl.DataFrame(rows, schema=TYPES)
    theirs = frame.select(make(pl, pl.col).alias(f"c{n}") for n, make in enumerate(SAME.values())).to_dicts()
    for row, a, b in zip(rows, ours, theirs, strict=True):
        for n, name in enumerate(SAME):
            assert alike(a[f"c{n}"], b[f"c{n}"]), (name, row, a[f"c{n}"], b[f"c{n}"])


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking takes minutes
@given(ROWS)
def test_aggregates(rows: list[dict[str, Any]]) -> None:
    rows = [{**row, "k": None if row["i"] is None else row["i"] % 5 - 2, "g": "g"} for row in rows]
    stream = Topology("job").stream(memory("in", schema=columns(SCHEMA), rows=rows))
    ours = stream.key_by("g").aggregate(**{f"c{n}": make(sd, col) for n, make in enumerate(AGGREGATES.values())})
    last = ours.to_stream().collect().to_pylist()[-1]
    frame = pl.DataFrame(rows, schema={**TYPES, "k": pl.Int64, "g": pl.String})
    [theirs] = frame.select(make(pl, pl.col).alias(f"c{n}") for n, make in enumerate(AGGREGATES.values())).to_dicts()
    for n, name in enumerate(AGGREGATES):
        assert alike(last[f"c{n}"], theirs[f"c{n}"]), (name, last[f"c{n}"], theirs[f"c{n}"])


@pytest.mark.parametrize("empty_as_null", [False, True])
@pytest.mark.parametrize("keep_nulls", [False, True])
def test_explode(empty_as_null: bool, keep_nulls: bool) -> None:
    rows = [{"a": [1, None, 3], "b": 1}, {"a": [], "b": 2}, {"a": None, "b": 3}, {"a": [4], "b": None}]
    ours = Topology("job").stream(memory("in", schema=pa.schema([("a", pa.list_(pa.int64())), ("b", pa.int64())]), rows=rows))
    how = {"empty_as_null": empty_as_null, "keep_nulls": keep_nulls}
    assert ours.explode("a", **how).collect().to_pylist() == pl.DataFrame(rows).explode("a", **how).to_dicts()
