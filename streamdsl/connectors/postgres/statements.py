"""How rows get into a table: appended, or by key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa
from psycopg import Cursor

from streamdsl.connectors.postgres.clients import sql
from streamdsl.connectors.postgres.columns import Target, escaped, identifier, unique
from streamdsl.connectors.postgres.values import as_csv, check_exact

__all__ = ["Statements"]


class Statements:
    """The statements of one table.

    Parameters
    ----------
    target : Target
    columns : sequence of str
    key : sequence of str
        Rows replace those of their key; empty: they are appended.
    withdraws : bool
        Whether a row that has nothing but its key deletes (a table's row that is withdrawn).
    doing : str
        For errors.
    """

    def __init__(self, target: Target, columns: Sequence[str], key: Sequence[str], *, withdraws: bool, doing: str) -> None:
        self._columns = tuple(columns)
        self._key = tuple(key)
        self._others = tuple(name for name in columns if name not in key)
        self._withdraws = withdraws and bool(self._others)
        self._target, self._doing = target, doing
        table = identifier(target.table)
        # The names of tables may be longer than what a prefix leaves room for, and a table may have two sinks.
        stage = sql.Identifier(f"streamdsl_{_digest(target.table, *columns)}")
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)")
        self._copy = copy.format(stage if key else table, listed)
        if not key:
            return
        keys = sql.SQL(", ").join(map(sql.Identifier, key))
        given = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in self._others]
        then = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(given)) if given else sql.SQL("NOTHING")
        self._stage = sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA").format(
            stage, listed, table
        )
        self._clear = sql.SQL("TRUNCATE {}").format(stage)
        self._upsert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT ({}) DO {}").format(
            table, listed, listed, stage, keys, then
        )
        matched = [sql.SQL("{} = %s").format(escaped(name)) for name in key]
        self._delete = sql.SQL("DELETE FROM {} WHERE {}").format(escaped(*target.table.split(".")), sql.SQL(" AND ").join(matched))

    def put(self, cursor: Cursor[tuple[object, ...]], rows: pa.RecordBatch) -> None:
        """Write rows with the cursor's transaction."""
        rows = rows.select(list(self._columns))
        check_exact(rows, self._target, self._doing)
        if not self._key:
            with cursor.copy(self._copy) as copy:
                copy.write(as_csv(rows))
            return
        last = unique(self._key, rows, self._doing)
        gone = {row for row in last.values() if self._withdraws and not any(rows.column(name)[row].is_valid for name in self._others)}
        kept = [row for row in last.values() if row not in gone]
        if gone:
            cursor.executemany(self._delete, [key for key, row in last.items() if row in gone])
        if kept:
            cursor.execute(self._stage)
            with cursor.copy(self._copy) as copy:
                copy.write(as_csv(rows.take(pa.array(kept, pa.int64()))))
            cursor.execute(self._upsert)
            cursor.execute(self._clear)


def _digest(*names: str) -> str:
    return hashlib.blake2b("\0".join(names).encode(), digest_size=12).hexdigest()
