"""What a connector says of the table of a source or a sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from streamdsl.flink.quoting import quoted
from streamdsl.flink.types import flink_type
from streamdsl.schema import Field

__all__ = ["Declared", "DeclaredSink", "SinkColumn"]


@dataclass(frozen=True)
class Declared:
    """A source's table.

    Attributes
    ----------
    options : mapping
        The WITH clause.
    metadata : mapping
        How hidden columns are declared, by name.
    own_time : str, optional
        Type and origin of the record's own time.
    read_type : callable
        The type with which the table has a column.
    typed_column : callable, optional
        For tables whose columns are read with other types: the item of a select list that gives a column its own. `where`
        leaves out what is no row.
    typed_text : callable, optional
        The same as an expression, for the event time.
    lines : sequence of str, optional
        How the columns are declared, where they are not those of the schema.
    joined : str
        What stands behind the table's name where the view with the types reads it.
    nan : frozenset of str
        Columns that may be NaN.
    may_lack_time : bool
        Whether the table has rows that the view leaves out, and that have no event time.
    pushed : bool
        Whether the source itself makes the watermarks, those of each of its parts.
    """

    options: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    own_time: str | None = None
    read_type: Callable[[Field], str] = lambda field: flink_type(field.type)
    typed_column: Callable[[Field], str] | None = None
    where: str = ""
    typed_text: Callable[[str, pa.DataType], str] | None = None
    lines: Sequence[str] | None = None
    joined: str = ""
    nan: frozenset[str] = frozenset()
    may_lack_time: bool = False
    pushed: bool = True

    def column(self, column: Field) -> str:
        """Return the declaration of a column."""
        return f"{quoted(column.name)} {self.read_type(column)}"

    def typed(self, name: str, type_: pa.DataType) -> str:
        """Return a column of the table with its type."""
        return quoted(name) if self.typed_text is None else self.typed_text(name, type_)


@dataclass(frozen=True, slots=True)
class SinkColumn:
    """A column of a sink: its name and type, and what is written into it."""

    name: str
    type: str
    value: str


@dataclass(frozen=True, slots=True)
class DeclaredSink:
    """A sink's table.

    Attributes
    ----------
    options : mapping
        The WITH clause.
    columns : sequence, optional
        Where they are not those of the rows.
    constraints : sequence
        Lines behind the columns.
    extra : sequence
        Columns beside the value, as metadata: declaration and value.
    """

    options: Mapping[str, str]
    columns: Sequence[SinkColumn] | None = None
    constraints: Sequence[str] = ()
    extra: Sequence[tuple[str, str]] = ()
