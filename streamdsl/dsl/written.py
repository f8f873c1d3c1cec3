"""The first form of a plan: what was typed, verb by verb."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streamdsl.expr import Expr
from streamdsl.logical.expression import text_of
from streamdsl.logical.walk import post_order

__all__ = ["Typed", "Written", "arguments", "here", "slug", "with_emit"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@dataclass(frozen=True, eq=False)
class Written:
    """One verb as it was typed; `others` are the streams among its arguments."""

    verb: str
    arguments: str = ""
    owner: Written | None = None
    others: tuple[Written, ...] = ()


@dataclass(frozen=True, eq=False)
class Typed:
    """A whole topology as it was typed."""

    name: str
    ends: tuple[Written, ...]

    def __str__(self) -> str:
        names: dict[int, str] = {}
        lines = [f"topology = Topology({self.name!r})"]
        for end in self.ends:
            for step in post_order([end], _before):
                if id(step) in names:
                    continue
                owner = "topology" if step.owner is None else names[id(step.owner)]
                others = ", ".join(names[id(other)] for other in step.others)
                inside = ", ".join(part for part in (others, step.arguments) if part)
                call = f"{owner}.{step.verb}({inside})"
                name = names[id(step)] = f"s{len(names) + 1}"
                lines.append(call if step is end else f"{name} = {call}")
        return "\n".join(lines)


def _before(step: Written) -> tuple[Written, ...]:
    return step.others if step.owner is None else (step.owner, *step.others)


def arguments(*positional: Any, **named: Any) -> str:
    """Return arguments as they were typed; keywords whose value is None are left out."""
    parts = [_argument(value) for value in positional]
    parts += [f"{name}={_argument(value)}" for name, value in named.items() if value is not None]
    return ", ".join(parts)


def with_emit(shown: str, emit: Any) -> str:
    """Return arguments as they were typed, a table's emission among them where it is not the default."""
    return ", ".join(part for part in (shown, "" if emit == "update" else arguments(emit=emit)) if part)


def _argument(value: Any) -> str:
    if isinstance(value, Expr):
        return text_of(value.node)
    if isinstance(value, (str, int, float, bool, dict, list, tuple)):
        return repr(value)
    name = getattr(value, "__name__", None) or getattr(value, "name", None)
    return name if isinstance(name, str) else str(value)


def here() -> str:
    """Return the file and line, outside the library, that is being executed."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def slug(parts: Sequence[str]) -> str:
    """Return an automatic state name of its parts."""
    return ".".join(part for part in parts if part)
