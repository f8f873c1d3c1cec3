"""docs/reference/expressions.md names every function there is, and every word of its table is there or says what to write."""

import inspect
import re
from pathlib import Path

import pytest

import streamdsl
from streamdsl import Stream, Topology, TopologyError, col, memory
from streamdsl.expr import Expr
from streamdsl.expr.lists import ListFunctions
from streamdsl.expr.structs import StructFunctions
from streamdsl.expr.text import StringFunctions
from streamdsl.expr.time import TimeFunctions

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "expressions.md").read_text()
FUNCTIONS = "col lit when format coalesce concat_str least greatest arctan2 haversine_km event_time row count".split()  # noqa: SIM905
OWNERS = {"": Expr, "str.": StringFunctions, "list.": ListFunctions, "struct.": StructFunctions, "dt.": TimeFunctions}


def first_line(function):
    return inspect.getdoc(function).splitlines()[0].replace("|", "\\|")


def signature(function):
    """Return the parameters without their types."""
    parts = []
    keyword = False
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            parts.append("*")
            keyword = True
        default = parameter.default
        shown = "…" if default is not parameter.empty and "not given" in repr(default) else repr(default)
        shown = "e" if parameter.name == "base" and isinstance(default, float) else shown
        parts.append(parameter.name if default is parameter.empty else f"{parameter.name}={shown}".replace("'", '"'))
    return ", ".join(parts)


def methods(owner):
    """Return the public methods of a class and its bases, in the order in which they are written."""
    found = {}
    for base in (owner, *owner.__mro__[1:-1]):
        for name, value in vars(base).items():
            if not name.startswith("_") and inspect.isfunction(value):
                found.setdefault(name, value)
    return found


def rows(prefix, owner):
    return [f"| `{prefix}{name}({signature(made)})` | {first_line(made)} |" for name, made in methods(owner).items()]


def listed():
    """Return the lines that the page must have, by heading."""
    functions = [f"| `{name}` | {first_line(getattr(streamdsl, name))} |" for name in FUNCTIONS]
    return {"Functions": functions, **{prefix or "Of a column": rows(prefix, owner) for prefix, owner in OWNERS.items()}}


@pytest.mark.parametrize("heading", listed())
def test_every_function_is_listed(heading):
    missing = [line for line in listed()[heading] if line not in PAGE]
    assert not missing


#: | Polars | here | ... |
WORDS = re.findall(r"^\| `([^`|]+)` \| `([^`|]+)` \|", PAGE.split("## Words of Polars")[1], re.M)


def test_there_is_a_table():
    assert len(WORDS) > 12


@pytest.mark.parametrize(("theirs", "ours"), WORDS)
def test_words_of_the_table(theirs, ours):
    """What stands under "here" can be written; a word of Polars that is not there says what to write."""
    values = {name: getattr(streamdsl, name) for name in streamdsl.__all__}
    stream = Topology("t").stream(memory("m", schema={"x": int, "y": int, "s": str, "d": "timestamp"}, rows=[]))
    assert isinstance(eval(ours, {**values, "x": col("x"), "y": col("y"), "s": col("s"), "d": col("d"), "stream": stream}), (Expr, Stream))  # noqa: S307
    owner, _, word = theirs.partition("(")[0].rpartition(".")
    known = {"x": col("x"), "s.str": col("s").str, "d.dt": col("d").dt, "s.list": col("s").list, "df": stream}.get(owner)
    if known is None or hasattr(type(known), word):
        return
    if isinstance(known, Stream):
        with pytest.raises(TopologyError):
            getattr(known, word)
        return
    assert not hasattr(known, word)
    with pytest.raises(TopologyError, match="write "):
        getattr(known, word)
