"""What an operator says of itself, and what it is given in return: deploying reads the one and fills the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Context", "Declaration", "OwnTable"]


@dataclass(frozen=True, slots=True)
class OwnTable:
    """A table of rows that belongs to one operator; it is kept under the operator's name.

    `kind` is "windows", "timers", "changes" or "times": what a row is. `key` says what its keys are made of, where ``{key}`` stands
    for the kinds of the user's key; state with other keys is not restored into it.
    """

    kind: str
    key: str = "{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What the task must know of an operator before it runs.

    tables : those it is given by `open`, in this order
    deadlines : the watermark makes it emit, in pieces (`closing`, `go_on_closing`)
    wakeups : it has timers of the wall clock (`next_wakeup`, `on_processing_time`)
    room : it may hold its input back (`has_room`), and is asked before each input
    most_rows : of a batch it is given so many rows at a time, None: however many there are
    settles : it waits until the chain in front has returned (`settle`)
    """

    tables: tuple[OwnTable, ...] = ()
    deadlines: bool = False
    wakeups: bool = False
    room: bool = False
    most_rows: int | None = None
    settles: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an operator is given before its state is loaded.

    name : its name, the identity of its state
    lookup : the key lookup in front of it, whose table takes fields of the operator's; None: it has no keys
    tables : as it has declared them
    clock : of the job
    """

    name: str
    lookup: Any
    tables: tuple[Any, ...]
    clock: Any
