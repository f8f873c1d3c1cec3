"""Plan pieces of tables that are made of the changes of others."""

from __future__ import annotations

import dataclasses

from streamdsl.dsl.written import here
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.expression import Typed
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node, StatefulNode
from streamdsl.logical.project import Output, ProjectNode, passed
from streamdsl.logical.source import SourceNode
from streamdsl.logical.table import TableNode
from streamdsl.logical.types import BOOL, TEXT, literal
from streamdsl.logical.walk import post_order
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Schema

__all__ = ["free_name", "rebuilt", "retracting", "with_removed"]


def rebuilt(
    node: Node,
    keys: tuple[str, ...],
    test: Typed,
    errors: ErrorPolicy | None,
    name: str | None,
    verb: str,
    *,
    retracts: bool,
    numbered: bool = False,
) -> TableNode:
    """Return the changes of a table of its own with those rows of `node`, the changes of a table, for which `test` holds.

    What is not kept is removed from it. `numbered`: the rows have versions.
    """
    change = Typed("column", TEXT, params=(CHANGE.name,), nullable=False)
    there = Typed("ne", BOOL, (change, literal("withdraw", TEXT)), nullable=False)
    holds = Typed("coalesce", BOOL, (test, literal(False, BOOL)), nullable=False) if test.nullable else test
    kept = Typed("and", BOOL, (there, holds), nullable=False)
    schema = node.schema.visible()
    marker = free_name("_removed", schema)
    outputs = [*passed(schema), Output(marker, Typed("not", BOOL, (kept,), nullable=False), hidden=True)]
    marked = ProjectNode(inputs=(node,), where=here(), outputs=tuple(outputs), errors=errors)
    keyed = KeyByNode(inputs=(marked,), where=here(), keys=keys)
    sources = sorted(one.name for one in post_order([node], lambda below: below.inputs) if isinstance(one, (SourceNode, StatefulNode)))
    automatic = f"{verb}.{'+'.join(sources)}"
    return TableNode(
        inputs=(keyed,),
        where=here(),
        name=name or automatic,
        named=name is not None,
        retracts=retracts,
        numbered=numbered,
        removed=marker,
    )


def retracting(table: TableNode, name: str, *, numbered: bool = False) -> TableNode:
    """Return the same table, in which a row that replaces another is told as two changes."""
    return dataclasses.replace(table, where=here(), name=name, retracts=True, numbered=numbered)


def with_removed(node: Node) -> tuple[Node, str]:
    """Return the changes of a table with a hidden column that says whether a row is withdrawn, and its name."""
    name = free_name("_removed", node.schema)
    change = Typed("column", TEXT, params=(CHANGE.name,), nullable=False)
    withdrawn = Typed("eq", BOOL, (change, literal("withdraw", TEXT)), nullable=False)
    outputs = (*passed(node.schema), Output(name, withdrawn, hidden=True))
    return ProjectNode(inputs=(node,), where=here(), outputs=outputs), name


def free_name(name: str, schema: Schema) -> str:
    """Return `name`, or one like it that no column has."""
    return name if name not in schema else free_name(f"{name}_", schema)
