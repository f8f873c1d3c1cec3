"""Every aggregate, with nulls, NaN and .filter, in a table, a window and a frame, and across a restart."""

import datetime
import decimal
import math
import statistics

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Aggregate, TopologyError, col, count, expanding, tumbling
from tests.semantics.jobs import crash, driver, row

NAN = math.nan
longest = Aggregate(lambda: "", lambda held, value: max(held, value, key=len), lambda a, b: max(a, b, key=len), type=str)
gathered = Aggregate(lambda: [], lambda held, value: [*held, value], lambda a, b: a + b, type=list[float])

AGGREGATES = {
    "n": count(),
    "n_x": col("x").count(),
    "sum_n": col("n").sum(),
    "sum_x": col("x").sum(),
    "min_x": col("x").min(),
    "max_x": col("x").max(),
    "min_s": col("s").min(),
    "mean_x": col("x").mean(),
    "std_x": col("x").std(ddof=0),
    "var_x": col("x").var(),
    "first_s": col("s").first(),
    "last_s": col("s").last(),
    "list_n": col("n").to_list(),
    "unique_s": col("s").n_unique(),
    "s_of_max": col("s").max_by(col("n")),
    "s_of_min": col("s").min_by("n"),
    "top": col("s").top_k(2, by=col("n")),
    "some": col("n").sum().filter(col("b")),
    "longest": longest(col("s")),
    "gathered": gathered("x").filter(col("b")),
}


def expected(rows):
    def values(name, keep=lambda row: True):
        return [row[name] for row in rows if row[name] is not None and keep(row)]

    x, n, s = values("x"), values("n"), values("s")
    ranked = [row for row in rows if row["s"] is not None and row["n"] is not None]
    yes = values("x", lambda row: row["b"])
    return {
        "n": len(rows),
        "n_x": len(x),
        "sum_n": sum(n),
        "sum_x": sum(x, 0.0),
        "min_x": min(x, default=None),
        "max_x": max(x, default=None),
        "min_s": min(s, default=None),
        "mean_x": statistics.fmean(x) if x else None,
        "std_x": statistics.pstdev(x) if x else None,
        "var_x": statistics.variance(x) if len(x) > 1 else None,
        "first_s": s[0] if s else None,
        "last_s": s[-1] if s else None,
        "list_n": n or None,
        "unique_s": len(set(s)),
        "s_of_max": max(ranked, key=lambda row: row["n"])["s"] if ranked else None,
        "s_of_min": min(ranked, key=lambda row: row["n"])["s"] if ranked else None,
        "top": [row["s"] for row in sorted(ranked, key=lambda row: -row["n"])[:2]] or None,
        "some": sum(values("n", lambda row: row["b"])),
        "longest": max(s, key=len) if s else None,
        "gathered": yes or None,
    }


def check(out, rows):
    for name, wanted in expected(rows).items():
        found = out[name]
        if isinstance(wanted, float):
            assert found == pytest.approx(wanted, abs=1e-9), name
        else:
            assert found == wanted, name


ROWS = st.lists(
    st.builds(
        lambda x, n, s, b: row("a", 0, x=x, n=n, s=s, b=b),
        st.none() | st.integers(-9, 9).map(float),
        st.none() | st.integers(-9, 9),
        st.none() | st.sampled_from(["", "x", "yy", "ñandú"]),
        st.none() | st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.integers(0, 12), st.sampled_from(["table", "frame", "window", "update"]))
def test_aggregates_answer_as_plain_python_does(rows, restore, kind):
    def build(stream):
        keyed = stream.key_by("k")
        if kind == "table":
            return keyed.aggregate(**AGGREGATES)
        if kind == "frame":
            framed = keyed.with_columns(**{f"_{name}": made.over(expanding()) for name, made in AGGREGATES.items()})
            return framed.select("k", **{name: col(f"_{name}") for name in AGGREGATES})
        return keyed.window(tumbling("1s"), emit="close" if kind == "window" else "update").aggregate(**AGGREGATES)

    job = driver(build)
    for i, sent in enumerate(rows):
        if i == restore:
            crash(job)
        job.send("in", sent)
    job.end()
    found = job.read("out")
    assert len(found) == (min(1, len(rows)) if kind == "window" else len(rows))
    for i, out in enumerate(found):
        check(out, rows if kind == "window" else rows[: i + 1])


def last(build, *rows, **options):
    job = driver(build, **options)
    for sent in rows:
        job.send("in", sent)
    return job.read("out")[-1]


def test_nothing_but_nulls_is_null_and_an_empty_sum_is_0():
    out = last(lambda rows: rows.key_by("k").aggregate(**AGGREGATES), row("a"))
    assert {name: value for name, value in out.items() if value is not None} == {
        "k": "a",
        "n": 1,
        "n_x": 0,
        "sum_n": 0,
        "sum_x": 0.0,
        "unique_s": 0,
        "some": 0,
    }


def test_nan_is_the_greatest():
    out = last(
        lambda rows: rows.key_by("k").aggregate(
            low=col("x").min(),
            high=col("x").max(),
            of=col("s").max_by("x"),
            under=col("s").min_by("x"),
            kinds=col("x").n_unique(),
            top=col("x").top_k(2),
        ),
        *(row("a", x=x, s=s) for x, s in [(1.0, "one"), (NAN, "nan"), (math.inf, "inf"), (-0.0, "zero"), (0.0, "o"), (-NAN, "other")]),
    )
    assert (out["low"], out["of"], out["under"], out["kinds"]) == (0.0, "nan", "zero", 4)
    assert math.isnan(out["high"])
    assert [math.isnan(value) for value in out["top"]] == [True, True]


def test_sums_of_integers_are_exact_and_of_bools_count():
    out = last(
        lambda rows: rows.key_by("k").aggregate(total=col("n").sum(), yes=col("b").sum(), share=col("b").mean()),
        *(row("a", n=n, b=b) for n, b in [(2**62, True), (2**62 - 1, False), (-(2**62), True), (1, None)]),
    )
    assert (out["total"], out["yes"], out["share"]) == (2**62, 2, 2 / 3)


def test_welford_is_stable():
    out = last(lambda rows: rows.key_by("k").aggregate(std=col("x").std()), *(row("a", x=1e9 + x) for x in (4.0, 7.0, 13.0, 16.0)))
    assert out["std"] == pytest.approx(math.sqrt(30.0), rel=1e-9)


TYPES = {
    "int8": -128,
    "uint64": 2**64 - 1,
    "float32": 0.5,
    "bool": True,
    "bytes": b"\x00\xff",
    "date": datetime.date(2020, 2, 29),
    "datetime": datetime.datetime(2020, 2, 29, 1, 2, 3, 4000, tzinfo=datetime.UTC),
    pa.timestamp("us"): datetime.datetime(2020, 2, 29, 1, 2, 3, 4000),
    pa.timestamp("s", tz="UTC"): datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC),
}


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_aggregates_keep_the_type(type_):
    value = TYPES[type_]
    job = driver(
        lambda rows: (
            rows.key_by("k")
            .aggregate(
                first=col("v").first(),
                last=col("v").last(),
                low=col("v").min(),
                high=col("v").max(),
                all=col("v").to_list(),
                of=col("v").max_by("k"),
                top=col("v").top_k(1),
                kinds=col("v").n_unique(),
                name="agg",
            )
            .to_stream()
        ),
        schema={"k": str, "v": type_},
        timestamp=None,
    )
    for sent in (value, None, value):
        job.send("in", {"k": "a", "v": sent}, timestamp=0)
        crash(job)
    out = job.read("out")[-1]
    assert out == {
        "k": "a",
        "first": value,
        "last": value,
        "low": value,
        "high": value,
        "all": [value, value],
        "of": value,
        "top": [value],
        "kinds": 1,
        "op": "replace",
    }
    assert job.state("agg") == {"a": {name: out[name] for name in out if name not in ("k", "op")}}


def test_values_that_are_only_carried_can_be_first_last_and_listed():
    value = {"v": decimal.Decimal("1.20"), "w": [1, None]}
    job = driver(
        lambda rows: rows.key_by("k").aggregate(v=col("v").last(), w=col("w").first(), all=col("v").to_list(), of=col("w").max_by("k")),
        schema={"k": str, "v": decimal.Decimal, "w": list[int]},
        timestamp=None,
    )
    job.send("in", {"k": "a", **value}, timestamp=0)
    crash(job)
    job.send("in", {"k": "a", "v": None, "w": [7]}, timestamp=0)
    assert job.read("out")[-1] == {"k": "a", "v": value["v"], "w": [1, None], "all": [value["v"]], "of": [1, None]}
    with pytest.raises(TopologyError, match="numbers"):
        driver(lambda rows: rows.key_by("k").aggregate(w=col("w").sum()), schema={"k": str, "w": list[int]}, timestamp=None)


def test_an_own_aggregate_gets_values_in_their_types():
    seen = []
    keep = Aggregate(lambda: 0, lambda n, value: seen.append(value) or n + 1, type=int)
    moment = Aggregate(lambda: None, lambda held, value: value if held is None else max(held, value), type=datetime.datetime)
    types = {**{name: name for name in TYPES if isinstance(name, str)}, "l": list[int], "d": decimal.Decimal}
    job = driver(
        lambda rows: rows.key_by("bool").aggregate(**{f"of_{name}": keep(col(name)) for name in types}, latest=moment("datetime")),
        schema=types,
        timestamp=None,
    )
    sent = {**{name: TYPES[name] for name in types if name in TYPES}, "l": [1, None], "d": decimal.Decimal("0.500000000")}
    job.send("in", sent, timestamp=0)
    crash(job)
    job.send("in", {**dict.fromkeys(types), "bool": True}, timestamp=0)
    assert sorted(map(repr, seen)) == sorted(map(repr, [*sent.values(), True]))
    assert job.read("out")[-1]["latest"] == TYPES["datetime"]


def test_an_own_aggregate_without_a_column_says_how_it_is_written():
    with pytest.raises(TopologyError, match="col"):
        driver(lambda rows: rows.key_by("k").aggregate(longest=longest))
    with pytest.raises(TopologyError, match="type="):
        Aggregate(lambda: 0, lambda a, b: a)
    with pytest.raises(TopologyError, match="aggregate of an aggregate"):
        driver(lambda rows: rows.key_by("k").aggregate(x=col("x").sum().max()))
