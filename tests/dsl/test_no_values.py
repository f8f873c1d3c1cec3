"""What Python can ask of a value, asked of what has none before it runs: an error that says what to write."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from streamdsl import Topology, TopologyError, col, count, format, lit, memory, tumbling, when
from streamdsl._native.rows.row import row_of
from streamdsl.schema import Schema

SCHEMA = {"k": str, "x": int}


def expressions() -> dict[str, Any]:
    return {"column": col("x"), "aggregate": col("x").sum(), "literal": lit(3), "choice": when(col("x") > 1).then(2), "count": count()}


def unfinished() -> dict[str, Any]:
    return {"when": when(col("x") > 1), "str": col("k").str, "dt": col("x").dt, "list": col("x").list, "struct": col("x").struct}


def streams() -> dict[str, Any]:
    topology = Topology("t")
    stream = topology.stream(memory("m", schema=SCHEMA))
    keyed = stream.key_by("k")
    table = topology.table(memory("n", schema=SCHEMA), key="k")
    return {
        "stream": stream,
        "keyed": keyed,
        "window": keyed.window(tumbling("1s")),
        "connected": keyed.connect(keyed),
        "table": table,
        "grouped": table.group_by("x"),
    }


def loop(value: Any) -> None:
    for _ in value:
        pass


def unpack(value: Any) -> None:
    _, _ = value


ASKED: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "not": operator.not_,
    "and": lambda value: value and value,
    "len": len,
    "item": lambda value: value[0],
    "name": lambda value: value["x"],
    "slice": lambda value: value[1:2],
    "set": lambda value: operator.setitem(value, "x", 1),
    "del": lambda value: operator.delitem(value, "x"),
    "iter": iter,
    "for": loop,
    "list": list,
    "unpack": unpack,
    "star": lambda value: [*value],
    "reversed": reversed,
    "in": lambda value: "a" in value,
    "float": float,
    "int": int,
    "complex": complex,
    "index": lambda value: [1, 2][value],
    "range": range,
    "round": round,
    "round to": lambda value: round(value, 2),
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "sqrt": math.sqrt,
    "divmod": lambda value: divmod(value, 2),
    "matmul": lambda value: value @ value,
    "shift": lambda value: value << 1,
    "xor": lambda value: value ^ True,
    "format": lambda value: f"{value:.2f}",
    "max": lambda value: max(value, value),
    "sorted": lambda value: sorted([value, value]),
}
ARITHMETIC: dict[str, Callable[[Any], Any]] = {
    "add": lambda value: value + 1,
    "radd": lambda value: 1 + value,
    "sum": lambda value: sum([value, value]),
    "neg": operator.neg,
    "invert": operator.invert,
    "abs": abs,
    "less": lambda value: value < 3,
    "or": lambda value: value | True,
}


def told(value: Any, ask: Callable[[Any], Any], *, remedy: bool = True) -> TopologyError:
    with pytest.raises(TopologyError) as caught:
        ask(value)
    if remedy:
        assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("question", ASKED)
@pytest.mark.parametrize("kind", ["column", "aggregate", "literal", "choice", "count"])
def test_expressions(kind: str, question: str) -> None:
    value = expressions()[kind]
    error = told(value, ASKED[question])
    # A protocol that expects a TypeError gets one.
    assert isinstance(error, TypeError)
    assert repr(value) in str(error) or question in ("max", "sorted")


@pytest.mark.parametrize("question", {**ASKED, **ARITHMETIC})
@pytest.mark.parametrize("kind", ["when", "str", "dt", "list", "struct"])
def test_what_is_not_an_expression_yet(kind: str, question: str) -> None:
    error = told(unfinished()[kind], {**ASKED, **ARITHMETIC}[question])
    assert "not an expression yet" in str(error)


@pytest.mark.parametrize("kind", ["when", "str", "dt", "list", "struct"])
def test_what_is_not_an_expression_yet_is_equal_to_nothing(kind: str) -> None:
    told(unfinished()[kind], lambda value: value == "a")
    told(unfinished()[kind], lambda value: value != "a")


@pytest.mark.parametrize("question", {**ASKED, **ARITHMETIC})
@pytest.mark.parametrize("kind", ["stream", "keyed", "window", "connected", "table", "grouped"])
def test_streams_and_tables(kind: str, question: str) -> None:
    error = told(streams()[kind], {**ASKED, **ARITHMETIC}[question])
    assert isinstance(error, TypeError)


@pytest.mark.parametrize("kind", ["stream", "keyed", "window", "connected", "table", "grouped"])
def test_streams_are_values(kind: str) -> None:
    value = streams()[kind]
    assert copy.deepcopy(value) is value
    assert copy.copy(value) is value
    assert value == value
    assert {value: 1}[value] == 1
    told(value, pickle.dumps)
    error = told(value, lambda value: setattr(value, "total", col("x") * 2))
    assert "with_columns" in str(error)


def test_a_topology_is_no_value_either() -> None:
    topology = Topology("t")
    assert topology  # "is there one?" is asked of what may be None
    for ask in (len, iter, copy.copy, copy.deepcopy, pickle.dumps, lambda value: value["x"]):
        told(topology, ask)


def test_no_question_hides_what_works() -> None:
    assert repr(abs(col("x"))) == 'abs(col("x"))'
    assert f"{col('x')}" == str(col("x"))
    assert repr(format("{}", col("x"))) != ""
    assert not hasattr(col("x"), "shape")
    assert copy.deepcopy(col("x")) is not None


def test_rows_are_mappings_that_do_not_change() -> None:
    row = row_of(Schema.of(SCHEMA), {"k": "a", "x": 1})
    assert row | {"x": 2, "y": 3} == {"k": "a", "x": 2, "y": 3}
    assert {"x": 0, "y": 3} | row == {"k": "a", "x": 1, "y": 3}
    assert list(reversed(row)) == ["x", "k"]
    changes: list[tuple[type[Exception], Callable[[Any], Any]]] = [
        (TypeError, lambda row: operator.setitem(row, "x", 2)),
        (TypeError, lambda row: operator.delitem(row, "x")),
        (AttributeError, lambda row: setattr(row, "x", 2)),
        (AttributeError, lambda row: delattr(row, "x")),
        (AttributeError, lambda row: row.update(x=2)),
        (AttributeError, lambda row: row.pop("x")),
    ]
    for kind, change in changes:
        with pytest.raises(kind, match="a row cannot be changed"):
            change(row)
