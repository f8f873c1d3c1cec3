"""`postgres(...)`: a table, as a sink or as a bounded source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from streamdsl.connectors.base import Json, Lookup, Sink, SinkWriter, Source, SplitReader, check_texts
from streamdsl.connectors.transaction import Transaction
from streamdsl.errors import ConfigError, ConnectorError, TopologyError
from streamdsl.schema import Schema
from streamdsl.secret import Secret

__all__ = ["Postgres", "postgres"]


@dataclass(frozen=True, eq=False, repr=False)
class Postgres(Source, Sink):
    """A table of PostgreSQL; made by `postgres`."""

    dsn: Secret
    table: str
    name: str
    schema: Schema
    key: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    create: bool = False
    errors: Any = None

    bounded = True
    gathers = False
    position_form = "keys of a table"
    packages = ("psycopg",)

    def __repr__(self) -> str:
        return f"Postgres(table={self.table!r}{f', key={self.key}' if self.key else ''})"

    @property
    def transactional(self) -> bool:  # type: ignore[override]
        """Whether rows become visible by the job's transaction."""
        return self.delivery == "exactly_once"

    def with_schema(self, schema: Any) -> Postgres:
        """Return the same table with the columns of `schema`."""
        return replace(self, schema=Schema.of(schema))

    # As a source ------------------------------------------------------------------------------------------------

    def splits(self) -> Sequence[str]:
        """Return the table."""
        return (self.table,)

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Read the rows behind a key."""
        from streamdsl.connectors.postgres.reader import TableReader

        return TableReader(self, position, columns)

    def lookup(self, keys: Sequence[str]) -> Lookup:
        """Return what `join_lookup` asks: the rows of the table by `key`, or by the columns of the stream."""
        from streamdsl.connectors.postgres.lookup import PostgresLookup

        if not len(self.schema):
            raise TopologyError(f"postgres({self.table!r}) needs schema=, the columns that are looked up")
        columns = self.key or tuple(keys)
        if len(columns) != len(keys):
            raise TopologyError(
                f"join_lookup: on= names {len(keys)} columns, and postgres({self.table!r}, key=...) {len(columns)}",
                remedy="name as many, in the same order",
            )
        return PostgresLookup(self.dsn, self.table, self.schema, columns)

    # As a sink --------------------------------------------------------------------------------------------------

    def check(self, schema: Schema, keys: Sequence[str]) -> None:
        """Refuse keys that the rows do not have."""
        for name in self.key:
            schema.field(name)
        if keys and self.key and set(keys) != set(self.key):
            raise TopologyError(
                f"postgres({self.table!r}, key={list(self.key)}) writes a table that is keyed by {list(keys)}",
                remedy="leave key= out: a table is written by its own key",
            )
        if self.delivery == "at_least_once" and not (self.key or keys):
            raise TopologyError(
                f'postgres({self.table!r}, delivery="at_least_once") would write rows twice after a crash',
                remedy="name the columns that tell rows apart, key=: then a row that comes again replaces itself",
            )

    def probe(self, written: Schema | None = None, keys: Sequence[str] = ()) -> Iterator[str]:
        """Look whether the server answers, and has a table that fits."""
        from streamdsl.connectors.postgres.clients import connected, place_of
        from streamdsl.connectors.postgres.columns import target_of

        doing = f"the table {self.table!r} in {place_of(self.dsn)}"
        with connected(self.dsn, doing) as connection:
            yield f"{place_of(self.dsn)}: PostgreSQL answers"
            try:
                target = target_of(connection, self.table, doing)
            except ConnectorError:
                if written is None or not self.create:
                    raise
                yield f"{doing}: it is not there yet, and will be made"
                return
            target.check((self.schema if written is None else written).fields, doing, read=written is None)
            if written is not None:
                target.check_key(tuple(keys) or self.key, doing)
            yield f"{doing}: its columns fit"

    def overwrites(self, source: Source) -> str:
        """Return the table if `source` reads it."""
        same = isinstance(source, Postgres) and (source.dsn, source.table) == (self.dsn, self.table)
        return f"table {self.table!r}" if same else ""

    def new_transaction(self, job: str, sinks: Sequence[Sink]) -> Transaction:
        """Return the transaction of the job in this database."""
        from streamdsl.connectors.postgres.transaction import PostgresTransaction

        others = [sink for sink in sinks if not isinstance(sink, Postgres) or sink.dsn != self.dsn]
        if others:
            raise ConfigError(
                f"the sinks {self.name!r} and {others[0].name!r} are exactly once in two places: no transaction spans both",
                remedy='give one of them delivery="at_least_once"; postgres(...) then needs key=, so that rows replace themselves',
            )
        return PostgresTransaction(job, cast(Sequence[Postgres], sinks))

    def open_in(self, transaction: Transaction, schema: Schema, keys: Sequence[str], task: int) -> SinkWriter:
        """Write within the job's transaction."""
        from streamdsl.connectors.postgres.transaction import PostgresTransaction, TransactionalWriter

        assert isinstance(transaction, PostgresTransaction)
        connection, statements, doing = self._opened(schema, keys)
        connection.close()
        return TransactionalWriter(transaction, statements, doing)

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Write by key, over what was written before."""
        from streamdsl.connectors.postgres.writer import AtLeastOnceWriter

        connection, statements, doing = self._opened(schema, keys)
        return AtLeastOnceWriter(connection, statements, doing)

    def _opened(self, schema: Schema, keys: Sequence[str]) -> tuple[Any, Any, str]:
        from streamdsl.connectors.postgres.clients import connected, place_of
        from streamdsl.connectors.postgres.columns import created, target_of
        from streamdsl.connectors.postgres.statements import Statements

        doing = f"writing to the table {self.table!r} in {place_of(self.dsn)}"
        fields, key = schema.visible().fields, tuple(keys) or self.key
        connection = connected(self.dsn, doing)
        try:
            if self.create:
                created(connection, self.table, fields, key, doing)
            target = target_of(connection, self.table, doing)
            target.check(fields, doing)
            target.check_key(key, doing)
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        return connection, Statements(target, schema.visible().names, key, withdraws=bool(keys), doing=doing), doing


def postgres(
    dsn: str | Secret,
    table: str,
    schema: Any = None,
    *,
    key: str | Sequence[str] | None = None,
    order_by: str | Sequence[str] | None = None,
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once",
    create: bool = False,
    errors: Any = None,
    name: str | None = None,
) -> Postgres:
    """Read or write a table of PostgreSQL.

    Parameters
    ----------
    dsn : str or Secret
        ``"postgresql://USER:PASSWORD@HOST:PORT/DATABASE"``; what it holds is never shown.
    table : str
        ``"table"`` or ``"schema.table"``.
    schema : dataclass, pyarrow.Schema or mapping, optional
        Columns of a source; a sink takes the columns of the stream.
    key : str or sequence of str, optional
        Of a sink: rows replace those with the same values in these columns, which the table declares as unique. A `Table` is
        written by its own key, and its withdrawn rows are deleted. Without a key rows are appended. Of a look-up: the columns that
        `join_lookup(on=)` is compared with (default: those of the same names).
    order_by : str or sequence of str, optional
        Of a source: columns that are unique together; it is read in their order (default: the primary key).
    delivery : "exactly_once" | "at_least_once"
        In one transaction with the job's checkpoint, which also writes ``streamdsl_commits``; or at once and again after a crash,
        which needs `key`. Beside an exactly-once topic of Kafka it is the second.
    create : bool
        Create the table if there is none.
    errors : "fail" | "skip" | DeadLetter, optional
        Of a source: what becomes of rows that do not fit `schema`. Of a sink, `to(..., errors=)` says it.
    name : str, optional
        Default: the table.

    Raises
    ------
    ConnectorError
        When the job starts: the server refuses, the table or a column is missing, or a type does not fit.

    Examples
    --------
    >>> from streamdsl import postgres
    >>> postgres("postgresql://shop:secret@db/shop", "alerts", key="alert_id")
    Postgres(table='alerts', key=('alert_id',))
    """
    check_texts("postgres", 'write postgres("postgresql://user@host/database", "table")', dsn=dsn, table=table, name=name)
    if delivery not in ("exactly_once", "at_least_once"):
        raise TopologyError(f"postgres: delivery={delivery!r} is unknown", remedy='"exactly_once" or "at_least_once"')
    if not table or not all(table.split(".")) or table.count(".") > 1:
        raise TopologyError(f"postgres: {table!r} is no name of a table", remedy='write "table" or "schema.table"')
    return Postgres(
        dsn if isinstance(dsn, Secret) else Secret(dsn),
        table,
        name or table,
        Schema(()) if schema is None else Schema.of(schema),
        _names(key),
        _names(order_by),
        delivery,
        create,
        errors,
    )


def _names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)
