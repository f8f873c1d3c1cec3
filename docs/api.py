"""The API reference: pages of Markdown from the docstrings of public names, and links to them."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

#: What each page of the reference shows: "module:name" outside `streamdsl` itself.
PAGES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "topology": (
        "Topologies and runs",
        "Where a topology begins, how it runs, and what a run tells.",
        ("Topology", "Config", "streamdsl.launch:Run", "streamdsl.runtime.state_table:StateTable"),
    ),
    "stream": ("Streams", "Rows that flow, and the verbs that need no key.", ("Stream",)),
    "keyed-stream": (
        "Keyed streams",
        "Rows by key, and the verbs that keep state for each key. A keyed stream has all verbs of a [stream](stream.md), too.",
        ("KeyedStream", "streamdsl.dsl.keyed:ConnectedStreams"),
    ),
    "windowed-stream": (
        "Windows and frames",
        "Which records belong together, and what is made of those of a window.",
        (
            *("WindowedStream", "tumbling", "hopping", "sliding", "session", "count_window"),
            *("rolling", "expanding", "throttle"),
        ),
    ),
    "table": ("Tables", "One row for each key, that changes.", ("Table", "streamdsl.dsl.regrouping:GroupedTable")),
    "expr": (
        "Expressions",
        "One column, computed. [Expressions](expressions.md) lists all functions on one page.",
        (
            *("Expr", "col", "lit", "when", "streamdsl.expr.functions:When", "streamdsl.expr.functions:Then", "coalesce"),
            *("format", "concat_str", "least", "greatest", "arctan2", "haversine_km", "event_time", "row"),
        ),
    ),
    "expr-numbers": ("Functions of numbers", "Methods of an expression of numbers.", ("streamdsl.expr.numbers:NumberFunctions",)),
    "expr-str": ("Functions of strings: .str", '`col("city").str.…`', ("streamdsl.expr.text:StringFunctions",)),
    "expr-dt": ("Functions of time: .dt", '`col("at").dt.…`', ("streamdsl.expr.time:TimeFunctions",)),
    "expr-nested": (
        "Functions of lists and structs: .list, .struct",
        '`col("tags").list.…` and `col("address").struct.…`',
        ("streamdsl.expr.lists:ListFunctions", "streamdsl.expr.structs:StructFunctions"),
    ),
    "aggregates": (
        "Aggregates",
        "What the records of a key, a window or a frame are summed up to.",
        ("count", "streamdsl.expr.aggregates:AggregateFunctions", "Aggregate"),
    ),
    "processor": (
        "Operators of your own",
        "Functions of streams, classes in Python with state and timers, and native code.",
        (
            *("operator", "Processor", "TwoInputProcessor", "native"),
            "streamdsl.processor:Context",
            *(f"streamdsl.state:{name}" for name in ("State", "ValueState", "ListState", "MapState")),
            *(f"streamdsl.processor:{name}" for name in ("Timer", "WindowBounds", "Row", "Metrics", "Counter", "Gauge")),
        ),
    ),
    "connectors": (
        "Sources and sinks",
        "What a topology reads and writes, and where bad records go.",
        ("memory", "files", "kafka", "postgres", "redis", "http", "delta", "console", "dead_letter"),
    ),
    "schema": ("Schemas and secrets", "Columns and their types; texts that nothing shows.", ("Schema", "Field", "Secret")),
    "errors": (
        "Errors",
        "One tree; each class says whose fault it is.",
        (
            *("StreamError", "TopologyError", "ConfigError", "UserCodeError", "DataError", "ConnectorError", "StateError"),
            "InternalError",
        ),
    ),
    "testing": (
        "Testing",
        "What topologies are tested with: `from streamdsl.testing import …`.",
        (
            *(
                f"streamdsl.testing:{name}"
                for name in ("TopologyTestDriver", "evaluate", "assert_invariant", "Promise", "Simulation", "reference")
            ),
            *(f"streamdsl.testing.strategies:{name}" for name in ("streams", "keyed_rows", "values", "cuts")),
        ),
    ),
}
#: What a class is called where its methods are: `.str` is how a user meets `StringFunctions`.
SHOWN: Final = {
    "NumberFunctions": "Expr",
    "AggregateFunctions": "Expr",
    "StringFunctions": "Expr.str",
    "TimeFunctions": "Expr.dt",
    "ListFunctions": "Expr.list",
    "StructFunctions": "Expr.struct",
}
#: What the examples take for granted.
IMPORTS: Final = """from datetime import date, datetime
from streamdsl import *
from streamdsl.testing import *"""
#: Variables of the guide, and what they are.
VARIABLES: Final = {
    "topology": ("Topology",),
    "stream": ("Stream", "KeyedStream"),
    "table": ("Table",),
    "run": ("Run",),
    "driver": ("TopologyTestDriver",),
    "ctx": ("Context",),
    "ctx.state": ("State",),
}
SECTIONS: Final = ("Parameters", "Returns", "Raises", "Attributes", "Notes", "Examples")


@dataclass(frozen=True)
class Entry:
    """A public name, or a method: `owner` is the class it belongs to, "" of a name by itself."""

    page: str
    owner: str
    name: str
    thing: Any

    @property
    def title(self) -> str:
        """How a reader knows it."""
        return f"{SHOWN.get(self.owner, self.owner)}.{self.name}" if self.owner else SHOWN.get(self.name, self.name)

    @property
    def anchor(self) -> str:
        """Where it stands on its page."""
        return re.sub(r"[^A-Za-z0-9_]+", "-", self.title)


def found(path: str) -> Any:
    """Return what "module:name" names."""
    module, _, name = path.rpartition(":")
    return getattr(importlib.import_module(module or "streamdsl"), name)


def methods(owner: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class and its bases here; those of a base with a place of its own are there."""
    elsewhere = {base for page in owner.__mro__[1:] if page.__name__ in _OWN_PAGE for base in page.__mro__}
    seen = set[str]()
    for base in owner.__mro__:
        if not base.__module__.startswith("streamdsl") or base in elsewhere:
            continue
        for name, value in vars(base).items():
            documented = isinstance(value, (property, classmethod, staticmethod)) or inspect.isfunction(value)
            if not name.startswith("_") and documented and name not in seen:
                seen.add(name)
                yield name, value


_OWN_PAGE: Final = frozenset(path.rpartition(":")[2] for _, _, paths in PAGES.values() for path in paths)


def entries() -> list[Entry]:
    """Return all that the reference shows, in its order."""
    made = []
    for page, (_, _, paths) in PAGES.items():
        for path in paths:
            thing, name = found(path), path.rpartition(":")[2]
            made.append(Entry(page, "", name, thing))
            if inspect.isclass(thing):
                made += [Entry(page, name, method, value) for method, value in methods(thing)]
    return made


def function_of(thing: Any) -> Any:
    """Return the function behind a method or property."""
    if isinstance(thing, property):
        return thing.fget
    return getattr(thing, "__func__", thing)


def signature(entry: Entry) -> str:
    """Return how it is called: names and defaults; the types are with the parameters."""
    try:
        parameters = list(inspect.signature(function_of(entry.thing)).parameters.values())
    except (TypeError, ValueError):
        return entry.title
    if entry.owner and not isinstance(entry.thing, staticmethod):
        parameters = parameters[1:]
    shown = inspect.Signature([one.replace(annotation=inspect.Parameter.empty) for one in parameters])
    text = str(shown).replace("<not given>", "…")
    if inspect.isclass(entry.thing) and (getattr(entry.thing, "_is_protocol", False) or text == "(*args, **kwargs)"):
        return entry.title
    if len(entry.title) + len(text) <= 100:
        return entry.title + text
    # A break after a comma of the call itself, not of a default that is a tuple.
    parts = re.split(r", (?![^\[\](){}]*[\])}])", text[1:-1])
    lines = textwrap.wrap(", ".join(part.replace(" ", "\0") for part in parts), 92, break_long_words=False, break_on_hyphens=False)
    return f"{entry.title}(\n" + "\n".join(f"    {line}" for line in lines).replace("\0", " ") + "\n)"


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield the sections of a docstring in NumPy's style; the first has no name."""
    name, lines = "", list[str]()
    rows = text.splitlines()
    at = 0
    while at < len(rows):
        if rows[at] in SECTIONS and at + 1 < len(rows) and set(rows[at + 1].strip()) == {"-"}:
            yield name, "\n".join(lines).strip("\n")
            name, lines, at = rows[at], [], at + 2
            continue
        lines.append(rows[at])
        at += 1
    yield name, "\n".join(lines).strip("\n")


def described(text: str, link: Callable[[str], str]) -> str:
    """Return a docstring as Markdown: entries as a list of definitions, examples as sessions."""
    parts = []
    for name, body in sections(text):
        if name == "Examples":
            parts.append(sessions(body, link))
        elif name == "Notes":
            parts.append(prose(body, link))
        elif name:
            parts.append(f"**{name}**\n\n" + definitions(body, link))
        elif body:
            parts.append(prose(body, link))
    return "\n\n".join(parts)


def prose(text: str, link: Callable[[str], str]) -> str:
    """Return text as Markdown; a block behind `::` is code."""
    text = re.sub(
        r"(?m)^(.*)::\n\n((?:    .*\n?|\n)+)", lambda m: f"{m[1]}{':' if m[1] else ''}\n\n```\n{inspect.cleandoc(m[2])}\n```\n", text
    )
    return "".join(part if part.startswith("```") else link(part.replace("``", "`")) for part in re.split(r"(```.*?```)", text, flags=re.S))


def definitions(text: str, link: Callable[[str], str]) -> str:
    """Return the entries of a section: the name and type, then what it is."""
    made = list[str]()
    for line in text.splitlines():
        if line and not line.startswith(" "):
            name, colon, kind = line.partition(" : ")
            shown = ", ".join(f"`{part.strip()}`" for part in name.split(","))
            # A class of errors, and "dict", are names by themselves.
            made.append(f"\n{link(shown)}{' : ' + kind if colon else ''}\n:   ")
        elif made:
            made[-1] += (line.strip() or "\n\n    ") + " "
    # A name that is not explained has nothing to say for itself.
    return link("\n".join(one.rstrip() if not one.endswith(":   ") else one[:-4] + ":   &nbsp;" for one in made).replace("``", "`"))


def sessions(text: str, link: Callable[[str], str]) -> str:
    """Return examples: what Python shows as a session, all else as text."""
    parts, block = list[str](), list[str]()

    def close() -> None:
        if block:
            parts.append("```pycon\n" + "\n".join(block) + "\n```")
            block.clear()

    words = list[str]()
    for line in [*text.splitlines(), ""]:
        if line.startswith(">>>") or (block and line):
            if words:
                parts.append(prose("\n".join(words), link))
                words.clear()
            block.append(line)
        else:
            close()
            words.append(line)
    close()
    if any(words):
        parts.append(prose("\n".join(words), link))
    return "\n\n".join(part for part in parts if part.strip())


def links(made: list[Entry]) -> dict[str, str]:
    """Return where each name leads: "Stream.filter", "filter" of a class is for `linked` to find."""
    known = {}
    for one in made:
        target = f"{one.page}.md#{one.anchor}"
        known.setdefault(one.title, target)
        known.setdefault(f"{one.owner}.{one.name}" if one.owner else one.name, target)
        for variable, owners in VARIABLES.items():
            if one.owner in owners:
                known.setdefault(f"{variable}.{one.name}", target)
    return known


def linked(text: str, known: dict[str, str], *, owner: str = "", folder: str = "", once: bool = False, here: str = "") -> str:
    """Return Markdown whose code names link to the reference.

    A name of a function links where it is called, so that a variable of the same name does not; one of a class always.
    """
    done = {here}

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        word = re.sub(r"^streamdsl\.(testing\.)?", "", match[1])
        name, called, _ = word.partition("(")
        target = known.get(f"{owner}.{name}") if owner and "." not in name else None
        if target is None and (called or name[:1].isupper() or "." in name):
            target = known.get(name)
        if target is None or target in done:
            return match[0]
        if once:
            done.add(target)
        return f"[`{match[1]}`]({folder}{target})"

    # What is in a block of code, a heading, a link or a picture stays as it is.
    return re.sub(r"```.*?```|^#.*?$|!?\[[^\]]*\]\([^)]*\)|`([^`\n]+)`", replace, text, flags=re.S | re.M)


def reference() -> dict[str, str]:
    """Return the pages of the reference by name; "names" is the list of all."""
    made = entries()
    known = links(made)
    pages = {}
    for page, (title, intro, _) in PAGES.items():
        parts = [f"# {title}\n\n{intro}\n\nThe examples take this for granted:\n\n```python\n{IMPORTS}\n```\n"]
        for one in made:
            if one.page == page:
                # A page about one class needs no second heading for it.
                parts.append(shown(one, known))
        pages[page] = "\n".join(parts)
    pages["names"] = contents(made)
    return pages


def shown(one: Entry, known: dict[str, str]) -> str:
    """Return an entry as Markdown."""
    level = "###" if one.owner else "##"
    part_of_expr = one.name in SHOWN and not one.owner
    text = inspect.getdoc(function_of(one.thing)) or ""
    target = known[one.title]

    def link(part: str) -> str:
        return linked(part, known, owner=one.owner or one.name, here=target)

    if part_of_expr:
        return described(text, link) + "\n"
    # How a class is made is its own affair, unless it says so; a property is not called.
    silent = isinstance(one.thing, property) or (inspect.isclass(one.thing) and "Parameters\n---" not in text)
    called = "" if silent else f"```python\n{signature(one)}\n```\n\n"
    return f"{level} `{one.title}` {{ #{one.anchor} }}\n\n{called}{described(text, link)}\n"


def contents(made: list[Entry]) -> str:
    """Return the list of public names, page by page, with the first line of each."""
    parts = ["# API reference\n\nEvery public name, with an example that runs. `import streamdsl` has those without a module.\n"]
    for page, (title, _, _) in PAGES.items():
        parts.append(f"\n## [{title}]({page}.md)\n\n| name | what it is |\n|---|---|")
        for one in made:
            if one.page == page and not one.owner and (one.title != "Expr" or one.name == "Expr"):
                first = (inspect.getdoc(one.thing) or "").partition("\n")[0].replace("|", "\\|").replace("``", "`")
                parts.append(f"| [`{one.title}`]({page}.md#{one.anchor}) | {first} |")
    return "\n".join(parts) + "\n"
