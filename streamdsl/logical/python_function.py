"""PythonFunction: a user's function sees each row, or each batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import pyarrow as pa

from streamdsl.logical.node import Columns, Node, joined, letters, policy_text
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Field, Schema

__all__ = ["AsyncCalls", "PythonFunctionNode"]

Mode = Literal["map", "flat_map", "filter", "peek", "batches", "test", "async"]


@dataclass(frozen=True, slots=True)
class AsyncCalls:
    """How calls of an asynchronous function are made. `name` is the identity of those that are under way in a checkpoint."""

    name: str
    capacity: int
    timeout_ms: int
    retry: int
    ordered: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class PythonFunctionNode(Node):
    """Calls `function`. `output` is the schema of what it returns; None where rows pass unchanged.

    Mode "test" appends the hidden column `test`: whether the function said yes. Mode "async" has `calls`.
    """

    mode: Mode
    function: Callable[..., Any]
    output: Schema | None = None
    errors: ErrorPolicy | None = None
    test: str = ""
    calls: AsyncCalls | None = None

    verb: ClassVar[str] = "python"

    @cached_property
    def schema(self) -> Schema:
        if self.mode == "test":
            return Schema((*self.inputs[0].schema.fields, Field(self.test, pa.bool_(), nullable=False, hidden=True)))
        return self.inputs[0].schema if self.output is None else self.output

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return letters(self)

    @property
    def name(self) -> str:
        """Mode and function, for metrics and errors; of asynchronous calls their name."""
        if self.calls is not None:
            return self.calls.name
        return f"{self.mode}.{getattr(self.function, '__name__', type(self.function).__name__)}"

    def needs(self, wanted: Columns) -> Columns:
        seen = self.rows_of_user_code()
        return seen | (wanted - {self.test}) if self.output is None else seen

    def text(self) -> str:
        made = "" if self.output is None else f"-> ({', '.join(self.output.names)})"
        return joined(self.name, made)

    def notes(self) -> str:
        return policy_text(self.errors)
