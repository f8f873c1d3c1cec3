"""Arrow's types and PostgreSQL's: which fit each other, and how rows travel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from streamdsl.connectors.postgres.clients import Connection, PostgresError, sql, translated
from streamdsl.errors import ConnectorError
from streamdsl.schema import Field, nearest

__all__ = ["Target", "as_csv", "created", "identifier", "sql_type", "target_of"]

_TEXT: Final = frozenset(
    {"text", "character varying", "character", "citext", "uuid", "json", "jsonb", "name", "inet", "cidr", "USER-DEFINED"}
)
_INTEGER: Final = frozenset({"smallint", "integer", "bigint", "numeric"})
_FLOAT: Final = frozenset({"real", "double precision", "numeric"})
_JSON: Final = frozenset({"json", "jsonb", "text"})


class Target:
    """What a table has: its columns with their types, and its primary key."""

    def __init__(self, table: str, types: dict[str, str], key: tuple[str, ...]) -> None:
        self.table = table
        self.types = types
        self.key = key

    def check(self, fields: Sequence[Field], doing: str) -> None:
        """Refuse columns that the table has not, or that are of a type that does not fit.

        Raises
        ------
        ConnectorError
            Names the column.
        """
        for field in fields:
            found = self.types.get(field.name)
            if found is None:
                near = nearest(field.name, self.types)
                raise ConnectorError(
                    f"{doing}: the table has no column {field.name!r}{f' (did you mean {near!r}?)' if near else ''}",
                    remedy=f"its columns are {', '.join(self.types)}: add the column, or rename(...) before",
                )
            if found not in _fitting(field.type):
                raise ConnectorError(
                    f"{doing}: column {field.name!r} is {found} in the table, and {field.type} in the topology",
                    remedy="cast it before, or change the type of the table's column",
                )


def identifier(table: str) -> sql.Identifier:
    """Return the quoted name of ``table`` or ``schema.table``."""
    return sql.Identifier(*table.split("."))


def target_of(connection: Connection, table: str, doing: str) -> Target:
    """Return what the server says of a table.

    Raises
    ------
    ConnectorError
        There is no such table, or it may not be seen.
    """
    try:
        with connection.cursor() as cursor:
            named = identifier(table).as_string(connection)
            found = cursor.execute("SELECT to_regclass(%s)::oid", (named,)).fetchone()
            if found is None or found[0] is None:
                raise ConnectorError(f"{doing}: there is no table {table!r}", remedy="create it, or let create=True do so")
            cursor.execute(
                "SELECT attname, format_type(atttypid, NULL), typtype FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid "
                "WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                found,
            )
            types = {name: "USER-DEFINED" if kind == "e" else type_ for name, type_, kind in cursor.fetchall()}
            cursor.execute(
                "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey) "
                "WHERE indrelid = %s AND indisprimary ORDER BY array_position(indkey::int2[], attnum)",
                found,
            )
            key = tuple(name for (name,) in cursor.fetchall())
    except PostgresError as error:
        raise translated(error, doing) from None
    return Target(table, types, key)


def created(connection: Connection, table: str, fields: Sequence[Field], key: Sequence[str], doing: str) -> None:
    """Create a table that does not exist, with the columns of a topology and `key` as its primary key."""
    columns = []
    for field in fields:
        needed = " NOT NULL" if not field.nullable or field.name in key else ""
        columns.append(sql.SQL("{} {}{}").format(sql.Identifier(field.name), sql.SQL(sql_type(field.type)), sql.SQL(needed)))
    if key:
        columns.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(sql.Identifier, key))))
    try:
        connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(identifier(table), sql.SQL(", ").join(columns)))
        connection.commit()
    except PostgresError as error:
        raise translated(error, doing) from None


def sql_type(type_: pa.DataType) -> str:
    """Return the type of PostgreSQL that holds all values of an Arrow type."""
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return (
            "numeric" if type_ == pa.uint64() else "smallint" if type_.bit_width <= 8 else "bigint" if type_.bit_width > 31 else "integer"
        )
    if pa.types.is_floating(type_):
        return "double precision"
    if pa.types.is_decimal(type_):
        return f"numeric({type_.precision},{max(type_.scale, 0)})"
    if pa.types.is_timestamp(type_):
        return "timestamp" if type_.tz is None else "timestamptz"
    if pa.types.is_date(type_):
        return "date"
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return "bytea"
    return "jsonb" if pa.types.is_nested(type_) else "text"


def _fitting(type_: pa.DataType) -> frozenset[str]:
    if pa.types.is_boolean(type_):
        return frozenset({"boolean"})
    if pa.types.is_integer(type_):
        return _INTEGER | _FLOAT
    if pa.types.is_floating(type_):
        return _FLOAT
    if pa.types.is_decimal(type_):
        return frozenset({"numeric"})
    if pa.types.is_timestamp(type_):
        return frozenset({"timestamp without time zone", "timestamp with time zone"})
    if pa.types.is_date(type_):
        return frozenset({"date"})
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return frozenset({"bytea"})
    return _JSON if pa.types.is_nested(type_) else _TEXT


def as_csv(rows: pa.RecordBatch) -> bytes:
    """Return rows as COPY reads them: what is null is empty, and every value is quoted."""
    columns = [_plain(column) for column in rows.columns]
    out = BytesIO()
    options = pa_csv.WriteOptions(include_header=False, quoting_style="all_valid")
    pa_csv.write_csv(pa.RecordBatch.from_arrays(columns, names=rows.schema.names), out, options)
    return out.getvalue()


def _plain(column: pa.Array) -> pa.Array:
    if pa.types.is_nested(column.type):
        texts = [None if value is None else json.dumps(value, default=str, ensure_ascii=False) for value in column.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return pa.array([None if value is None else "\\x" + value.hex() for value in column.to_pylist()], pa.string())
    if pa.types.is_decimal(column.type):
        return pc.cast(column, pa.string())
    return column


def unique(names: Sequence[str], rows: pa.RecordBatch) -> dict[Any, int]:
    """Return the last row of each key."""
    return {key: row for row, key in enumerate(zip(*(rows.column(name).to_pylist() for name in names), strict=True))}
