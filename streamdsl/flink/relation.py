"""What the steps of a topology are in the statements: tables and views, with what is known of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import pyarrow as pa

from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused

__all__ = ["FORGOTTEN", "TIME", "Relation"]

#: The column of the event time, which every view carries along.
TIME: Final = "_time"
#: What Flink does with rows of a time before its clocks begin.
FORGOTTEN: Final = "Frames and joins by time lose rows of times up to 1970-01-01: Flink takes them for late ones."


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a view.

    Attributes
    ----------
    name : str
    time : "rowtime" | "value" | None
        Whether it has the event time as a column: with watermarks, as a plain value, or not at all.
    changes : bool
        Rows may take the place of others: it is a table of the topology.
    nan : frozenset of str
        Columns that may be NaN.
    filled : frozenset of str
        Columns that are never null, though their type allows it.
    items : mapping
        Columns that are items of a list, with their type: the plan reads them from text.
    """

    name: str
    time: Literal["rowtime", "value"] | None = None
    changes: bool = False
    nan: frozenset[str] = frozenset()
    filled: frozenset[str] = frozenset()
    items: Mapping[str, pa.DataType] = field(default_factory=dict)

    def need_rowtime(self, verb: str) -> None:
        """Refuse what needs watermarks where there are none."""
        if self.time == "rowtime":
            return
        if self.time == "value":
            raise Refused(
                f"{verb} works in event time, and Flink has lost its watermarks in a join before it",
                "bound the join on one side (before=0 or after=0), or write its result to a topic and go on in a second job",
            )
        raise Refused(f"{verb} works in event time, and the source has none", "give topology.stream(..., timestamp=...)")

    def time_columns(self, alias: str = "") -> list[str]:
        """Return the event time as an item of a select list, if there is one."""
        return [f"{alias}{quoted(TIME)}"] if self.time else []
