"""Reads a table in pages, in the order of its key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from streamdsl.connectors.base import END, METADATA_COLUMNS, Chunk, End, Json, Rejected, SplitReader, no_metadata
from streamdsl.connectors.postgres.clients import Connection, PostgresError, connected, place_of, sql, translated
from streamdsl.connectors.postgres.columns import identifier, sql_type, target_of
from streamdsl.errors import ConnectorError

if TYPE_CHECKING:
    from streamdsl.connectors.postgres.description import Postgres

__all__ = ["TableReader"]


@dataclass(frozen=True, slots=True)
class Page(Chunk):
    """Rows, and the key of each as text: a position is the last key that was read."""

    keys: tuple[tuple[str, ...], ...] = ()
    first: int = 0


class TableReader(SplitReader):
    """Reads the rows behind a key. Rows that come behind it while it reads are read, those in front of it are not."""

    def __init__(self, described: Postgres, position: Json, columns: Sequence[str]) -> None:
        self._described = described
        self._columns = tuple(columns)
        self._doing = f"reading the table {described.table!r} in {place_of(described.dsn)}"
        at = cast(dict[str, Any], position or {"after": None, "row": 0})
        self._after: list[str] | None = at["after"]
        self._row: int = at["row"]
        self._own = [name for name in columns if name in described.schema or name not in METADATA_COLUMNS]
        self._connection: Connection = connected(described.dsn, self._doing, autocommit=True)
        try:
            self._query, self._behind = self._statements()
        except BaseException:
            self._connection.close()
            raise

    def _statements(self) -> tuple[sql.Composed, sql.Composed]:
        described = self._described
        target = target_of(self._connection, described.table, self._doing)
        target.check([described.schema.field(name) for name in self._own], self._doing)
        order = described.order_by or target.key
        if not order:
            raise ConnectorError(
                f"{self._doing}: the table has no primary key, so nothing says how far it has been read",
                remedy="name columns that are unique together: order_by=",
            )
        for name in order:
            if name not in target.types:
                raise ConnectorError(f"{self._doing}: order_by= names {name!r}, which the table does not have")
        # Qualified: by its bare name a column would be the text of it that is selected.
        keys = sql.SQL(", ").join(sql.Identifier("t", name) for name in order)
        wanted = [sql.SQL("{}::text").format(sql.Identifier("t", name)) for name in order]
        for name in self._own:
            plain = sql_type(described.schema.field(name).type).partition("(")[0]
            wanted.append(sql.SQL("{}::{}").format(sql.Identifier("t", name), sql.SQL(plain)))
        start = sql.SQL("SELECT {} FROM {} AS t").format(sql.SQL(", ").join(wanted), identifier(described.table))
        given = sql.SQL(", ").join(sql.SQL("%s::{}").format(sql.SQL(target.types[name])) for name in order)
        end = sql.SQL(" ORDER BY {} LIMIT %s").format(keys)
        self._key_size = len(order)
        return start + end, start + sql.SQL(" WHERE ({}) > ({})").format(keys, given) + end

    def read(self, max_rows: int) -> Chunk | End | None:
        """Return the next page."""
        try:
            if self._after is None:
                found = self._connection.execute(self._query, (max(max_rows, 1),)).fetchall()
            else:
                found = self._connection.execute(self._behind, (*self._after, max(max_rows, 1))).fetchall()
        except PostgresError as error:
            raise translated(error, self._doing) from None
        if not found:
            return END
        n, first = self._key_size, self._row
        position = {"after": self._after, "row": first}
        keys = tuple(tuple(row[:n]) for row in found)
        self._after = list(keys[-1])
        self._row += len(found)
        return Page(self._rows([row[n:] for row in found], first), position, keys=keys, first=first)

    def _rows(self, found: list[tuple[Any, ...]], first: int) -> pa.RecordBatch:
        values = dict(zip(self._own, zip(*found, strict=True), strict=True)) if self._own else {}
        arrays = [self._column(name, values.get(name), first, len(found)) for name in self._columns]
        if not arrays:
            return pa.RecordBatch.from_struct_array(pa.repeat(pa.scalar({}, pa.struct([])), len(found)))
        return pa.RecordBatch.from_arrays(arrays, names=list(self._columns))

    def _column(self, name: str, values: Sequence[Any] | None, first: int, count: int) -> pa.Array:
        if values is None:
            if name == "_topic":
                return pa.repeat(pa.scalar(self._described.table, pa.string()), count)
            if name == "_offset":
                return pa.array(range(first, first + count), pa.int64())
            return no_metadata(name, count)
        field = self._described.schema.field(name)
        try:
            if pa.types.is_string(field.type):
                values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
            return pa.array(values, field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise ConnectorError(
                f"{self._doing}: column {name!r} has a value that is no {field.type}: {error}", remedy="declare a type that holds it"
            ) from None

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the key of the last of the first `rows` rows."""
        page = cast(Page, chunk)
        return chunk.position if not rows else {"after": list(page.keys[rows - 1]), "row": page.first + rows}

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected:
        """Return the row as JSON, with its number."""
        raw = json.dumps(chunk.rows.slice(row, 1).to_pylist()[0], default=str).encode()
        return Rejected(row, raw, reason, self._described.table, 0, cast(Page, chunk).first + row)

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()
