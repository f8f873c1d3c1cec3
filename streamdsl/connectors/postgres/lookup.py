"""Looks rows up by key, many keys in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg

from streamdsl.connectors.base import Lookup
from streamdsl.connectors.postgres.clients import PostgresError, connect_options, place_of, sql, translated
from streamdsl.connectors.postgres.columns import Column, Target, columns_query, escaped, identifier, selected
from streamdsl.connectors.postgres.values import read_column
from streamdsl.errors import ConnectorError, DataError
from streamdsl.schema import Schema
from streamdsl.secret import Secret

__all__ = ["PostgresLookup"]

#: Statements at a time in one task.
_CONNECTIONS: Final = 4


class PostgresLookup(Lookup):
    """A table by some of its columns. A connection that breaks is opened anew at the next attempt."""

    packages = ("psycopg",)

    def __init__(self, dsn: Secret, table: str, schema: Schema, key: tuple[str, ...]) -> None:
        self.name = table
        self.schema = schema
        self._dsn = dsn
        self._table = table
        self._key = key
        self._doing = f"looking up in the table {table!r} in {place_of(dsn)}"
        self._idle: asyncio.Queue[psycopg.AsyncConnection[Any] | None] | None = None
        self._query: sql.Composed | None = None

    def _statement(self, columns_there: Mapping[str, Column]) -> sql.Composed:
        # One array a key column: the statement is the same for any number of keys.
        columns = [field for field in self.schema.fields if field.name not in self._key]
        wanted = [selected(field, escaped("t", field.name)) for field in columns]
        names = sql.SQL(", ").join(escaped(f"k{i}") for i in range(len(self._key)))
        arrays = sql.SQL(", ").join(sql.SQL("%s::{}[]").format(sql.SQL(columns_there[column].cast)) for column in self._key)
        same = sql.SQL(" AND ").join(sql.SQL("t.{} = w.{}").format(escaped(column), escaped(f"k{i}")) for i, column in enumerate(self._key))
        return sql.SQL("SELECT w.place, {} FROM unnest({}) WITH ORDINALITY AS w({}, place) JOIN {} AS t ON {}").format(
            sql.SQL(", ").join(wanted) if wanted else sql.SQL("TRUE"), arrays, names, escaped(*self._table.split(".")), same
        )

    def copy(self) -> PostgresLookup:
        """Return one that has no connection yet."""
        return PostgresLookup(self._dsn, self._table, self.schema, self._key)

    def with_schema(self, schema: Schema) -> Lookup:
        """Return the look-up of these columns."""
        return PostgresLookup(self._dsn, self._table, schema, self._key)

    async def open(self) -> None:
        """Connect once, so that a wrong password or a missing table is found when the job starts."""
        self._idle = asyncio.Queue()
        try:
            connection = await psycopg.AsyncConnection.connect(self._dsn.reveal(), autocommit=True, **connect_options())
            named = identifier(self._table).as_string(connection)
            cursor = await connection.execute(columns_query("to_regclass(%s)"), (named,))
            found = {name: Column(*rest) for name, *rest in await cursor.fetchall()}
        except PostgresError as error:
            raise translated(error, self._doing) from None
        try:
            self._check(found)
        except BaseException:
            await connection.close()
            raise
        self._query = self._statement(found)
        self._idle.put_nowait(connection)
        for _ in range(_CONNECTIONS - 1):
            self._idle.put_nowait(None)

    def _check(self, found: Mapping[str, Column]) -> None:
        if not found:
            raise ConnectorError(f"{self._doing}: there is no table {self._table!r}", remedy="create it, or name another one")
        target = Target(self._table, found, (), ())
        target.check([field for field in self.schema.fields if field.name not in self._key], self._doing, read=True)
        for name in self._key:
            if name not in found:
                raise ConnectorError(f"{self._doing}: the table has no column {name!r}", remedy="name its columns: postgres(..., key=...)")

    async def get(self, key: Any) -> Any:
        """Return one row."""
        return (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[Any]) -> Sequence[Any]:
        """Return the rows of several keys, with one statement."""
        assert self._idle is not None and self._query is not None
        arrays = [list(keys)] if len(self._key) == 1 else [list(part) for part in zip(*keys, strict=True)] or [[] for _ in self._key]
        connection = await self._idle.get()
        try:
            if connection is None or connection.closed:
                connection = await psycopg.AsyncConnection.connect(self._dsn.reveal(), autocommit=True, **connect_options())
            cursor = await connection.execute(self._query, arrays)
            found = await cursor.fetchall()
        except PostgresError as error:
            if connection is not None:
                await connection.close()
            connection = None
            raise translated(error, self._doing) from None
        except BaseException:
            # Given up in the middle of a statement: nobody knows what the connection would answer next.
            if connection is not None:
                await connection.close()
            connection = None
            raise
        finally:
            self._idle.put_nowait(connection)
        return self._rows(found, len(keys))

    def _rows(self, found: list[tuple[Any, ...]], count: int) -> list[dict[str, Any] | DataError | None]:
        fields = [field for field in self.schema.fields if field.name not in self._key]
        rows: list[dict[str, Any] | DataError | None] = [None] * count
        if not found:
            return rows
        places, *fetched = zip(*found, strict=True)
        if len(set(places)) < len(places):
            raise ConnectorError(
                f"{self._doing}: a key has more than one row; {', '.join(self._key)} must be unique",
                remedy="name columns that are: postgres(..., key=...)",
            )
        bad: dict[int, str] = {}
        names = [field.name for field in fields]
        columns = [read_column(values, field, bad).to_pylist() for field, values in zip(fields, fetched, strict=False)]
        for place, *values in zip(places, *columns, strict=True):
            rows[place - 1] = dict(zip(names, values, strict=True))
        for at, why in bad.items():
            rows[places[at] - 1] = DataError(f"{self._doing}: {why}", remedy="mend it, or make the schema fit")
        return rows

    async def close(self) -> None:
        """Let the connections go."""
        while self._idle is not None and not self._idle.empty():
            connection = self._idle.get_nowait()
            if connection is not None:
                await connection.close()
