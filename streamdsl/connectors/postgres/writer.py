"""Writes rows by key and commits them by itself: after a crash they are written again, over themselves."""

from __future__ import annotations

import pyarrow as pa

from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.postgres.clients import Connection, PostgresError, translated
from streamdsl.connectors.postgres.statements import Statements

__all__ = ["AtLeastOnceWriter"]


class AtLeastOnceWriter(SinkWriter):
    """Writes in a transaction a call. A checkpoint knows that everything before it is committed."""

    def __init__(self, connection: Connection, statements: Statements, doing: str) -> None:
        self._connection = connection
        self._statements = statements
        self._doing = doing

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Write and commit rows."""
        if not rows.num_rows:
            return
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                self._statements.put(cursor, rows)
        except PostgresError as error:
            raise translated(error, self._doing) from None

    def snapshot(self, checkpoint_id: int) -> Json:
        """Everything that was written is committed."""
        return {"delivery": "at_least_once"}

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()
