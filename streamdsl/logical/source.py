"""Source: rows come in, with their event time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import pyarrow as pa

from streamdsl.connectors.base import METADATA_COLUMNS, Source
from streamdsl.durations import Duration, parse_duration
from streamdsl.logical.node import Columns, Meaning, Node, duration_text, joined, letters, policy_text
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Field, Schema

__all__ = ["EventTime", "SourceNode"]


@dataclass(frozen=True)
class EventTime:
    """The column of a source that has the event time, of the declared `type`, and how it is read.

    `unit` is what its numbers count since 1970 (None: the type's unit, milliseconds for integers), `format` how its texts are
    read (None: ISO 8601), `tz` the zone of times that say none.
    """

    column: str
    type: pa.DataType
    unit: str | None = None
    format: str | None = None
    tz: str | None = None

    @property
    def as_it_is(self) -> bool:
        """Whether the column's values are event times already: nothing is converted."""
        plain = pa.types.is_integer(self.type) and self.unit in (None, "ms")
        return plain or (pa.types.is_timestamp(self.type) and self.tz is None)

    def __str__(self) -> str:
        given = (("unit", self.unit), ("format", self.format), ("tz", self.tz))
        return " ".join([f"time={self.column}", *(f"{name}={value}" for name, value in given if value)])


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceNode(Node):
    """Reads `columns` of a source whose rows are `declared`.

    `timestamp` is the column of the event time; None takes the record's own. What the stream says of idleness and of times ahead
    counts before what the source says, whichever source is bound in the end. `rank` is the place among the sources of the topology
    as they were declared: of equal event times, rows of the first come first. `table_keys`: the key of the table that it
    is read as. `bootstrap`: other sources wait until all has been read that is there at the start.
    """

    name: str
    source: Source
    declared: Schema
    columns: tuple[str, ...]
    timestamp: EventTime | None = None
    disorder_ms: int = 0
    idle_timeout_ms: int | None = None
    max_ahead_ms: int | None = None
    max_drift_ms: int | None = None
    rank: int = 0
    bootstrap: bool = False
    table_keys: tuple[str, ...] | None = None
    external_watermarks: bool = False
    errors: ErrorPolicy | None = None

    verb: ClassVar[str] = "source"

    @cached_property
    def schema(self) -> Schema:
        return readable(self.declared).select(self.columns)

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return letters(self)

    def needs(self, wanted: Columns) -> Columns:
        return wanted | {name for name in (self.timestamp and self.timestamp.column, self.source.partitioned_by) if name}

    def tag_needs(self, tag: str, wanted: Columns) -> Columns:
        return frozenset()

    @property
    def idle_after_ms(self) -> int | None:
        """When a split that gives nothing is idle; None: never."""
        return _chosen(self.idle_timeout_ms, self.source.idle_timeout, "idle_timeout")

    @property
    def most_ahead_ms(self) -> int | None:
        """How far a record's time may be ahead of the clock; None: as far as it likes."""
        return _chosen(self.max_ahead_ms, self.source.max_ahead, "max_ahead")

    def meaning(self) -> Meaning:
        """Return what decides the meaning of its positions and its event time; see `StatefulNode.meaning`."""
        time = str(self.timestamp).removeprefix("time=") if self.timestamp else "the records' own"
        form = self.source.position_form
        return {"event time": time, **({"positions": form} if form else {})}

    def text(self) -> str:
        shown = ", ".join(field.name for field in self.schema.fields if not field.hidden)
        hidden = [field.name for field in self.schema.fields if field.hidden]
        # Metadata columns are worth a word only once the unused ones are gone.
        extra = f" + {', '.join(hidden)}" if hidden and len(self.columns) < len(readable(self.declared)) else ""
        return f"{self.name} ({shown}{extra})"

    def notes(self) -> str:
        return joined(
            str(self.timestamp or ""),
            f"partitioned_by={self.source.partitioned_by}" if self.source.partitioned_by else "",
            duration_text("disorder", self.disorder_ms),
            duration_text("idle_timeout", self.idle_after_ms),
            duration_text("max_ahead", self.most_ahead_ms),
            duration_text("max_drift", self.max_drift_ms),
            "read before others" if self.bootstrap else "",
            "watermarks=external" if self.external_watermarks else "",
            policy_text(self.errors),
        )


def _chosen(said: int | None, default: Duration | None, what: str) -> int | None:
    return said if said is not None or default is None else parse_duration(default, what)


def readable(declared: Schema) -> Schema:
    """Return all columns that can be read: the declared ones and the hidden metadata columns."""
    hidden = (Field(name, type_, hidden=True) for name, type_ in METADATA_COLUMNS.items() if name not in declared)
    return Schema((*declared.fields, *hidden))
