"""How streams and tables show themselves in a notebook, and become data frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamdsl.errors import StreamError, TopologyError
from streamdsl.logical.node import Node
from streamdsl.logical.source import SourceNode
from streamdsl.logical.walk import post_order

if TYPE_CHECKING:
    from streamdsl.schema import Schema

__all__ = ["Shown", "html_table"]

#: Rows that are computed to be shown.
_HEAD: Final = 5


class Shown:
    """What a stream or a table of rows does in a notebook."""

    _node: Node

    if TYPE_CHECKING:

        @property
        def schema(self) -> Schema:
            """Columns of the rows."""

        def collect(self) -> pa.Table:
            """Return all rows."""

        def head(self, n: int = 10) -> pa.Table:
            """Return the first rows."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Run the topology for these rows alone and hand them over: ``polars.DataFrame(stream)``, ``pa.table(stream)``.

        Raises
        ------
        TopologyError
            An input has no end.
        """
        endless = self._endless()
        if endless:
            raise TopologyError(
                f"the input of {', '.join(map(repr, endless))} has no end, so that the rows do not become a frame",
                remedy='give it an end, such as kafka(..., until="latest"), or look at .head(10)',
            )
        return self._rows().__arrow_c_stream__(requested_schema)

    def _rows(self) -> pa.Table:
        return self.collect()

    def _endless(self) -> list[str]:
        nodes = post_order((self._node,), lambda node: node.inputs)
        return [node.name for node in nodes if isinstance(node, SourceNode) and not node.source.bounded]

    def _repr_html_(self) -> str:
        """Show the columns and, where the input has an end, the first rows."""
        # Its modules of the standard library wait: a file of theirs' name may be the topology that `python -m` was started beside.
        from streamdsl._native.flow.convert import python_rows

        columns = [[field.name, str(field.type), "may be null" if field.nullable else ""] for field in self.schema.visible().fields]
        parts = [f"<pre>{escape(repr(self))}</pre>", html_table(["column", "type", ""], columns)]
        endless = self._endless()
        if endless:
            parts.append(f"<p>The input of {escape(', '.join(endless))} has no end: .head(n) shows its first rows.</p>")
            return "".join(parts)
        try:
            table = self.head(_HEAD)
        except StreamError as error:
            parts.append(f"<pre>{escape(str(error))}</pre>")
        else:
            parts.append(html_table(table.column_names, [list(row.values()) for row in python_rows(table)]))
        return "".join(parts)


def html_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table whose cells are text, whatever they hold."""
    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(_short(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _short(cell: Any) -> str:
    text = "null" if cell is None else str(cell)
    return text if len(text) <= 200 else text[:199] + "…"
