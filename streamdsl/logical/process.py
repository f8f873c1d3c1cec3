"""Process: a user's operator with state by key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from streamdsl.logical.node import Columns, Meaning, StatefulNode, joined, letters, policy_text, window_meaning
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Schema
from streamdsl.windows import Window

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = ["NativeNode", "ProcessNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ProcessNode(StatefulNode):
    """A `Processor`, class or instance; with `window` its `process_window`."""

    processor: Any
    output: Schema
    outputs: tuple[tuple[str, Schema], ...] = ()
    window: Window | None = None
    errors: ErrorPolicy | None = None

    verb: ClassVar[str] = "process"

    @cached_property
    def schema(self) -> Schema:
        return self.output

    @cached_property
    def tags(self) -> dict[str, Schema]:
        found = dict(self.outputs)
        if self.window is not None:
            found[self.window.late] = self.inputs[0].schema
        return {**found, **letters(self)}

    @property
    def drops_late(self) -> bool:
        return self.window is not None

    def needs(self, wanted: Columns) -> Columns:
        # The rows of a window are state: what they hold does not depend on a policy.
        return self.rows_of_user_code() if self.window is None else frozenset(self.inputs[0].schema.visible().names)

    def meaning(self, origins: Origins) -> Meaning:
        # The states that it declares are known once it has been opened.
        kept = super().meaning(origins)
        if self.window is None:
            return {**kept, **origins.columns(self.inputs[0])}
        rows = origins.rows(self.inputs[0], self.inputs[0].schema.visible())
        return {**kept, **window_meaning(self.window), "rows": rows}

    def text(self) -> str:
        owner = self.processor if isinstance(self.processor, type) else type(self.processor)
        over = f" window {self.window}" if self.window else ""
        return f"{owner.__name__}{over} -> ({', '.join(self.output.visible().names)})"

    def notes(self) -> str:
        return joined(super().notes(), policy_text(self.errors))


@dataclass(frozen=True, eq=False, kw_only=True)
class NativeNode(StatefulNode):
    """A user's own native operator, made by `factory`."""

    factory: Callable[[], Any]
    output: Schema
    outputs: tuple[tuple[str, Schema], ...] = ()

    verb: ClassVar[str] = "native"

    @cached_property
    def schema(self) -> Schema:
        return self.output

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return dict(self.outputs)

    def needs(self, wanted: Columns) -> Columns:
        # Nobody can see into it: it gets its columns where it expects them.
        return frozenset(self.inputs[0].schema.visible().names)

    def meaning(self, origins: Origins) -> Meaning:
        return {**super().meaning(origins), **origins.columns(self.inputs[0])}

    def text(self) -> str:
        return f"{getattr(self.factory, '__name__', 'factory')} -> ({', '.join(self.output.visible().names)})"
