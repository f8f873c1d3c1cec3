"""Arrow's types and PostgreSQL's: which fit each other, and how rows travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from streamdsl.connectors.postgres.clients import Connection, PostgresError, sql, translated
from streamdsl.errors import ConnectorError, DataError
from streamdsl.schema import Field, nearest

__all__ = ["Column", "Target", "columns_query", "created", "escaped", "identifier", "selected", "sql_type", "target_of", "unique"]

_TEXT: Final = frozenset({"text", "character varying", "character", "citext", "uuid", "json", "jsonb", "inet", "cidr", "an enum"})
_INTEGER: Final = frozenset({"smallint", "integer", "bigint", "numeric"})
_FLOAT: Final = frozenset({"double precision", "numeric"})
_JSON: Final = frozenset({"json", "jsonb", "text"})
#: What a column is: its name, its type, the type without a length, as casts need it, the length, and whether it is never null.
_COLUMNS: Final = (
    "SELECT attname::text, CASE typtype WHEN 'e' THEN 'an enum' ELSE format_type(atttypid, NULL) END, format_type(atttypid, -1), "
    "atttypmod, attnotnull, format_type(atttypid, atttypmod) "
    "FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid WHERE attrelid = {} AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
#: What may stand behind ON CONFLICT.
_UNIQUE: Final = (
    "SELECT indisprimary, ARRAY(SELECT attname::text FROM unnest(indkey::int2[]) WITH ORDINALITY AS k(number, place) "
    "JOIN pg_attribute ON attrelid = indrelid AND attnum = number WHERE place <= indnkeyatts ORDER BY place) "
    "FROM pg_index WHERE indrelid = %s AND indisunique AND indimmediate AND indpred IS NULL AND indexprs IS NULL"
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    type : str
        As it is compared and told, without its length.
    cast : str
        The same where a value is cast to it: ``character`` by itself would be one letter.
    modifier : int
        PostgreSQL's own number for length or scale; -1: there is none.
    never_null : bool
    described : str
        With its length.
    """

    type: str
    cast: str
    modifier: int
    never_null: bool
    described: str


def columns_query(table: str) -> sql.Composed:
    """Return what asks for the columns of a table, which `table` names or is the number of."""
    return sql.SQL(_COLUMNS).format(sql.SQL(table))


class Target:
    """What a table has: its columns, its primary key, and the sets of columns that are unique."""

    def __init__(self, table: str, columns: Mapping[str, Column], key: tuple[str, ...], unique: Sequence[frozenset[str]]) -> None:
        self.table = table
        self.columns = columns
        self.key = key
        self.unique = unique

    def check_key(self, key: Sequence[str], doing: str) -> None:
        """Refuse a key by which rows cannot replace others.

        Raises
        ------
        ConnectorError
        """
        if key and frozenset(key) not in self.unique:
            raise ConnectorError(
                f"{doing}: rows are to replace those of the same {', '.join(map(repr, key))}, which the table does not declare as unique",
                remedy="make it the primary key, or add a unique index: CREATE UNIQUE INDEX ON … (…)",
            )

    def check(self, fields: Sequence[Field], doing: str, *, read: bool = False) -> None:
        """Refuse columns that the table has not, or that are of a type that does not fit; `read`: what is declared has to hold its values.

        Raises
        ------
        ConnectorError
            Names the column.
        """
        for field in fields:
            found = self.columns.get(field.name)
            if found is None:
                near = nearest(field.name, self.columns)
                raise ConnectorError(
                    f"{doing}: the table has no column {field.name!r}{f' (did you mean {near!r}?)' if near else ''}",
                    remedy=f"its columns are {', '.join(self.columns)}: add the column, or rename(...) before",
                )
            if found.type not in _fitting(field.type, read):
                raise ConnectorError(
                    f"{doing}: column {field.name!r} is {found.type} in the table, and {field.type} in the topology",
                    remedy="cast it before, or change the type of the table's column",
                )


def identifier(table: str) -> sql.Identifier:
    """Return the quoted name of ``table`` or ``schema.table``."""
    return sql.Identifier(*table.split("."))


def escaped(*name: str) -> sql.SQL:
    """Return a quoted name for a statement with parameters, where a percent sign is written twice."""
    return sql.SQL(sql.Identifier(*name).as_string(None).replace("%", "%%"))


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
            columns = {name: Column(*rest) for name, *rest in cursor.execute(columns_query("%s"), found).fetchall()}
            unique = cursor.execute(_UNIQUE, found).fetchall()
            key = next((tuple(names) for primary, names in unique if primary), ())
    except PostgresError as error:
        raise translated(error, doing) from None
    return Target(table, columns, key, [frozenset(names) for _, names in unique])


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


def _fitting(type_: pa.DataType, read: bool) -> frozenset[str]:
    if pa.types.is_boolean(type_):
        return frozenset({"boolean"})
    if pa.types.is_integer(type_):
        return _INTEGER | _FLOAT | {"real"} if read else _INTEGER | _FLOAT if type_.bit_width <= 32 else _INTEGER
    if pa.types.is_floating(type_):
        return _FLOAT | {"real"} if read or type_.bit_width <= 32 else _FLOAT
    if pa.types.is_decimal(type_):
        return frozenset({"numeric"})
    if pa.types.is_timestamp(type_):
        return frozenset({"timestamp without time zone", "timestamp with time zone"})
    if pa.types.is_date(type_):
        return frozenset({"date"})
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return frozenset({"bytea"})
    return _JSON if pa.types.is_nested(type_) else _TEXT


def selected(field: Field, of: sql.Composable) -> sql.Composable:
    """Return what selects a column as `values.read_column` takes it: texts and JSON as texts, all else as it is."""
    texts = pa.types.is_string(field.type) or pa.types.is_large_string(field.type) or pa.types.is_nested(field.type)
    return sql.SQL("{}::text").format(of) if texts else of


def unique(names: Sequence[str], rows: pa.RecordBatch, doing: str) -> dict[Any, int]:
    """Return the last row of each key.

    Raises
    ------
    DataError
        A part of a key is null: no row is the same as that.
    """
    for name in names:
        if rows.column(name).null_count:
            row = rows.column(name).is_null().index(True).as_py()
            raise DataError(
                f"{doing}: column {name!r}, a part of the key, is null in row {row} of its batch",
                remedy=f"filter(col({name!r}).is_not_null()) before the sink",
            )
    return {key: row for row, key in enumerate(zip(*(rows.column(name).to_pylist() for name in names), strict=True))}
