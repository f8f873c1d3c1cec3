"""Hypothesis strategies: batches of all kinds, and expressions over them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from streamdsl._native.expr.program import Program
from streamdsl._native.flow.arrow import PyBatch
from streamdsl.errors import RecordError
from streamdsl.physical.node import Instruction, ProgramSpec
from tests.native import functions, times
from tests.native.reference import I64, U64, Refused, evaluate, same

ARROW = {
    "bool": pa.bool_(),
    "i64": pa.int64(),
    "u64": pa.uint64(),
    "f64": pa.float64(),
    "str": pa.string(),
    "list": pa.string(),
    "stamp": pa.string(),
}
#: Two columns of each kind; a third of int64 with times, as a datetime can hold them.
COLUMNS = ("bool", "bool", "i64", "i64", "u64", "u64", "f64", "f64", "str", "str", "time", "list", "moment", "stamp")
TIMES = st.integers(-62_135_596_800_000, 253_402_300_799_999)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.text("ab,\u00e9ß\u3000 \t", max_size=8),
    st.sampled_from(["", " 12 ", "-7", "1.5", "1e5", "nan", "-inf", "true", "False", "0", "9223372036854775808", "a-b-c", "x"]),
)
FLOATS = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 1e300, -1e300, 5e-324, 2.0**53, 2.0**63, -(2.0**63), 2.0**64]),
    st.floats(-1000, 1000),
    st.integers(-100, 100).map(lambda x: x / 8),
)
ITEMS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(-9, 9), st.text(max_size=4), st.text('a,"]\\\n', max_size=4)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2),
    max_leaves=4,
)
VALUES = {
    "bool": st.booleans(),
    "i64": st.one_of(st.integers(-4, 4), st.integers(*I64), st.sampled_from([*I64, 2**31, 10**9])),
    "u64": st.one_of(st.integers(0, 4), st.integers(*U64), st.sampled_from([*U64, 2**63, 2**63 - 1])),
    "f64": FLOATS,
    "str": TEXTS,
    "time": TIMES,
    "moment": times.MOMENTS,
    "stamp": times.STAMPS,
    "list": st.lists(ITEMS, max_size=4).map(json.dumps),
}


def values(kind: str) -> st.SearchStrategy[Any]:
    """Values of a kind, one in six missing."""
    return st.one_of(*[VALUES[kind]] * 5, st.none())


@st.composite
def record_batches(draw: st.DrawFn, *, max_rows: int = 12) -> pa.RecordBatch:
    """Canonical record batches with the columns COLUMNS, often with an offset, sometimes long."""
    n = draw(st.integers(0, max_rows))
    repeat = draw(st.sampled_from([1, 1, 1, 23]))
    before = draw(st.sampled_from([0, 0, 1, 3, 9]))
    arrays = []
    for kind in COLUMNS:
        nulls = draw(st.booleans())
        column = draw(st.lists(values(kind) if nulls else VALUES[kind], min_size=n, max_size=n))
        filler = [draw(VALUES[kind])] * before
        arrays.append(pa.array(filler + column * repeat, ARROW.get(kind, pa.int64())))
    whole = pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(arrays))])
    return whole.slice(before)


@dataclass
class Builder:
    """Writes instructions; the last one of each kind may be read again."""

    instructions: list[Instruction] = field(default_factory=list)

    def add(self, op: str, kind: str, args: tuple[int, ...] = (), params: tuple[Any, ...] = ()) -> int:
        self.instructions.append(Instruction(op, kind, args, params))
        return len(self.instructions) - 1

    def known(self, kind: str) -> list[int]:
        return [i for i, ins in enumerate(self.instructions) if ins.kind == kind and ins.args]


@dataclass(frozen=True)
class Signature:
    op: str
    kind: str
    args: tuple[str, ...]
    params: st.SearchStrategy[tuple[Any, ...]] = field(default_factory=lambda: st.just(()))

    def __str__(self) -> str:
        return f"{self.op}({','.join(self.args)})->{self.kind}"


def _tuple(*parts: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(*parts)


def _format_params(n: int, specs: list[str]) -> st.SearchStrategy[tuple[Any, ...]]:
    return _tuple(
        st.lists(st.text("{}aé ", max_size=3), min_size=n + 1, max_size=n + 1).map(tuple),
        st.lists(st.sampled_from(specs), min_size=n, max_size=n).map(tuple),
    )


@st.composite
def _mapping(draw: st.DrawFn, key: str, value: str) -> tuple[Any, ...]:
    keys = draw(st.lists(VALUES[key], min_size=1, max_size=5, unique=True))
    return tuple(keys), tuple(draw(st.lists(values(value), min_size=len(keys), max_size=len(keys))))


STRICT = st.booleans().map(lambda strict: (strict,))
LOOSE = st.just((False,))
_NUMBERS = ("i64", "u64", "f64")
_KINDS = ("bool", "i64", "u64", "f64", "str")
_FLOAT_OPS = ("sqrt", "exp", "log", "log10", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "radians", "floor", "ceil")
SIGNATURES: list[Signature] = [
    *(Signature(op, kind, (kind, kind)) for op in ("add", "sub", "mul", "floordiv", "mod") for kind in _NUMBERS),
    *(Signature(op, "f64", ("i64", "f64")) for op in ("add", "floordiv", "mod", "least")),
    Signature("div", "f64", ("f64", "f64")),
    Signature("div", "f64", ("i64", "i64"), st.just(("int",))),
    *(Signature(op, "f64", ("f64", "f64")) for op in ("pow", "arctan2")),
    *(Signature(op, kind, (kind,)) for op in ("neg", "abs", "sign") for kind in _NUMBERS),
    *(Signature("round", kind, (kind,), st.integers(-21, 20).map(lambda d: (d,))) for kind in _NUMBERS),
    Signature("round", "f64", ("f64",), st.integers(0, 3).map(lambda d: (d,))),
    *(Signature(op, "f64", ("f64",)) for op in _FLOAT_OPS),
    *(Signature(op, "bool", (kind, kind)) for op in ("eq", "ne", "lt", "le", "gt", "ge") for kind in _KINDS),
    *(Signature(op, "bool", ("i64", "u64")) for op in ("eq", "lt", "ge")),
    *(Signature(op, "bool", ("u64", "i64")) for op in ("ne", "le", "gt")),
    Signature("and", "bool", ("bool", "bool")),
    Signature("or", "bool", ("bool", "bool")),
    Signature("and", "bool", ("bool", "bool", "bool")),
    Signature("not", "bool", ("bool",)),
    *(Signature(op, "bool", (kind,)) for op in ("is_null", "is_not_null") for kind in _KINDS),
    *(Signature(op, "bool", ("f64",)) for op in ("is_nan", "is_finite")),
    *(Signature("coalesce", kind, (kind, kind, kind)) for kind in _KINDS),
    *(Signature("when", kind, ("bool", kind, kind)) for kind in _KINDS),
    *(Signature("when", kind, ("bool", kind, "bool", kind, kind)) for kind in _KINDS),
    *(Signature(op, kind, (kind,) * n) for op in ("least", "greatest") for kind in _KINDS[1:] for n in (2, 3)),
    *(Signature("cast_f64", "f64", (kind,)) for kind in ("bool", "i64", "u64", "f64")),
    *(Signature(f"cast_{to}", to, (kind,), STRICT) for to in ("i64", "u64", "bool") for kind in _KINDS),
    *(Signature("cast_str", "str", (kind,), st.just(("",))) for kind in _KINDS),
    Signature("cast_str", "str", ("time",), st.just(("timestamp",))),
    *(Signature(f"parse_{kind}", kind, ("str",), STRICT) for kind in ("i64", "f64", "bool")),
    Signature("check_range", "i64", ("i64",), st.just((-128, 127, "int8"))),
    Signature("check_range", "u64", ("u64",), st.just((0, 2**64 - 2, "most"))),
    *(Signature(op, "str", ("str",)) for op in ("str_to_lowercase", "str_to_uppercase")),
    Signature("str_len_chars", "i64", ("str",)),
    *(Signature(op, "bool", ("str", "str")) for op in ("str_starts_with", "str_ends_with", "str_contains")),
    Signature("str_slice", "str", ("str",), _tuple(st.integers(-5, 6), st.none() | st.integers(0, 5))),
    Signature("str_split_part", "str", ("str",), _tuple(st.sampled_from([",", "-", "ab", "é"]), st.integers(-3, 3))),
    Signature("str_extract", "str", ("str",), st.sampled_from([(r"(\w)-(\w)", 2), (r"[a-z]+", 0), (r"(a)|(b)", 1)])),
    Signature("concat", "str", ("str", "str", "str")),
    Signature("format", "str", ("str", "i64", "f64", "bool"), _format_params(4, [""])),
    Signature("format", "str", ("f64", "u64", "bool"), _format_params(3, ["", ".2f", ".0f", ".9f", ",", "d", "10"])),
    Signature("format", "str", (), _format_params(0, [""])),
    *(Signature("replace", "f64", (kind,), _mapping(kind, "f64")) for kind in _KINDS),
    *(Signature("replace_strict", "f64", (kind,), _mapping(kind, "f64")) for kind in _KINDS),
    Signature("replace_strict", "str", ("bool",), _mapping("bool", "str")),
    *(Signature("replace", kind, ("str", kind), _mapping("str", kind)) for kind in _KINDS),
    Signature("replace", "str", ("i64", "str"), _mapping("i64", "str")),
    *(Signature("is_in", "bool", (kind,), st.lists(values(kind), max_size=5).map(lambda x: (tuple(x),))) for kind in _KINDS),
    *(
        Signature(f"dt_{part}", "i64", ("time",))
        for part in ("year", "month", "day", "hour", "minute", "second", "millisecond", "weekday", "ordinal_day", "date")
    ),
    *(Signature(*signature) for signature in (*functions.SIGNATURES, *times.SIGNATURES)),
    Signature("dt_truncate", "i64", ("time",), st.sampled_from([(1,), (60_000,), (86_400_000,), (7,)])),
]


@st.composite
def trees(draw: st.DrawFn, builder: Builder, kind: str, depth: int) -> int:
    """Write an expression of a kind; return its instruction."""
    known = builder.known(kind)
    if known and draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(known))
    fitting = [signature for signature in SIGNATURES if signature.kind == kind]
    if depth == 0 or not fitting or draw(st.integers(0, 3)) == 0:
        return draw(leaves(builder, kind))
    return draw(applications(builder, draw(st.sampled_from(fitting)), depth))


@st.composite
def leaves(draw: st.DrawFn, builder: Builder, kind: str) -> int:
    result = {"time": "i64", "list": "str", "moment": "i64", "stamp": "str"}.get(kind, kind)
    if draw(st.integers(0, 3)) == 0:
        return builder.add("literal", result, params=(draw(values(kind)),))
    position = draw(st.sampled_from([i for i, column in enumerate(COLUMNS) if column == kind]))
    return builder.add("column", result, params=(position,))


@st.composite
def applications(draw: st.DrawFn, builder: Builder, signature: Signature, depth: int) -> int:
    args = tuple(draw(trees(builder, kind, depth - 1)) for kind in signature.args)
    return builder.add(signature.op, signature.kind, args, draw(signature.params))


def check(spec: ProgramSpec, record_batch: pa.RecordBatch, program: Program | None = None) -> None:
    """The program and the reference agree: on every value, or on there being a row that fails."""
    rows = list(zip(*(column.to_pylist() for column in record_batch.columns), strict=True))
    expected: list[list[Any]] = []
    refused: set[int] = set()
    for output in spec.outputs:
        expected.append([])
        for number, row in enumerate(rows):
            try:
                expected[-1].append(evaluate(spec, output, row))
            except Refused:
                refused.add(number)
    program = program or Program(spec)
    batch = PyBatch.from_arrow(record_batch)
    try:
        result = program.evaluate_batch(batch)
    except RecordError as error:
        assert error.row in refused, (error, spec)
        return
    assert not refused, (sorted(refused), spec)
    table = result.to_arrow([str(i) for i in range(len(spec.outputs))])
    table.validate(full=True)
    for column, wanted in zip(table.columns, expected, strict=True):
        found = column.to_pylist()
        assert len(found) == len(wanted)
        for number, (a, b) in enumerate(zip(found, wanted, strict=True)):
            assert same(a, b), (number, rows[number], a, b, spec)
