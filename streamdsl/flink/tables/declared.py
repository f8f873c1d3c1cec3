"""What a connector says of the table of a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from streamdsl.flink.quoting import quoted
from streamdsl.flink.types import flink_type
from streamdsl.schema import Field

__all__ = ["Declared"]


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
    as_text : callable, optional
        For tables whose columns are all texts: the item of a select list that gives a column its type. `where` leaves out
        what is no row.
    """

    options: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    own_time: str | None = None
    as_text: Callable[[Field], str] | None = None
    where: str = ""
    typed_text: Callable[[str, pa.DataType], str] | None = None

    def column(self, column: Field) -> str:
        """Return the declaration of a column."""
        type_ = "STRING" if self.as_text is not None else flink_type(column.type)
        return f"{quoted(column.name)} {type_}"

    def typed(self, name: str, type_: pa.DataType) -> str:
        """Return a column of the table with its type."""
        return quoted(name) if self.typed_text is None else self.typed_text(name, type_)
