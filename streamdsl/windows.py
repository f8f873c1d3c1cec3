"""Frames and windows: plain values that say which records belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from streamdsl.durations import Duration, format_duration, parse_duration
from streamdsl.errors import TopologyError

__all__ = [
    "Frame",
    "Window",
    "count_window",
    "expanding",
    "hopping",
    "rolling",
    "session",
    "sliding",
    "tumbling",
]


def _positive(value: Duration, what: str) -> int:
    ms = parse_duration(value, what)
    if ms == 0:
        raise TopologyError(f"{what} must be longer than 0")
    return ms


@dataclass(frozen=True, slots=True)
class Frame:
    """Which earlier records of its key an aggregate sees; one row in, one row out."""

    kind: Literal["rolling", "expanding"]
    size_ms: int = 0
    exclude_current: bool = False

    def __str__(self) -> str:
        size = f'"{format_duration(self.size_ms)}"' if self.kind == "rolling" else ""
        excluded = "exclude_current=True" if self.exclude_current else ""
        return f"{self.kind}({', '.join(part for part in (size, excluded) if part)})"

    @property
    def slug(self) -> str:
        """Short text for automatic state names."""
        size = f"_{format_duration(self.size_ms)}" if self.kind == "rolling" else ""
        return f"{self.kind}{size}{'_before' if self.exclude_current else ''}"


@dataclass(frozen=True, slots=True)
class Window:
    """Many rows in, one row per key and window out. All in ms; half-open, aligned to the epoch plus the offset."""

    kind: Literal["tumbling", "hopping"]
    size_ms: int
    every_ms: int
    offset_ms: int = 0
    grace_ms: int = 0
    emit: Literal["close", "update"] = "close"
    late: str = "late"

    def __str__(self) -> str:
        parts = [f'"{format_duration(self.size_ms)}"']
        if self.kind == "hopping":
            parts.append(f'"{format_duration(self.every_ms)}"')
        if self.offset_ms:
            parts.append(f'offset="{format_duration(self.offset_ms)}"')
        return f"{self.kind}({', '.join(parts)})"

    @property
    def slug(self) -> str:
        """Short text for automatic state names."""
        every = f"_{format_duration(self.every_ms)}" if self.kind == "hopping" else ""
        offset = f"_at_{format_duration(self.offset_ms)}" if self.offset_ms else ""
        return f"{self.kind}_{format_duration(self.size_ms)}{every}{offset}"

    def emitting(self, *, grace: Duration, emit: str, late: str) -> Window:
        """Return the window with its grace, emission and the name of its output of late records."""
        if emit not in ("close", "update"):
            known = emit in ("on_time",) or emit.startswith("throttle")
            remedy = 'use emit="close" or emit="update"'
            raise TopologyError(f"emit={emit!r} is {'not supported yet' if known else 'unknown'}", remedy=remedy)
        if not late:
            raise TopologyError("late= names an output and cannot be empty")
        mode: Literal["close", "update"] = "close" if emit == "close" else "update"
        return replace(self, grace_ms=parse_duration(grace, "grace"), emit=mode, late=late)


def rolling(size: Duration, *, exclude_current: bool = False) -> Frame:
    """Frame of the records with ``t - size < time <= t`` that arrived before, and the current one.

    Parameters
    ----------
    size : duration
    exclude_current : bool
        Leave the current record out.
    """
    return Frame("rolling", _positive(size, "rolling size"), exclude_current)


def expanding(*, exclude_current: bool = False) -> Frame:
    """Frame of all records of the key so far, and the current one unless `exclude_current`."""
    return Frame("expanding", 0, exclude_current)


def tumbling(size: Duration, *, offset: Duration = 0) -> Window:
    """Windows of `size` side by side, aligned to the epoch plus `offset`."""
    size_ms = _positive(size, "tumbling size")
    return Window("tumbling", size_ms, size_ms, parse_duration(offset, "offset") % size_ms)


def hopping(size: Duration, every: Duration, *, offset: Duration = 0) -> Window:
    """Windows of `size`, one beginning `every` so often; a record is in ``size / every`` of them."""
    size_ms, every_ms = _positive(size, "hopping size"), _positive(every, "hopping every")
    if every_ms > size_ms:
        raise TopologyError(
            f"hopping({format_duration(size_ms)!r}, {format_duration(every_ms)!r}) leaves gaps between windows",
            remedy="every must not be longer than size",
        )
    return Window("hopping", size_ms, every_ms, parse_duration(offset, "offset") % every_ms)


def sliding(size: Duration, every: Duration | None = None) -> Window:
    """Windows around each record; not supported yet. With `every` it would be `hopping`."""
    if every is not None:
        raise TopologyError(
            "sliding windows have no fixed step: sliding(size, every) does not exist",
            remedy=f"use hopping({size!r}, {every!r})",
        )
    _positive(size, "sliding size")
    raise TopologyError(
        "sliding windows are not supported yet",
        remedy="use rolling(size), one row for each record, or hopping(size, every)",
    )


def session(gap: Duration) -> Window:
    """Windows of records at most `gap` apart; not supported yet."""
    _positive(gap, "session gap")
    raise TopologyError("session windows are not supported yet", remedy="write a Processor with a timer")


def count_window(n: int) -> Window:
    """Windows of `n` records; not supported yet."""
    raise TopologyError("count windows are not supported yet", remedy="write a Processor with a counter")
