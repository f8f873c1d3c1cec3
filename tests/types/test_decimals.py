"""Decimals are exact: computed, compared, added up, kept, written and read."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from streamdsl import Processor, Topology, coalesce, col, count, expanding, files, greatest, least, lit, memory, rolling, tumbling, when
from streamdsl import format as text
from streamdsl._native.serdes.decimal_text import text_of_unscaled, unscaled_of_text
from streamdsl.errors import DataError, TopologyError
from tests.types.jobs import computed, driver_of, value_of

WIDE = decimal.Context(prec=200, rounding=decimal.ROUND_HALF_EVEN)
MONEY = pa.decimal128(12, 2)
SCHEMA = pa.schema(
    [("k", pa.string()), ("x", MONEY), ("y", pa.decimal128(20, 5)), ("n", pa.int64()), ("f", pa.float64()), ("s", pa.string())]
)


def money(value: str, **others: Any) -> dict[str, Any]:
    return {"k": "a", "x": Decimal(value), "y": Decimal("0.5"), "n": 3, "f": 0.1, "s": "1.25", **others}


@st.composite
def typed_decimals(draw: Any) -> tuple[pa.DataType, Decimal]:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    digits = draw(st.integers(-(10**precision) + 1, 10**precision - 1) | st.integers(-999, 999))
    assume(abs(digits) < 10**precision)
    return pa.decimal128(precision, scale), Decimal(digits).scaleb(-scale, WIDE)


@given(typed_decimals())
def test_a_text_of_a_decimal_reads_back(made: tuple[pa.DataType, Decimal]) -> None:
    type_, value = made
    unscaled = int(value.scaleb(type_.scale, WIDE))
    shown = text_of_unscaled(unscaled, type_.scale)
    assert shown == f"{value:f}" or (value == 0 and Decimal(shown) == 0)
    assert unscaled_of_text(shown.encode(), type_.scale, type_.precision) == unscaled


@pytest.mark.parametrize(
    ("given_text", "read"),
    [
        ("1", 100), (" +1.5\n", 150), ("-.5", -50), ("1.", 100), ("1e1", 1000), ("125e-2", 125), ("1.500", 150), ("0e999999", 0),
        ("0.00000", 0), ("9999999999.99", 999_999_999_999), ("000000000000000000000000000000000000000000001", 100),
        ("", None), (".", None), ("e1", None), ("1e", None), ("1.2.3", None), ("1.005", None), ("NaN", None), ("1 2", None),
        ("10000000000", None), ("1e10", None), ("1e99999999999", None), ("--1", None),
    ],
)  # fmt: skip
def test_texts_are_read_exactly_or_refused(given_text: str, read: int | None) -> None:
    assert unscaled_of_text(given_text.encode(), 2, 12) == read


OPERATORS: dict[str, Any] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@settings(max_examples=100)
@given(typed_decimals(), typed_decimals(), st.sampled_from(sorted(OPERATORS)), st.booleans())
@example((pa.decimal128(38, 0), Decimal(10) ** 37), (pa.decimal128(3, 1), Decimal("0.5")), ">", False)
@example((pa.decimal128(38, 9), Decimal("1.1")), (pa.decimal128(38, 9), Decimal("1.1")), "*", False)
def test_arithmetic_and_comparison_are_exact_or_an_error_of_the_record(a: Any, b: Any, op: str, constant: bool) -> None:
    (left, x), (right, y) = a, b
    if op == "*":
        assume(left.scale + right.scale <= 38)
    schema = pa.schema([("x", left), ("y", right)])
    with decimal.localcontext(WIDE):
        expected = OPERATORS[op](x, y)
    other = y if constant else col("y")
    try:
        found = computed(schema, [{"x": x, "y": y}], out=OPERATORS[op](col("x"), other)).column("out")
    except (DataError, TopologyError) as error:
        assert "overflow" in str(error) or "does not fit" in str(error)
        scale = max(left.scale, right.scale)
        assert op in "+-*" and max(abs(expected), abs(x), abs(y)) >= Decimal(10) ** (38 - (found_scale(op, left, right) or scale))
        return
    assert found.to_pylist() == [expected]


def found_scale(op: str, left: Any, right: Any) -> int:
    return int(left.scale + right.scale) if op == "*" else max(left.scale, right.scale)


@settings(max_examples=100)
@given(typed_decimals(), typed_decimals())
def test_a_quotient_is_rounded_half_to_even(a: Any, b: Any) -> None:
    (left, x), (right, y) = a, b
    schema = pa.schema([("x", left), ("y", right)])
    try:
        found = computed(schema, [{"x": x, "y": y}], out=col("x") / col("y")).column("out")
    except DataError as error:
        assert y != 0 and "overflow" in str(error)
        return
    if y == 0:
        assert found.to_pylist() == [None]
        return
    with decimal.localcontext(WIDE):
        exact = Fraction(x) / Fraction(y) * 10**found.type.scale
    assert found.to_pylist()[0].scaleb(found.type.scale, WIDE) == round(exact)
    assert found.type.scale >= min(6, 38 + left.scale - right.scale)


@given(typed_decimals(), st.integers(-3, 12))
def test_round_floor_and_ceil(made: Any, digits: int) -> None:
    type_, x = made
    out = computed(
        pa.schema([("x", type_)]), [{"x": x}], round=col("x").round(digits), floor=col("x").floor(), ceil=col("x").ceil(),
        neg=-col("x"), abs=col("x").abs(), sign=col("x").sign(),
    ).to_pylist()[0]  # fmt: skip
    expected = {
        "round": Fraction(round(Fraction(x) * Fraction(10) ** digits)) / Fraction(10) ** digits,
        "floor": Fraction(x) // 1,
        "ceil": -(-Fraction(x) // 1),
        "neg": -Fraction(x),
        "abs": abs(Fraction(x)),
        "sign": (x > 0) - (x < 0),
    }
    assert {name: Fraction(value) for name, value in out.items()} == expected


def test_whole_division_and_remainder_go_by_the_floor_as_for_integers() -> None:
    for x, y in ((7, 2), (-7, 2), (7, -2), (-7, -2)):
        row = {"x": Decimal(x) / 10, "y": Decimal(y) / 10}
        schema = pa.schema([("x", MONEY), ("y", pa.decimal128(20, 5))])
        out = computed(schema, [row], d=col("x") // col("y"), m=col("x") % col("y")).to_pylist()[0]
        assert (out["d"], out["m"] * 10) == (x // y, x % y)
    assert value_of(SCHEMA, money("1.00"), col("x") // 0) is None


def test_types_of_results_are_those_of_sql() -> None:
    out = computed(
        SCHEMA, [money("1.00")], add=col("x") + col("y"), mul=col("x") * col("y"), div=col("x") / col("y"), int=col("x") + col("n"),
        lit=col("x") * Decimal("1.19"), square=col("x") ** 2, round=col("x").round(1), up=col("x").ceil(),
    ).schema  # fmt: skip
    assert {name: str(out.field(name).type) for name in out.names} == {
        "add": "decimal128(21, 5)",
        "mul": "decimal128(32, 7)",
        "div": "decimal128(38, 23)",
        "int": "decimal128(22, 2)",
        "lit": "decimal128(15, 4)",
        "square": "decimal128(25, 4)",
        "round": "decimal128(12, 1)",
        "up": "decimal128(11, 0)",
    }


def test_an_overflow_is_an_error_of_its_record() -> None:
    schema = pa.schema([("x", pa.decimal128(38, 2))])
    rows = [{"x": Decimal("1.00")}, {"x": Decimal(10) ** 35}, {"x": Decimal("2.00")}]
    for wrong in (col("x") * 1000, col("x") * col("x"), col("x").cast(pa.decimal128(10, 2)), col("x").cast(pa.int64())):
        with pytest.raises(DataError, match=r"overflow|does not fit"):
            computed(schema, rows, out=wrong)
    with pytest.raises(DataError, match="overflow in add"):
        computed(schema, [{"x": Decimal(9) * Decimal(10) ** 35}], out=col("x") + col("x"))


def test_casts() -> None:
    row = money("12.50")
    cases = {
        col("x").cast(str): "12.50",
        col("x").cast(float): 12.5,
        col("x").cast(int): 12,
        (-col("x")).cast(int): -12,
        col("x").cast("uint8"): 12,
        col("x").cast(bool): True,
        col("x").cast(pa.decimal128(30, 10)): Decimal("12.5"),
        col("x").cast(pa.decimal128(3, 1)): Decimal("12.5"),
        col("n").cast(MONEY): Decimal(3),
        col("f").cast(MONEY): Decimal("0.10"),
        lit(2.5).cast(pa.decimal128(1, 0)): Decimal(2),
        col("s").cast(MONEY): Decimal("1.25"),
        lit("1e3").cast(MONEY): Decimal(1000),
        (col("x") > 0).cast(MONEY): Decimal(1),
        lit("x").cast(MONEY, strict=False): None,
        lit("1.005").cast(MONEY, strict=False): None,
        col("x").cast(pa.decimal128(2, 0), strict=False): None,
        lit(float("nan")).cast(MONEY, strict=False): None,
        text("{} {:.1f} {:.3f}", col("x"), col("x"), col("x")): "12.50 12.5 12.500",
    }
    for expression, expected in cases.items():
        assert value_of(SCHEMA, row, expression) == expected, expression


@pytest.mark.parametrize("wrong", [lit("x"), lit("1.005"), lit(float("inf")), col("n") * 10_000_000_000])
def test_a_strict_cast_of_what_does_not_fit_is_an_error_of_the_record(wrong: Any) -> None:
    with pytest.raises(DataError, match=r"does not fit decimal128\(12, 2\)"):
        value_of(SCHEMA, money("1.00"), wrong.cast(MONEY))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: col("x") * 1.19, "Decimal"),
        (lambda: col("x") + col("f"), "cast"),
        (lambda: col("f") > Decimal("0.1"), "Decimal"),
        (lambda: col("x").is_in([0.5]), "Decimal"),
        (lambda: col("x").sqrt(), "cast"),
        (lambda: col("x") ** 0.5, "cast"),
        (lambda: col("x") + "1", "numbers"),
        (lambda: text("{:+d}", col("x")), "format"),
        (lambda: col("x") + Decimal("NaN"), "finite"),
        (lambda: col("y") ** 8, "cast"),
        (lambda: when(col("n") > 1).then(col("x")).otherwise(col("f")), "one type"),
    ],
)
def test_floats_beside_decimals_are_refused_with_the_remedy(wrong: Any, says: str) -> None:
    with pytest.raises(TopologyError, match=says):
        value_of(SCHEMA, money("1.00"), wrong())


def test_choices() -> None:
    row = money("12.50")
    nothing = lit(None).cast(MONEY)
    cases = {
        col("x").is_in([Decimal("12.5"), 3]): True,
        col("x").is_in([Decimal("12.505")]): False,
        (col("x") * 0 + col("n")).is_in([3]): True,
        coalesce(nothing, col("x")): Decimal("12.50"),
        nothing.fill_null(0): Decimal(0),
        nothing.fill_null(Decimal("0.125")): Decimal("0.125"),
        when(col("x") > 10).then(col("x")).otherwise(col("n")): Decimal("12.50"),
        when(col("x") > 100).then(col("x")).otherwise(Decimal("0.001")): Decimal("0.001"),
        least(col("x"), col("y"), 7): Decimal("0.5"),
        greatest(col("x"), col("y"), 7): Decimal("12.5"),
        col("x").replace(Decimal("12.5"), Decimal("13")): Decimal(13),
        col("x").is_between(Decimal("12.49"), 13): True,
        col("x").is_null(): False,
        col("x") > Decimal("1e30"): False,
        col("y") < Decimal("1e35"): True,
    }
    for expression, expected in cases.items():
        assert value_of(SCHEMA, row, expression) == expected, expression


AGGREGATES: dict[str, tuple[Any, Any]] = {
    "sum": (col("x").sum(), lambda xs: sum(xs, Decimal(0))),
    "mean": (col("x").mean(), lambda xs: Decimal(round(Fraction(sum(xs)) / len(xs) * 10**6)).scaleb(-6) if xs else None),
    "min": (col("x").min(), lambda xs: min(xs, default=None)),
    "max": (col("x").max(), lambda xs: max(xs, default=None)),
    "first": (col("x").first(), lambda xs: xs[0] if xs else None),
    "last": (col("x").last(), lambda xs: xs[-1] if xs else None),
    "unique": (col("x").n_unique(), lambda xs: len(set(xs))),
    "list": (col("x").to_list(), lambda xs: xs or None),
    "top": (col("x").top_k(2), lambda xs: sorted(xs, reverse=True)[:2] or None),
    "counted": (col("x").count(), len),
    "of_max": (col("n").max_by(col("x")), None),
    "max_by": (col("x").max_by(col("n")), lambda xs: xs[-1] if xs else None),
    "min_by": (col("x").min_by(col("n")), lambda xs: xs[0] if xs else None),
}
AMOUNTS = st.integers(-(10**11), 10**11).map(lambda cents: Decimal(cents).scaleb(-2)) | st.sampled_from([Decimal("0.10"), Decimal("-0.01")])


@settings(max_examples=200)
@given(st.lists(AMOUNTS | st.none(), min_size=1, max_size=12), st.integers(0, 12), st.integers(1, 2))
def test_aggregates_are_those_of_python(values: list[Decimal | None], cut: int, parallelism: int) -> None:
    build = {name: made for name, (made, _) in AGGREGATES.items()}
    driver = driver_of(SCHEMA, lambda rows: rows.key_by("k").aggregate(**build).to_stream())
    rows = [{**money("0"), "x": x, "n": i} for i, x in enumerate(values)]
    for part in (rows[:cut], rows[cut:]):
        if part:
            driver.send_batch("in", part, timestamps=[0] * len(part))
        driver.checkpoint()
        driver.crash_and_restore(parallelism)
    for i, found in enumerate(driver.read("out")):
        seen = [x for x in values[: i + 1] if x is not None]
        assert {name: found[name] for name, (_, known) in AGGREGATES.items() if known} == {
            name: known(seen) for name, (_, known) in AGGREGATES.items() if known
        }


def test_a_sum_that_needs_more_than_38_digits_is_an_error_of_the_record() -> None:
    schema = pa.schema([("x", pa.decimal128(38, 0))])
    topology = Topology("job")
    rows = [{"x": Decimal(6) * 10**37}, {"x": Decimal(6) * 10**37}]
    keyed = topology.stream(memory("in", schema=schema, rows=rows)).key_by()
    with pytest.raises(DataError, match="more than 38 digits"):
        keyed.aggregate(total=col("x").sum()).to_stream().collect()


def test_frames_windows_and_lag() -> None:
    def build(rows: Any) -> Any:
        return rows.key_by("k").with_columns(
            running=col("x").sum().over(expanding()),
            recent=col("x").sum().over(rolling("1s")),
            mean=col("x").mean().over(rolling("1s")),
            last=col("x").lag(),
            far=col("x").lag(5),
        )

    driver = driver_of(SCHEMA, build)
    for i, x in enumerate(("0.10", "0.20", "0.25")):
        driver.send("in", money(x), timestamp=600 * i)
        driver.checkpoint()
        driver.crash_and_restore()
    assert [(r["running"], r["recent"], r["mean"], r["last"], r["far"]) for r in driver.read("out")] == [
        (Decimal("0.10"), Decimal("0.10"), Decimal("0.10"), None, None),
        (Decimal("0.30"), Decimal("0.30"), Decimal("0.15"), Decimal("0.10"), None),
        (Decimal("0.55"), Decimal("0.45"), Decimal("0.225"), Decimal("0.20"), None),
    ]
    driver = driver_of(SCHEMA, lambda rows: rows.key_by("x").window(tumbling("1s")).aggregate(total=col("y").sum(), n=count()))
    driver.send_batch("in", [money("0.10"), money("0.1"), money("0.20")], timestamps=[0, 0, 0])
    driver.checkpoint()
    driver.crash_and_restore(2)
    driver.end()
    found = sorted((row["x"], row["total"], row["n"]) for row in driver.read("out"))
    assert found == [
        (Decimal("0.10"), 1, 2),
        (Decimal("0.20"), Decimal("0.5"), 1),
    ]


class Keeps(Processor):
    """Keeps what it has seen in every kind of state, and says what it finds there."""

    output = {"key": Decimal, "x": MONEY, "before": Decimal | None, "total": Decimal, "n": int}

    def open(self, ctx: Any) -> None:
        self.last = ctx.state.value("last", Decimal)
        self.by_amount = ctx.state.map("by_amount", Decimal, int)

    def process(self, row: Any, ctx: Any) -> Any:
        before = self.last.get()
        self.last.set((before or Decimal(0)) + row.x)
        self.by_amount[row.x] = self.by_amount.get(row.x, 0) + 1
        yield {"key": ctx.key, "x": row.x, "before": before, "total": self.last.get(), "n": self.by_amount[row.x]}


def test_a_processor_sees_and_keeps_decimals() -> None:
    driver = driver_of(SCHEMA, lambda rows: rows.key_by("y").process(Keeps, name="keeps"))
    for x in ("0.10", "0.20", "0.10"):
        driver.send("in", money(x), timestamp=0)
        driver.checkpoint()
        driver.crash_and_restore()
    assert [tuple(row.values()) for row in driver.read("out")] == [
        (Decimal("0.5"), Decimal("0.10"), None, Decimal("0.10"), 1),
        (Decimal("0.5"), Decimal("0.20"), Decimal("0.10"), Decimal("0.30"), 1),
        (Decimal("0.5"), Decimal("0.10"), Decimal("0.30"), Decimal("0.40"), 2),
    ]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "arrow"])
@settings(max_examples=20)
@given(data=st.data())
def test_files_keep_decimals(ending: str, data: Any, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("d") / f"out.{ending}"
    values = data.draw(st.lists(typed_decimals(), min_size=1, max_size=3))
    schema = pa.schema([pa.field("i", pa.int64()), *(pa.field(f"c{i}", type_) for i, (type_, _) in enumerate(values))])
    row = {"i": 1, **{f"c{i}": value for i, (_, value) in enumerate(values)}}
    empty = {name: 2 if name == "i" else None for name in schema.names}
    topology = Topology("write")
    topology.stream(memory("in", schema=schema, rows=[row, empty])).to(files(path))
    topology.run()
    found = Topology("read").stream(files(path, schema=schema)).collect()
    assert found.to_pylist() == [row, empty]
    assert found.schema.types == schema.types
