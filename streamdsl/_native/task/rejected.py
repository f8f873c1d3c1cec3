"""A row that is refused, where its reader cannot say what it came as."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Any, Final, NamedTuple

from streamdsl._native.flow.convert import python_rows

__all__ = ["before_row", "rejected_row"]

#: Sort key: the chunk's order.
before_row: Final = attrgetter("before_row")


class Rejected(NamedTuple):
    """The same fields as `connectors.base.Rejected`, which this layer does not import."""

    before_row: int
    raw: bytes | None
    reason: str
    topic: str
    partition: int | None
    offset: int | None


def rejected_row(chunk: Any, row: int, reason: str, split: str, schema: Any) -> Rejected:
    """Return the columns of a row as JSON; its partition and offset are known if somebody has asked for the hidden columns."""
    values = python_rows(chunk.rows.slice(row, 1))[0]
    raw = json.dumps(values, default=str).encode()
    topic, partition, offset = (
        values.get(name) if name in schema and schema.field(name).hidden else None for name in ("_topic", "_partition", "_offset")
    )
    return Rejected(row, raw, reason, topic or split, partition, offset)


def nulls_in(rows: Any, never_null: tuple[int, ...]) -> dict[int, str]:
    """Return the rows that are null in a column that never is, each with the reason; columns are given by their places."""
    found: dict[int, str] = {}
    for place in never_null:
        column = rows.column(place)
        if column.null_count:
            name = rows.schema.names[place]
            for row, value in enumerate(column.is_null().to_pylist()):
                if value:
                    found.setdefault(row, f"field {name!r} is null, but must not be null")
    return found
