"""Random expressions, on Flink and here: equal, or refused by name."""

from __future__ import annotations

import datetime
import decimal
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from streamdsl import (
    Config,
    ConnectorError,
    Expr,
    Topology,
    TopologyError,
    coalesce,
    col,
    concat_str,
    format,
    greatest,
    kafka,
    least,
    lit,
    memory,
    when,
)
from tests.flink.compare import alike, run_on_flink, written_json

__all__ = ["SCHEMA", "Found", "differences", "expression", "rows", "run_batch"]

#: Columns of one query: Flink compiles its expressions together, and the time that its code splitter takes rises with the square of them.
_COLUMNS_OF_A_SINK: Final = 25
_TEXT_OF_A_SINK: Final = 12_000
_COLUMNS_OF_A_JOB: Final = 100
#: What ends a job by name: such values are known when they come.
_REFUSED_THERE: Final = "too large to be written with all its digits"

SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        *((name, pa.int64()) for name in ("i", "j")),
        ("n", pa.int32()),
        *((name, pa.float64()) for name in ("x", "y")),
        ("b", pa.bool_()),
        *((name, pa.string()) for name in ("s", "t")),
        ("m", pa.timestamp("ms", tz="UTC")),
        ("d", pa.date32()),
        ("p", pa.decimal128(12, 2)),
        ("q", pa.decimal128(9, 3)),
        ("f", pa.float32()),
    ]
)
_WHOLE: Final = [0, 1, -1, 2, 3, 7, -7, 60, 100, 1000, 2**31, -(2**31), 2**53, 2**62, 2**63 - 1, -(2**63) + 1, 86_400_000]
_FLOATS: Final = [0.0, 1.0, -1.0, 0.5, -0.5, 2.675, 41243.645, 1.005, 2.5, 3.5, 1e-3, 123456.789, 1e6, -1e6, 1e15, 0.1, 1 / 3]
_TEXTS: Final = [
    "",
    "a",
    "ab",
    "abc",
    "a-b-c",
    " ab ",
    "Äb",
    "ß",
    "12",
    " -7 ",
    "1.5",
    "x1y22z",
    "true",
    "False",
    "a,b,,c",
    "😀b",
    "\n",
    "a\nb",
    "'",
]


def rows(rnd: random.Random, count: int = 40) -> list[dict[str, Any]]:
    """Rows of all types, a seventh of the values missing."""

    def some(make: Callable[[], Any]) -> Any:
        return None if rnd.randrange(7) == 0 else make()

    def moment() -> str:
        ms = rnd.choice([0, -1, -1501, 1_436_918_360_123, rnd.randrange(-(10**13), 10**14)])
        found = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
        return found.isoformat(timespec="milliseconds") + "Z"

    return [
        {
            "id": number,
            "i": some(lambda: rnd.choice([rnd.choice(_WHOLE), rnd.randrange(-100, 100)])),
            "j": some(lambda: rnd.choice([rnd.choice(_WHOLE), rnd.randrange(-10, 10)])),
            "n": some(lambda: rnd.choice([0, 5, -5, 2**31 - 1, -(2**31), rnd.randrange(-1000, 1000)])),
            "x": some(lambda: rnd.choice([rnd.choice(_FLOATS), rnd.uniform(-1000, 1000), rnd.randrange(-400, 400) / 8])),
            "y": some(lambda: rnd.choice([rnd.choice(_FLOATS), rnd.uniform(-5, 5)])),
            "b": some(lambda: rnd.random() < 0.5),
            "s": some(lambda: rnd.choice(_TEXTS)),
            "t": some(lambda: rnd.choice(_TEXTS)),
            "m": some(moment),
            "d": some(lambda: moment()[:10]),
            "p": some(lambda: rnd.randrange(-(10**6), 10**6) / 100),
            "q": some(lambda: rnd.choice([0.0, 1.5, rnd.randrange(-(10**5), 10**5) / 1000])),
            "f": some(lambda: rnd.randrange(-4000, 4000) / 16),
        }
        for number in range(count)
    ]


def expression(rnd: random.Random, kind: str, depth: int) -> Expr:
    """Return an expression of a kind: whole, float, bool, text, time or date."""
    if depth == 0 or rnd.randrange(6) == 0:
        return _leaf(rnd, kind)
    return rnd.choice(_MAKERS[kind])(rnd, depth - 1)


def _leaf(rnd: random.Random, kind: str) -> Expr:
    if kind in _COLUMNS and rnd.randrange(4):
        return col(rnd.choice(_COLUMNS[kind]))
    if kind == "whole":
        return lit(rnd.choice([*_WHOLE, rnd.randrange(-9, 9)]))
    if kind == "float":
        return lit(rnd.choice(_FLOATS))
    if kind == "bool":
        return lit(rnd.random() < 0.5)
    return lit(rnd.choice(_TEXTS)) if kind == "text" else col(_COLUMNS[kind][0])


_COLUMNS: Final = {
    "whole": ["i", "j", "n"],
    "float": ["x", "y", "f"],
    "bool": ["b"],
    "text": ["s", "t"],
    "time": ["m"],
    "date": ["d"],
    "decimal": ["p", "q"],
}
Maker = Callable[[random.Random, int], Expr]


def _e(kind: str) -> Maker:
    return lambda rnd, depth: expression(rnd, kind, depth)


def _of(kinds: str, build: Callable[..., Expr]) -> Maker:
    """Build of expressions of the kinds named, with the random source as first argument where the function takes one more."""
    names = kinds.split()

    def make(rnd: random.Random, depth: int) -> Expr:
        parts = [expression(rnd, name, depth) for name in names]
        code = getattr(build, "__code__", None)
        wants_source = code is not None and code.co_argcount == len(parts) + 1
        return build(rnd, *parts) if wants_source else build(*parts)

    return make


_PATTERNS: Final = [r"[a-z]+", r"\d+", r"^a", r"b$", r"(a)-(b)", r"\w", r"x|y", r"\s", r"a.b", r"[^a-c]", r"(?i)A"]
_FORMATS: Final = ["%Y-%m-%d", "%H:%M:%S", "%d.%m.%y T", "%Y%m%dT%H%M%S%.3f", "%B", "%F %T"]


def _choice(kind: str) -> list[Maker]:
    return [
        _of(f"bool {kind} {kind}", lambda a, b, c: when(a).then(b).otherwise(c)),
        _of(f"bool {kind} bool {kind}", lambda a, b, c, d: when(a).then(b).when(c).then(d)),
        _of(f"{kind} {kind}", coalesce),
        _of(f"{kind} {kind}", lambda a, b: a.fill_null(b)),
    ]


_ANY: Final = ["whole", "float", "text", "time", "date", "bool"]


def _compared(rnd: random.Random, depth: int) -> Expr:
    kind = rnd.choice(["whole", "float", "text", "time", "date", "decimal"])
    a, b = expression(rnd, kind, depth), expression(rnd, kind, depth)
    return rnd.choice([lambda: a == b, lambda: a != b, lambda: a < b, lambda: a <= b, lambda: a > b, lambda: a >= b])()


def _null_test(rnd: random.Random, depth: int) -> Expr:
    value = expression(rnd, rnd.choice(_ANY), depth)
    return value.is_null() if rnd.random() < 0.5 else value.is_not_null()


_MAKERS: Final[dict[str, list[Maker]]] = {
    "whole": [
        *[_of("whole whole", lambda a, b: a + b), _of("whole whole", lambda a, b: a - b), _of("whole whole", lambda a, b: a * b)],
        *[_of("whole whole", lambda a, b: a // b), _of("whole whole", lambda a, b: a % b)],
        *[_of("whole", lambda rnd, a: a // rnd.choice([1, 2, 7, -3, 1000])), _of("whole", lambda rnd, a: a % rnd.choice([2, 7, -3]))],
        *[_of("whole", lambda a: -a), _of("whole", abs), _of("whole", lambda a: a**2), _of("whole", lambda a: a.sign())],
        *[_of("float", lambda a: a.cast(int)), _of("float", lambda a: a.cast(int, strict=False)), _of("bool", lambda a: a.cast(int))],
        *[_of("text", lambda a: a.str.len_chars()), _of("text", lambda a: a.cast(int)), _of("text", lambda a: a.cast(int, strict=False))],
        *[_of("whole", lambda a: a.cast("int32")), _of("whole", lambda a: a.cast("int16", strict=False))],
        *[_of("whole whole", least), _of("whole whole", greatest)],
        *[_of("time", lambda a: a.dt.year()), _of("time", lambda a: a.dt.month()), _of("time", lambda a: a.dt.day())],
        *[_of("time", lambda a: a.dt.hour()), _of("time", lambda a: a.dt.minute()), _of("time", lambda a: a.dt.second())],
        *[_of("time", lambda a: a.dt.millisecond()), _of("time", lambda a: a.dt.weekday()), _of("time", lambda a: a.dt.ordinal_day())],
        *[_of("time", lambda a: a.dt.epoch("ms")), _of("time", lambda a: a.dt.quarter()), _of("date", lambda a: a.dt.year())],
        *[_of("time time", lambda a, b: a - b), _of("text", lambda rnd, a: a.str.count_matches(rnd.choice(_PATTERNS)))],
        *[
            _of("time", lambda a: a.dt.week()),
            _of("whole", lambda a: a.replace({1: 2, 7: 0})),
            _of("whole whole", lambda a, b: a.clip(b, 100)),
        ],
        *[_of("time", lambda a: a.dt.days_in_month()), _of("time", lambda a: a.dt.iso_year()), _of("date", lambda a: a.dt.days_in_month())],
        *[_of("text", lambda a: a.str.split("-").list.len()), _of("decimal", lambda a: a.cast(int)), _of("decimal", lambda a: a.sign())],
        *_choice("whole"),
    ],
    "float": [
        *[_of("float float", lambda a, b: a + b), _of("float float", lambda a, b: a - b), _of("float float", lambda a, b: a * b)],
        *[_of("float float", lambda a, b: a / b), _of("whole whole", lambda a, b: a / b), _of("float whole", lambda a, b: a + b)],
        *[_of("float", lambda a: -a), _of("float", abs), _of("float", lambda a: a.sqrt()), _of("float", lambda a: a.floor())],
        *[
            _of("float", lambda a: a.ceil()),
            _of("float", lambda a: a.log()),
            _of("float", lambda a: a.log10()),
            _of("float", lambda a: a.sin()),
        ],
        *[
            _of("float", lambda a: a.round(0)),
            _of("float", lambda rnd, a: a.round(rnd.randrange(1, 6))),
            _of("float", lambda a: a.arcsin()),
            _of("whole", lambda a: a.cast(float)),
        ],
        *[_of("float", lambda a: a**2), _of("float float", least), _of("float float", greatest)],
        *[_of("float", lambda a: a.radians()), _of("text", lambda a: a.cast(float, strict=False)), _of("float", lambda a: a.arctan())],
        *[
            _of("decimal", lambda a: a.cast(float)),
            _of("bool", lambda a: a.cast(float)),
            _of("float", lambda a: a.fill_nan(1.5)),
            _of("float", lambda a: a.sign()),
        ],
        *_choice("float"),
    ],
    "bool": [
        _compared,
        _compared,
        _null_test,
        *[_of("bool bool", lambda a, b: a & b), _of("bool bool", lambda a, b: a | b), _of("bool", lambda a: ~a)],
        *[_of("text text", lambda a, b: a.str.contains(b, literal=True)), _of("text text", lambda a, b: a.str.starts_with(b))],
        *[_of("text text", lambda a, b: a.str.ends_with(b)), _of("text", lambda rnd, a: a.str.contains(rnd.choice(_PATTERNS)))],
        *[_of("whole", lambda a: a.is_in([1, 2, 7])), _of("text", lambda a: a.is_in(["a", "ab"])), _of("float", lambda a: a.is_nan())],
        *[_of("float", lambda a: a.is_finite()), _of("whole", lambda a: a.cast(bool)), _of("text", lambda a: a.cast(bool, strict=False))],
        *[_of("whole whole whole", lambda a, b, c: a.is_between(b, c)), _of("text", lambda a: a.is_in([]))],
        *[_of("time", lambda a: a.dt.is_leap_year()), _of("text text", lambda a, b: a.str.split(",").list.contains(b))],
        *_choice("bool"),
    ],
    "text": [
        *[_of("text text", lambda a, b: a + b), _of("text", lambda a: a.str.to_uppercase()), _of("text", lambda a: a.str.to_lowercase())],
        *[
            _of("text", lambda rnd, a: a.str.slice(rnd.randrange(0, 4), rnd.choice([None, 0, 1, 3]))),
            _of("text", lambda a: a.str.slice(-2)),
        ],
        *[_of("text", lambda rnd, a: a.str.head(rnd.randrange(-3, 4))), _of("text", lambda rnd, a: a.str.tail(rnd.randrange(-3, 4)))],
        *[
            _of("text", lambda a: a.str.strip_chars()),
            _of("text", lambda a: a.str.strip_chars("ab]^-")),
            _of("text", lambda a: a.str.strip_chars_end("c")),
        ],
        *[
            _of("text", lambda a: a.str.strip_prefix("a")),
            _of("text", lambda a: a.str.strip_suffix("c")),
            _of("text", lambda a: a.str.reverse()),
        ],
        *[_of("text", lambda a: a.str.pad_start(5, "*")), _of("text", lambda a: a.str.pad_end(4)), _of("whole", lambda a: a.cast(str))],
        *[
            _of("text text", lambda a, b: a.str.replace("a", b, literal=True)),
            _of("text text", lambda a, b: a.str.replace_all("b", b, literal=True)),
        ],
        *[_of("text", lambda rnd, a: a.str.replace_all(rnd.choice(_PATTERNS), "<>")), _of("text", lambda a: a.str.split_part("-", 1))],
        *[
            _of("text", lambda a: a.str.split_part(",", 0)),
            _of("text", lambda a: a.str.extract(r"([a-z])(\d+)", 2)),
            _of("decimal", lambda a: a.cast(str)),
            _of("bool", lambda a: a.cast(str)),
        ],
        *[
            _of("text text", lambda a, b: concat_str(a, b, separator="-")),
            _of("text text", lambda a, b: concat_str(a, b, separator="+", ignore_nulls=True)),
        ],
        *[
            _of("whole float text", lambda a, b, c: format("{} {:.2f} <{}>", a, b, c)),
            _of("float", lambda a: format("{:.1f}|{:.0f}", a, a)),
        ],
        *[
            _of("time", lambda rnd, a: a.dt.strftime(rnd.choice(_FORMATS))),
            _of("time", lambda a: a.cast(str)),
            _of("date", lambda a: a.cast(str)),
        ],
        *[
            _of("text", lambda rnd, a: a.str.split("-").list.get(rnd.randrange(-2, 3), null_on_oob=True)),
            _of("text", lambda a: a.str.split(",").list.join("+")),
        ],
        *[_of("text", lambda a: a.replace({"a": "b", "ab": ""})), _of("text", lambda a: a.replace_strict({"a": "z"}, default=None))],
        *_choice("text"),
    ],
    "time": [
        *[
            _of("time", lambda rnd, a: a + datetime.timedelta(milliseconds=rnd.randrange(-(10**9), 10**9))),
            _of("time", lambda a: a.dt.truncate("1h")),
        ],
        *[
            _of("time", lambda a: a.dt.truncate("1d")),
            _of("time time", greatest),
            _of("time", lambda rnd, a: a.dt.offset_by(rnd.choice(["1d2h", "1mo", "-7mo", "1y2d", "-1mo3h"]))),
            _of("time", lambda rnd, a: a.dt.truncate(rnd.choice(["1w", "2w", "1mo", "1q", "1y", "5mo"]))),
            _of("time", lambda a: a.dt.month_start()),
            _of("time", lambda a: a.dt.month_end()),
        ],
        *_choice("time"),
    ],
    "decimal": [
        *[
            _of("decimal decimal", lambda a, b: a + b),
            _of("decimal decimal", lambda a, b: a - b),
            _of("decimal decimal", lambda a, b: a * b),
        ],
        *[
            _of("decimal", lambda a: -a),
            _of("decimal", abs),
            _of("decimal", lambda a: a + 1),
            _of("decimal", lambda rnd, a: a.round(rnd.randrange(3))),
        ],
        *[_of("decimal decimal", lambda a, b: a / b), _of("decimal", lambda rnd, a: a / rnd.choice([2, 3, 7, -40]))],
        *[_of("decimal", lambda a: a.floor()), _of("decimal", lambda a: a.ceil())],
        *_choice("decimal"),
    ],
    "date": [_of("time", lambda a: a.dt.date()), *_choice("date")],
}


@dataclass
class Found:
    """What comparing random expressions has shown: how many were equal or refused by name, and those that were not equal."""

    equal: int = 0
    refused: int = 0
    different: list[str] = field(default_factory=list)


def run_batch(url: str, seed: int, count: int, directory: Path) -> Found:
    """Compare `count` expressions of a seed."""
    rnd = random.Random(seed)
    given = rows(rnd)
    taken: dict[str, Expr] = {}
    found = Found()
    while count:
        made = _bound(rnd)
        if made is None:
            continue
        count -= 1
        if _translated(made):
            taken[f"e{count}"] = made
        else:
            found.refused += 1
    for places in itertools.count():
        names = list(taken)[places * _COLUMNS_OF_A_JOB : (places + 1) * _COLUMNS_OF_A_JOB]
        if not names:
            return found
        _count_in(found, {name: taken[name] for name in names}, given, url, directory / f"expressions-{seed}-{places}")


def _count_in(found: Found, made: Mapping[str, Expr], given: list[dict[str, Any]], url: str, directory: Path) -> None:
    """Compare expressions in one job; where it fails, each half in one of its own, to name what it failed for."""
    try:
        different = differences(made, given, url, directory)
    except ConnectorError as error:
        names = list(made)
        if len(names) > 1:
            for half, part in enumerate((names[::2], names[1::2])):
                _count_in(found, {name: made[name] for name in part}, given, url, directory.with_name(f"{directory.name}.{half}"))
        elif _REFUSED_THERE in str(error):
            found.refused += 1
        else:
            found.different.append(f"{made[names[0]]!r}: {error}")
        return
    found.different += different.values()
    found.equal += len(made) - len(different)


def differences(made: Mapping[str, Expr], given: list[dict[str, Any]], url: str, directory: Path) -> dict[str, str]:
    """Compute expressions for rows here and on a Flink; return what is not equal, by their names."""
    directory.mkdir()
    here = _computed(made, given)
    # A row that an expression refuses is left to another test: there the job must fail.
    marks = {row["id"]: "".join("y" if row["id"] in here[name] else "n" for name in made) for row in given}
    source = written_json(directory / "rows.jsonl", [{**row, "marks": marks[row["id"]]} for row in given])
    topology = Topology("expressions")
    columns = {name: when(col("marks").str.slice(place, 1) == "y").then(_wide(one)) for place, (name, one) in enumerate(made.items())}
    stream = topology.stream(memory("rows", schema=SCHEMA.append(pa.field("marks", pa.string()))))
    sinks = []
    for number, names in enumerate(_queries(made)):
        sinks.append(f"out{number}")
        stream.select("id", **{name: columns[name] for name in names}).to(memory(sinks[-1]))
    there: dict[int, dict[str, Any]] = {row["id"]: {} for row in given}
    for part in run_on_flink(url, topology, {"rows": source}, tuple(sinks), directory, parallelism=1).values():
        assert sorted(row["id"] for row in part) == sorted(there)
        for row in part:
            there[row["id"]] |= row
    return {name: said for name, one in made.items() if (said := _difference(name, one, here[name], there))}


def _queries(made: Mapping[str, Expr]) -> list[list[str]]:
    """Return the names of the expressions that stand in one query."""
    found: list[list[str]] = []
    text = _TEXT_OF_A_SINK
    for name, one in made.items():
        size = len(_translated(one))
        if text + size > _TEXT_OF_A_SINK or len(found[-1]) == _COLUMNS_OF_A_SINK:
            found.append([])
            text = 0
        found[-1].append(name)
        text += size
    return found


def _difference(name: str, made: Expr, here: dict[int, Any], there: dict[int, dict[str, Any]]) -> str:
    for number, row in there.items():
        ours, theirs = here.get(number), row.get(name)
        try:
            alike([{"v": ours}], [{"v": theirs}])
        except AssertionError:
            return f"{made!r} of row {number}: here {ours!r}, on Flink {theirs!r}"
    return ""


def _wide(made: Expr) -> Expr:
    """Return a float32 as a float: in JSON Flink writes the digits of its own size."""
    stream = Topology("t").stream(memory("rows", schema=SCHEMA)).select(v=made)
    return made.cast(float) if stream.schema.field("v").type == pa.float32() else made


def _bound(rnd: random.Random) -> Expr | None:
    made = expression(rnd, rnd.choice(["whole", "whole", "float", "bool", "text", "text", "time", "date", "decimal"]), rnd.randrange(1, 4))
    try:
        Topology("t").stream(memory("rows", schema=SCHEMA)).select(v=made)
    except TopologyError:
        return None
    return made


def _translated(made: Expr) -> str:
    """Return it as Flink has it; nothing if it is refused by name."""
    topology = Topology("t")
    topology.stream(kafka("rows", SCHEMA, broker="b:1")).select(v=made).to(kafka("out", broker="b:1"))
    try:
        job = topology.to_flink()
    except TopologyError as error:
        assert "cannot run on Flink" in str(error)
        return ""
    return "".join(one.text for one in job.statements if one.kind in ("view", "insert"))


def _computed(made: Mapping[str, Expr], given: list[dict[str, Any]]) -> dict[str, dict[int, Any]]:
    """Return the value of each expression by row, without the rows for which it is an error."""
    topology = Topology("t")
    stream = topology.stream(memory("rows", schema=SCHEMA))
    outputs = {name: memory(name) for name in made}
    for name, one in made.items():
        stream.select("id", v=_wide(one), errors="skip").to(memory(name))
    typed = [{**row, "m": _moment(row["m"]), "d": _day(row["d"]), **{name: _exact(row[name]) for name in ("p", "q")}} for row in given]
    topology.run(Config(state_backend="memory"), bind={"rows": memory("rows", schema=SCHEMA, rows=typed), **outputs})
    return {name: {row["id"]: row["v"] for row in output.table().to_pylist()} for name, output in outputs.items()}


def _moment(text: str | None) -> datetime.datetime | None:
    return None if text is None else datetime.datetime.fromisoformat(text)


def _day(text: str | None) -> datetime.date | None:
    return None if text is None else datetime.date.fromisoformat(text)


def _exact(value: float | None) -> decimal.Decimal | None:
    return None if value is None else decimal.Decimal(str(value))
