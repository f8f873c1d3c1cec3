"""Project: each row gets new columns, computed from its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from streamdsl.logical.expression import Typed, columns_of
from streamdsl.logical.node import Columns, Node, letters, policy_text
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Field, Schema

__all__ = ["Output", "ProjectNode", "narrowed", "passed"]


@dataclass(frozen=True, slots=True)
class Output:
    """One column of a projection."""

    name: str
    value: Typed
    hidden: bool = False

    @property
    def unchanged(self) -> bool:
        """Whether it is the input column of the same name."""
        return self.value.is_column and self.value.column == self.name

    @property
    def field(self) -> Field:
        """The column in the schema."""
        return Field(self.name, self.value.type, self.value.nullable, self.hidden)


@dataclass(frozen=True, eq=False, kw_only=True)
class ProjectNode(Node):
    """The columns `outputs`, and no others."""

    outputs: tuple[Output, ...]
    errors: ErrorPolicy | None = None

    stateless: ClassVar[bool] = True
    verb: ClassVar[str] = "project"

    @cached_property
    def schema(self) -> Schema:
        return Schema(tuple(output.field for output in self.outputs))

    @cached_property
    def by_name(self) -> dict[str, Typed]:
        """What each column is computed from."""
        return {output.name: output.value for output in self.outputs}

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return letters(self)

    @property
    def refuses(self) -> bool:
        return any(output.value.may_fail for output in self.outputs)

    def needs(self, wanted: Columns) -> Columns:
        return columns_of(*(output.value for output in self.outputs if output.name in wanted)) | self.refused_rows()

    def notes(self) -> str:
        return policy_text(self.errors)

    def text(self) -> str:
        kept = [output.name for output in self.outputs if output.unchanged and not output.hidden]
        made = [f"{output.name} = {output.value}" for output in self.outputs if not output.unchanged]
        return "; ".join(part for part in (", ".join(kept), *made) if part)


def passed(schema: Schema, names: Iterable[str] | None = None) -> list[Output]:
    """Return outputs that pass columns through (default: all)."""
    wanted = schema.names if names is None else names
    fields = (schema.field(name) for name in wanted)
    return [Output(f.name, Typed("column", f.type, params=(f.name,), nullable=f.nullable), f.hidden) for f in fields]


def narrowed(node: Node, names: Sequence[str]) -> Node:
    """Return `node` with exactly these columns in this order."""
    if node.schema.names == tuple(names):
        return node
    return ProjectNode(inputs=(node,), where=node.where, outputs=tuple(passed(node.schema, names)))
