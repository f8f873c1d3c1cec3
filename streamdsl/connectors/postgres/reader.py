"""Reads a table in pages, in the order of its key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pyarrow as pa
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader

from streamdsl.connectors.base import END, METADATA_COLUMNS, Chunk, End, Json, Rejected, SplitReader, no_metadata
from streamdsl.connectors.postgres.clients import Connection, PostgresError, connected, place_of, sql, translated
from streamdsl.connectors.postgres.columns import escaped, selected, target_of
from streamdsl.connectors.postgres.values import Unreadable, read_column
from streamdsl.errors import ConnectorError

if TYPE_CHECKING:
    from streamdsl.connectors.postgres.description import Postgres

__all__ = ["TableReader"]


@dataclass(frozen=True, slots=True)
class Page(Chunk):
    """Good rows; `keys` are those of all rows, as texts, and `kept` the numbers of the good ones (None: all of them are)."""

    keys: tuple[tuple[str, ...], ...] = ()
    first: int = 0
    kept: tuple[int, ...] | None = None


class TableReader(SplitReader):
    """Reads the rows behind a key. Rows that come behind it while it reads are read, those in front of it are not."""

    def __init__(self, described: Postgres, position: Json, columns: Sequence[str]) -> None:
        self._described = described
        self._columns = tuple(columns)
        self._doing = f"reading the table {described.table!r} in {place_of(described.dsn)}"
        at = cast(dict[str, Any], position or {"after": None, "row": 0})
        self._after: list[str] | None = at["after"]
        self._row: int = at["row"]
        self._own = [described.schema.field(name) for name in columns if name in described.schema or name not in METADATA_COLUMNS]
        self._connection: Connection = connected(described.dsn, self._doing, autocommit=True)
        try:
            self._query, self._behind, self._nulls = self._statements()
        except BaseException:
            self._connection.close()
            raise

    def _statements(self) -> tuple[sql.Composed, sql.Composed, sql.Composed | None]:
        described = self._described
        target = target_of(self._connection, described.table, self._doing)
        target.check(self._own, self._doing, read=True)
        self._order = order = described.order_by or target.key
        if not order:
            raise ConnectorError(
                f"{self._doing}: the table has no primary key, so nothing says how far it has been read",
                remedy="name columns that are unique together: order_by=",
            )
        for name in order:
            if name not in target.columns:
                raise ConnectorError(f"{self._doing}: order_by= names {name!r}, which the table does not have")
        # Qualified: by its bare name a column would be the text of it that is selected.
        places = [escaped("t", name) for name in order]
        keys = sql.SQL(", ").join(places)
        wanted = [sql.SQL("{}::text").format(place) for place in places]
        wanted += [cast(sql.Composed, selected(field, escaped("t", field.name))) for field in self._own]
        start = sql.SQL("SELECT {} FROM {} AS t").format(sql.SQL(", ").join(wanted), escaped(*described.table.split(".")))
        given = sql.SQL(", ").join(sql.SQL("%s::{}").format(sql.SQL(target.columns[name].cast)) for name in order)
        end = sql.SQL(" ORDER BY {} LIMIT %s").format(keys)
        # Nothing is behind a null: such rows would never come.
        absent = [sql.SQL("{} IS NULL").format(escaped("t", name)) for name in order if not target.columns[name].never_null]
        nulls = sql.SQL("SELECT 1 FROM {} AS t WHERE {} LIMIT 1").format(escaped(*described.table.split(".")), sql.SQL(" OR ").join(absent))
        return start + end, start + sql.SQL(" WHERE ({}) > ({})").format(keys, given) + end, nulls if absent else None

    def read(self, max_rows: int) -> Chunk | End | None:
        """Return the next page."""
        wanted = max(max_rows, 1)
        # One more: rows of one key on both sides of a page's end would be lost.
        if self._after is None:
            found = self._fetched(self._query, (wanted + 1,))
        else:
            found = self._fetched(self._behind, (*self._after, wanted + 1))
        if not found:
            if self._nulls is not None and self._fetched(self._nulls, ()):
                raise self._unordered("is null in a row")
            return END
        n, first = len(self._order), self._row
        keys = tuple(tuple(row[:n]) for row in found)
        if any(None in key for key in keys):
            raise self._unordered("is null in a row")
        if any(one == other for one, other in pairwise(keys)):
            raise self._unordered("is the same in several rows")
        found, keys = found[:wanted], keys[:wanted]
        position = {"after": self._after, "row": first}
        self._after = list(keys[-1])
        self._row += len(found)
        bad: dict[int, str] = {}
        rows = self._rows([row[n:] for row in found], first, bad)
        if not bad:
            return Page(rows, position, keys=keys, first=first)
        kept = tuple(row for row in range(len(found)) if row not in bad)
        rejected = tuple(
            Rejected(row - number, _raw(self._own, found[row][n:]), bad[row], self._described.table, 0, first + row)
            for number, row in enumerate(sorted(bad))
        )
        return Page(rows.take(pa.array(kept, pa.int64())), position, rejected=rejected, keys=keys, first=first, kept=kept)

    def _fetched(self, query: sql.Composed, given: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            try:
                return self._connection.execute(query, given).fetchall()
            except psycopg.DataError as error:
                if error.sqlstate is not None:
                    raise
                # Python has no object for a value of some row: once more, with those values as texts.
                cursor = self._connection.cursor()
                for type_, loader in (("timestamptz", TimestamptzLoader), ("timestamp", TimestampLoader), ("date", DateLoader)):
                    cursor.adapters.register_loader(type_, _tolerant(loader))
                return cursor.execute(query, given).fetchall()
        except PostgresError as error:
            raise translated(error, self._doing) from None

    def _unordered(self, what: str) -> ConnectorError:
        return ConnectorError(
            f"{self._doing}: {', '.join(map(repr, self._order))}, by which it is read, {what}",
            remedy="name columns that are unique together and never null: order_by=",
        )

    def _rows(self, found: list[tuple[Any, ...]], first: int, bad: dict[int, str]) -> pa.RecordBatch:
        read = {
            field.name: read_column(values, field, bad)
            for field, values in zip(self._own, zip(*found, strict=True) if self._own else (), strict=True)
        }
        arrays = [read[name] if name in read else self._metadata(name, first, len(found)) for name in self._columns]
        if not arrays:
            return pa.RecordBatch.from_struct_array(pa.repeat(pa.scalar({}, pa.struct([])), len(found)))
        return pa.RecordBatch.from_arrays(arrays, names=list(self._columns))

    def _metadata(self, name: str, first: int, count: int) -> pa.Array:
        if name == "_topic":
            return pa.repeat(pa.scalar(self._described.table, pa.string()), count)
        if name == "_partition":
            return pa.repeat(pa.scalar(0, pa.int64()), count)
        if name == "_offset":
            return pa.array(range(first, first + count), pa.int64())
        return no_metadata(name, count)

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the key of the last of the first `rows` good rows; behind all of them it is that of the last row."""
        page = cast(Page, chunk)
        behind = len(page.keys) if rows == chunk.rows.num_rows else _taken(page, rows)
        return chunk.position if not behind else {"after": list(page.keys[behind - 1]), "row": page.first + behind}

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected:
        """Return a good row as JSON, with its number."""
        page = cast(Page, chunk)
        raw = json.dumps(chunk.rows.slice(row, 1).to_pylist()[0], default=str).encode()
        return Rejected(row, raw, reason, self._described.table, 0, page.first + _taken(page, row + 1) - 1)

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()


def _taken(page: Page, rows: int) -> int:
    """Return how many rows of a page the first `rows` good ones are the last of."""
    return rows if page.kept is None or not rows else page.kept[rows - 1] + 1


def _raw(fields: Sequence[Any], values: Sequence[Any]) -> bytes:
    return json.dumps({field.name: value for field, value in zip(fields, values, strict=True)}, default=str, ensure_ascii=False).encode()


def _tolerant(plain: Any) -> Any:
    class Tolerant(plain):  # type: ignore[misc]
        def load(self, data: Any) -> Any:
            try:
                return super().load(data)
            except psycopg.DataError:
                return Unreadable(bytes(data).decode())

    return Tolerant
