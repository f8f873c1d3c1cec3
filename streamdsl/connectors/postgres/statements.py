"""How rows get into a table: appended, or by key."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from psycopg import Cursor

from streamdsl.connectors.postgres.clients import sql
from streamdsl.connectors.postgres.columns import as_csv, identifier, unique

__all__ = ["Statements"]


class Statements:
    """The statements of one table.

    Parameters
    ----------
    table : str
    columns : sequence of str
    key : sequence of str
        Rows replace those of their key; empty: they are appended.
    withdraws : bool
        Whether a row that has nothing but its key deletes (a table's row that is withdrawn).
    """

    def __init__(self, table: str, columns: Sequence[str], key: Sequence[str], *, withdraws: bool) -> None:
        self._columns = tuple(columns)
        self._key = tuple(key)
        self._others = tuple(name for name in columns if name not in key)
        self._withdraws = withdraws and bool(self._others)
        target = identifier(table)
        stage = sql.Identifier("streamdsl_" + table.replace(".", "_"))
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)")
        self._copy = copy.format(stage if key else target, listed)
        if not key:
            return
        keys = sql.SQL(", ").join(map(sql.Identifier, key))
        given = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in self._others]
        then = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(given)) if given else sql.SQL("NOTHING")
        self._stage = sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA").format(
            stage, listed, target
        )
        self._clear = sql.SQL("TRUNCATE {}").format(stage)
        self._upsert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT ({}) DO {}").format(
            target, listed, listed, stage, keys, then
        )
        matched = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in key]
        self._delete = sql.SQL("DELETE FROM {} WHERE {}").format(target, sql.SQL(" AND ").join(matched))

    def put(self, cursor: Cursor[tuple[object, ...]], rows: pa.RecordBatch) -> None:
        """Write rows with the cursor's transaction."""
        rows = rows.select(list(self._columns))
        if not self._key:
            with cursor.copy(self._copy) as copy:
                copy.write(as_csv(rows))
            return
        last = unique(self._key, rows)
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
