"""What a translation has made so far: statements, what is known of each step, differences, refusals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from streamdsl.flink.grace import waits_of
from streamdsl.flink.job import Kind, Statement
from streamdsl.flink.python.function import MODULE, PythonFunction, PythonValues
from streamdsl.flink.python.process import PythonProcess
from streamdsl.flink.quoting import quoted, text
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import Relation
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node, StatefulNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.schema import Schema

__all__ = ["Translation", "columns", "comment", "conditions", "nested", "partition", "select", "with_key"]

_LONGEST: Final = 300
_WORKERS: Final = "Python functions run in Python workers beside each task: streamdsl and the topology's module must be installed there."


class Translation:
    """Collects what the translations of the nodes say. Used by one call of `translate`."""

    def __init__(self, plan: LogicalPlan, offsets: Mapping[str, Mapping[int, int]] | None = None) -> None:
        self.plan = plan
        #: Where sources begin, by their names.
        self.offsets = offsets or {}
        self.settings: dict[str, str] = {}
        self.waits = waits_of(plan)
        self.statements: list[Statement] = []
        self.inserts: list[Statement] = []
        self.functions: list[PythonFunction | PythonValues] = []
        self.processes: list[PythonProcess] = []
        self.differences: dict[str, None] = {}
        self.connectors: dict[str, None] = {}
        self.refused: list[Refused] = []
        self.relations: dict[int, Relation] = {}
        self._names: set[str] = set()

    def of(self, node: Node) -> Relation:
        """Return what an input has become."""
        return self.relations[id(node)]

    def differs(self, said: str) -> None:
        """Tell where Flink answers otherwise."""
        self.differences[said] = None

    def set(self, option: str, value: str) -> None:
        """Set an option of Flink."""
        self.settings[option] = value

    def needs(self, *artifacts: str) -> None:
        """Name a connector or format that the job needs."""
        self.connectors.update(dict.fromkeys(artifacts))

    def name_of(self, node: Node, wanted: str | None = None) -> str:
        """Return a name for the table or view of a node: the user's where there is one, else its verb and number."""
        number = self.plan.numbers[id(node)]
        chosen = wanted or (node.name if isinstance(node, StatefulNode) and node.named else f"{node.verb}_{number}")
        # Readable in Flink's web page and in EXPLAIN: dots would look like a database.
        plain = re.sub(r"[^\w-]+", "_", chosen) or f"step_{number}"
        name = plain if plain not in self._names else f"{plain}_{number}"
        self._names.add(name)
        return name

    def function(self, made: PythonFunction | PythonValues, said: str) -> None:
        """Add a function in Python."""
        self.functions.append(made)
        body = f"CREATE TEMPORARY FUNCTION {quoted(made.name)} AS {text(f'{MODULE}.{made.name}')} LANGUAGE PYTHON"
        self._add("function", made.name, body, said)
        self.differs(_WORKERS)

    def table(self, name: str, text: str, comment: str) -> None:
        """Add the table of a source or a sink."""
        self._add("table", name, text, comment)

    def view(self, node: Node, query: str, *, like: Relation, name: str | None = None, **changed: object) -> Relation:
        """Add the view of a node, and return it as `like` with what is `changed`."""
        chosen = self.name_of(node, name)
        self._add("view", chosen, f"CREATE TEMPORARY VIEW {quoted(chosen)} AS\n{query}", comment(node))
        values = {"time": like.time, "changes": like.changes, "nan": like.nan, **changed}
        return Relation(chosen, **values)  # type: ignore[arg-type]

    def insert(self, name: str, text: str, said: str) -> None:
        """Add what fills a sink."""
        self.inserts.append(Statement("insert", name, text, said))

    def _add(self, kind: Kind, name: str, text: str, said: str) -> None:
        self.statements.append(Statement(kind, name, text, said))


def comment(node: Node) -> str:
    """Return which step of the topology a statement is."""
    name = f" {node.name!r}" if isinstance(node, StatefulNode) and node.named else ""
    text = node.text()
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return "".join(letter if letter.isprintable() else " " for letter in f"{node.verb}{name}: {shown}")


def columns(schema: Schema, relation: Relation) -> list[str]:
    """Return the columns of a relation as a select list, the event time among them."""
    names = [name for name in schema.names if not (relation.changes and name == CHANGE.name)]
    return [*map(quoted, names), *relation.time_columns()]


def select(items: Iterable[str], source: str, where: str = "", *, rest: str = "") -> str:
    """Return a query."""
    shown = list(items)
    listed = " " + ", ".join(shown) if sum(map(len, shown)) < 100 else "\n  " + ",\n  ".join(_lines(shown))
    condition = f"\nWHERE {where}" if where else ""
    return f"SELECT{listed}\nFROM {source}{condition}{rest}"


def _lines(items: Iterable[str]) -> list[str]:
    """Put names of columns together on lines; what is computed has one of its own."""
    lines: list[str] = []
    plain: list[str] = []
    for item in [*items, ""]:
        if item and " " not in item and sum(map(len, plain)) < 100:
            plain.append(item)
            continue
        lines += [", ".join(plain)] if plain else []
        plain = [item] if item and " " not in item else []
        lines += [item] if item and " " in item else []
    return [*lines, *([", ".join(plain)] if plain else [])]


def nested(query: str) -> str:
    """Return a query as a table of another one; a name stays what it is."""
    if not query.startswith("SELECT"):
        return query
    inner = "\n".join(f"  {line}" for line in query.splitlines())
    return f"(\n{inner}\n)"


def with_key(node: Node) -> str:
    """Return the condition that rows have a key: those that have none are dropped by keyed steps."""
    step = node
    while not isinstance(step, KeyByNode):
        if len(step.inputs) != 1:
            return ""
        step = step.inputs[0]
    schema = step.inputs[0].schema
    return conditions(f"{quoted(name)} IS NOT NULL" for name in step.keys if schema.field(name).nullable)


def conditions(parts: Iterable[str]) -> str:
    """Return conditions that all hold, "" if there are none."""
    return " AND ".join(part for part in parts if part)


def partition(keys: Sequence[str]) -> str:
    """Return the PARTITION BY of a key, "" if everything is one."""
    return f"PARTITION BY {', '.join(map(quoted, keys))} " if keys else ""
