"""Calculations with aggregates: random topologies of 2 to 9 verbs against row-by-row Python.

The oracle knows expressions as Python functions of a row and of the rows of its key so far. It shares no code with the library.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Topology, col, count, expanding, memory, operator, tumbling

Row = dict[str, Any]
SCHEMA = {"k": str, "t": int, "a": int | None, "b": int | None}
HOUR = 3_600_000


@dataclass(frozen=True)
class Value:
    """An expression, and what it is for the last of the rows of a key."""

    expr: Any
    of: Callable[[list[Row]], Any]


def _sum(rows: list[Row], name: str) -> int:
    return sum(row[name] for row in rows if row[name] is not None)


def _some(rows: list[Row], name: str) -> list[int]:
    return [row[name] for row in rows if row[name] is not None]


def _nullable(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: None if any(arg is None for arg in args) else fn(*args)


def aggregates(name: str) -> list[Value]:
    """Return the aggregates of a column, over all rows so far."""
    return [
        Value(count(), len),
        Value(col(name).count(), lambda rows: len(_some(rows, name))),
        Value(col(name).sum(), lambda rows: _sum(rows, name)),
        Value(col(name).min(), lambda rows: min(_some(rows, name), default=None)),
        Value(col(name).max(), lambda rows: max(_some(rows, name), default=None)),
        Value(count().filter(col(name) > 0), lambda rows: sum(1 for value in _some(rows, name) if value > 0)),
        Value(col(name).last(), lambda rows: _some(rows, name)[-1] if _some(rows, name) else None),
    ]


def lag(name: str) -> Value:
    return Value(col(name).lag(), lambda rows: rows[-2][name] if len(rows) > 1 else None)


JOINS: list[tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = [
    (lambda x, y: x + y, _nullable(lambda x, y: x + y)),
    (lambda x, y: x - y, _nullable(lambda x, y: x - y)),
    (lambda x, y: x / y, _nullable(lambda x, y: None if y == 0 else x / y)),
    (lambda x, y: x > y, _nullable(lambda x, y: x > y)),
]
NUMBERS = JOINS[:2]


@st.composite
def computed(draw: st.DrawFn, names: list[str], *, framed: bool) -> Value:
    """Draw an aggregate, or a calculation with one to three of them."""
    name = draw(st.sampled_from(names))
    choices = aggregates(name) + ([lag(name)] if framed else [])
    value = draw(st.sampled_from(choices))
    for _ in range(draw(st.integers(0, 2))):
        others = [*choices, Value(950, lambda rows: 950), Value(col("k").cast(int), lambda rows: int(rows[-1]["k"]))]
        if framed:
            own = draw(st.sampled_from(names))
            others.append(Value(col(own), lambda rows, own=own: rows[-1][own]))
        other = draw(st.sampled_from(others))
        join, meant = draw(st.sampled_from(NUMBERS))
        left, right = (value, other) if draw(st.booleans()) else (other, value)
        value = Value(join(left.expr, right.expr), lambda rows, f=meant, x=left, y=right: f(x.of(rows), y.of(rows)))
    if draw(st.booleans()):
        join, meant = draw(st.sampled_from(JOINS[2:]))
        other = draw(st.sampled_from(choices))
        value = Value(join(value.expr, other.expr), lambda rows, f=meant, x=value, y=other: f(x.of(rows), y.of(rows)))
    return value


def by_key(rows: list[Row]) -> list[list[Row]]:
    """Return, for each row, the rows of its key up to it."""
    seen: dict[Any, list[Row]] = defaultdict(list)
    found = []
    for row in rows:
        seen[row["k"]].append(row)
        found.append(list(seen[row["k"]]))
    return found


@dataclass
class Job:
    """A stream under construction, and its rows by the oracle."""

    stream: Any
    rows: list[Row]
    names: list[str]
    state: int = 0

    def state_name(self) -> str:
        self.state += 1
        return f"s{self.state}"


def _is_true(value: Any) -> bool:
    return value is not None and bool(value)


def with_columns(draw: st.DrawFn, job: Job) -> None:
    values = {name: draw(computed(job.names, framed=True)) for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))}
    job.stream = job.stream.with_columns(name=job.state_name(), **{name: value.expr for name, value in values.items()})
    _replace(job, values)


def repeated(draw: st.DrawFn, job: Job) -> None:
    """An aggregate by its name, and calculations that repeat it in the same call."""
    one = draw(st.sampled_from([*aggregates(draw(st.sampled_from(job.names))), lag(job.names[0])]))
    own = job.names[0]
    values = {
        "c": one,
        "d": Value(col(own) - one.expr, lambda rows: _nullable(lambda x, y: x - y)(rows[-1][own], one.of(rows))),
    }
    job.stream = job.stream.with_columns(name=job.state_name(), **{name: value.expr for name, value in values.items()})
    _replace(job, values)


def _replace(job: Job, values: dict[str, Value]) -> None:
    made = [{name: value.of(rows) for name, value in values.items()} for rows in by_key(job.rows)]
    job.rows = [{**row, **new} for row, new in zip(job.rows, made, strict=True)]
    _keep_integers(job, values)


def _keep_integers(job: Job, values: dict[str, Value]) -> None:
    """Calculate on with integers alone: sums of floats depend on how they are added."""
    schema = job.stream.schema
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    job.names = [name for name in schema.names if kinds[name] == "int64" and name not in ("k", "t")]
    if not job.names:
        job.stream = job.stream.with_columns(a=col("t") % 7)
        job.rows = [{**row, "a": row["t"] % 7} for row in job.rows]
        job.names = ["a"]


def select(draw: st.DrawFn, job: Job) -> None:
    values = {name: draw(computed(job.names, framed=True)) for name in draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True))}
    exprs = {name: value.expr for name, value in values.items()}
    job.stream = job.stream.select("k", "t", name=job.state_name(), **exprs)
    made = [{name: value.of(rows) for name, value in values.items()} for rows in by_key(job.rows)]
    job.rows = [{"k": row["k"], "t": row["t"], **new} for row, new in zip(job.rows, made, strict=True)]
    _keep_integers(job, values)


@st.composite
def condition(draw: st.DrawFn, names: list[str]) -> Value:
    value = draw(computed(names, framed=True))
    other = draw(st.sampled_from(aggregates(names[0])))
    low = draw(st.integers(-3, 6))
    return Value(
        (value.expr.cast(float) > low) | (other.expr > low + 1),
        lambda rows: _or(_nullable(lambda x: float(x) > low)(value.of(rows)), _nullable(lambda x: x > low + 1)(other.of(rows))),
    )


def _or(x: bool | None, y: bool | None) -> bool | None:
    return True if x or y else None if x is None or y is None else False


def filter_(draw: st.DrawFn, job: Job) -> None:
    wanted = draw(condition(job.names))
    job.stream = job.stream.filter(wanted.expr, name=job.state_name())
    job.rows = [rows[-1] for rows in by_key(job.rows) if _is_true(wanted.of(rows))]


def branch(draw: st.DrawFn, job: Job) -> None:
    first, second = draw(condition(job.names)), draw(condition(job.names))
    parts = job.stream.branch(one=first.expr, two=second.expr, name=job.state_name())
    taken = draw(st.sampled_from(["one", "two", "other"]))
    job.stream = parts[taken]
    places = {
        "one": lambda rows: _is_true(first.of(rows)),
        "two": lambda rows: not _is_true(first.of(rows)) and _is_true(second.of(rows)),
        "other": lambda rows: not _is_true(first.of(rows)) and not _is_true(second.of(rows)),
    }
    job.rows = [rows[-1] for rows in by_key(job.rows) if places[taken](rows)]


def inside_operator(draw: st.DrawFn, job: Job) -> None:
    value = draw(computed(job.names, framed=True))

    @operator
    def adds(stream):
        return stream.with_columns(a=value.expr, name="inner")

    job.stream = job.stream.process(adds(), name=job.state_name())
    _replace(job, {"a": value})


STEPS = [with_columns, repeated, select, filter_, branch, inside_operator]


def aggregate(draw: st.DrawFn, job: Job) -> tuple[Any, list[Row]]:
    """End with a table or a window; return its rows and those of the oracle."""
    values = {name: draw(computed(job.names, framed=False)) for name in draw(st.lists(st.sampled_from("xyz"), min_size=1, unique=True))}
    exprs = {name: value.expr for name, value in values.items()}
    keyed = job.stream.key_by("k")
    if draw(st.booleans()):
        made = keyed.aggregate(name="end", **exprs)
        return made, [{"k": rows[-1]["k"], **{n: v.of(rows) for n, v in values.items()}} for rows in by_key(job.rows)]
    made = keyed.window(tumbling("1h")).aggregate(name="end", **exprs)
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in job.rows:
        groups[row["k"], row["t"] // HOUR].append(row)
    return made, [{"k": k, **{n: v.of(rows) for n, v in values.items()}} for (k, _), rows in groups.items()]


def _shown(rows: list[Row], names: list[str]) -> list[tuple[Any, ...]]:
    return sorted((tuple(_number(row[name]) for name in names) for row in rows), key=repr)


def _number(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value


numbers = st.none() | st.integers(-4, 9)
rows_of_keys = st.lists(
    st.builds(lambda k, a, b: {"k": k, "a": a, "b": b}, st.sampled_from(["1", "2"]), numbers, numbers), min_size=1, max_size=12
)


@settings(max_examples=200, deadline=None)
@given(st.data(), rows_of_keys)
def test_random_topologies(data: st.DataObject, rows: list[Row]) -> None:
    rows = [{**row, "t": i * 1_000_000} for i, row in enumerate(rows)]
    source = memory("in", schema=SCHEMA, rows=rows)
    stream = Topology("t").stream(source, timestamp="t")
    job = Job(stream.key_by("k").window(expanding()), list(rows), ["a", "b"])
    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=7)):
        step(data.draw, job)
    if data.draw(st.booleans()):
        made, expected = aggregate(data.draw, job)
    else:
        made, expected = job.stream, job.rows
    found = made.collect()
    names = [name for name in found.column_names if name not in ("op", "window_start", "window_end")]
    if expected:
        assert sorted(names) == sorted(expected[0])
    assert _shown(found.to_pylist(), names) == _shown(expected, names)
