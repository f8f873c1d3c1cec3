"""The job's transaction in a database: its commit point.

Rows and the marker of their checkpoint are one transaction of the database, so a row is there if and only if its checkpoint counts.
The marker's row says as well which worker runs the job. A worker that was replaced finds another name there and commits nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamdsl._native.includes.faults import fault
from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.postgres.clients import Connection, PostgresError, connected, place_of, translated
from streamdsl.connectors.postgres.statements import Statements
from streamdsl.connectors.transaction import Marker, Transaction
from streamdsl.errors import ConnectorError, InternalError

if TYPE_CHECKING:
    from streamdsl.connectors.postgres.description import Postgres

__all__ = ["PostgresTransaction", "TransactionalWriter"]

#: One row a job.
_MARKERS: Final = """
CREATE TABLE IF NOT EXISTS streamdsl_commits (
    job text PRIMARY KEY, worker text NOT NULL, checkpoint bigint, digest text, tables text, accepted bigint,
    committed_at timestamptz NOT NULL DEFAULT now())
"""
#: Rows that a writer holds back behind a barrier before its task is to wait.
_HELD_BYTES: Final = 32 << 20


class PostgresTransaction(Transaction):
    """One connection, and one transaction a checkpoint, for all sinks of the job in one database.

    Parameters
    ----------
    job : str
        Names the row of the markers: one job of that name in a database.
    sinks : sequence of Postgres
    """

    def __init__(self, job: str, sinks: Sequence[Postgres]) -> None:
        self._dsn, self._job = sinks[0].dsn, job
        self._tables = ",".join(sorted({sink.table for sink in sinks}))
        self._doing = f"the transaction of {job!r} in {place_of(self._dsn)}"
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._worker = ""
        self._last: Marker | None = None
        self._settled = 0

    def look(self, worker: str, *, again: bool = False, settled: bool = False) -> Marker | None:
        """Return the marker that stands there now: what is committed is seen at once."""
        connection = connected(self._dsn, f"beginning {self._doing}", autocommit=True)
        try:
            return self._read(connection, worker, again)
        except PostgresError as error:
            raise translated(error, f"beginning {self._doing}") from None
        finally:
            connection.close()

    def open(self, worker: str, *, again: bool = False) -> Marker | None:
        """Write down that this worker runs the job, and return what was committed last."""
        self._worker = worker
        self._connection = connection = connected(self._dsn, f"beginning {self._doing}")
        try:
            connection.execute(_MARKERS)
            connection.commit()
            self._read(connection, worker, again)  # refuses one that has been replaced
            connection.execute(
                "INSERT INTO streamdsl_commits (job, worker) VALUES (%s, %s) ON CONFLICT (job) DO UPDATE SET worker = EXCLUDED.worker",
                (self._job, worker),
            )
            connection.commit()
            self._last = self._read(connection, worker)
            connection.commit()
        except PostgresError as error:
            raise translated(error, f"beginning {self._doing}") from None
        return self._last

    def _read(self, connection: Connection, worker: str, again: bool = False) -> Marker | None:
        if connection.execute("SELECT to_regclass('streamdsl_commits')::oid").fetchone() == (None,):
            return None
        row = connection.execute(
            "SELECT worker, checkpoint, digest, tables, accepted FROM streamdsl_commits WHERE job = %s", (self._job,)
        ).fetchone()
        if row is None:
            return None
        if again and row[0] != worker:
            raise self._replaced(f"beginning {self._doing} again", row[0])
        return None if row[1] is None else Marker(row[1], row[2], elsewhere=row[3] != self._tables, accepted=row[4])

    def begin(self, marker: Marker) -> None:
        """Begin; where the run begins elsewhere than the last one committed, that is committed first, by itself."""
        self._settled = marker.checkpoint_id
        if self._last is None or self._last.elsewhere or marker != self._last or marker.accepted != self._last.accepted:
            self._commit(marker)

    def commit(self, marker: Marker) -> None:
        """Commit the rows with the marker. Nobody writes meanwhile: all writers stand behind the barrier."""
        fault("FP14")
        self._commit(marker)
        fault("FP20")
        self._last = marker
        self._settled = marker.checkpoint_id

    def _commit(self, marker: Marker) -> None:
        def work(connection: Connection) -> None:
            found = connection.execute(
                "UPDATE streamdsl_commits SET checkpoint = %s, digest = %s, tables = %s, accepted = %s, committed_at = now() "
                "WHERE job = %s AND worker = %s",
                (marker.checkpoint_id, marker.digest, self._tables, marker.accepted, self._job, self._worker),
            )
            if found.rowcount != 1:
                connection.rollback()
                row = connection.execute("SELECT worker FROM streamdsl_commits WHERE job = %s", (self._job,)).fetchone()
                raise self._replaced(f"committing {self._doing}", row[0] if row else None)
            fault("FP17")
            connection.commit()

        self._step(work, f"committing {self._doing}")

    def release(self, checkpoint_id: int) -> None:
        """The checkpoint has failed: its rows stay in the transaction."""
        self._settled = max(self._settled, checkpoint_id)

    def settled(self, checkpoint_id: int) -> bool:
        """Whether the checkpoint has been committed or has failed: what stands behind its barrier may follow."""
        return self._settled >= checkpoint_id

    def put(self, statements: Statements, rows: pa.RecordBatch, doing: str) -> None:
        """Write rows; a row that the table refuses leaves nothing of the call behind. From the writers' threads."""

        def work(connection: Connection) -> None:
            # A savepoint: an error would end the whole transaction.
            with connection.transaction(), connection.cursor() as cursor:
                statements.put(cursor, rows)

        self._step(work, doing)

    def _step(self, work: Callable[[Connection], Any], doing: str) -> None:
        with self._lock:
            connection = self._connection
            if connection is None:
                raise InternalError("a transaction that is not open was written to")
            try:
                if connection.info.transaction_status == 0:
                    # Else the savepoint's block would be a transaction of its own.
                    connection.execute("SELECT 1")
                work(connection)
            except PostgresError as error:
                raise translated(error, doing) from None

    def close(self) -> None:
        """Let go; what is not committed never becomes visible."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _replaced(self, doing: str, other: str | None) -> ConnectorError:
        return ConnectorError(
            f"{doing}: another worker runs the job now{f' (process {other})' if other else ''}",
            remedy="run one worker for a job; this one stops",
            replaced=True,
        )


class TransactionalWriter(SinkWriter):
    """Writes within the job's transaction; rows behind a barrier wait until its checkpoint is settled."""

    def __init__(self, transaction: PostgresTransaction, statements: Statements, doing: str) -> None:
        self._transaction = transaction
        self._statements = statements
        self._doing = doing
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._behind = 0  # the checkpoint whose barrier has passed and that is not settled; 0: none

    def _hand_over(self) -> bool:
        if self._behind and not self._transaction.settled(self._behind):
            return False
        self._behind = 0
        while self._held:
            self._transaction.put(self._statements, self._held[0], self._doing)
            self._held_bytes -= self._held.pop(0).nbytes
        return True

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Take rows."""
        if not rows.num_rows:
            return
        if self._hand_over():
            self._transaction.put(self._statements, rows, self._doing)
        else:
            self._held.append(rows)
            self._held_bytes += rows.nbytes

    def has_room(self) -> bool:
        """Return whether not too much waits."""
        return self._hand_over() or self._held_bytes < _HELD_BYTES

    def flush(self) -> None:
        """Write what may be written."""
        self._hand_over()

    def snapshot(self, checkpoint_id: int) -> Json:
        """Put everything so far into the transaction; what comes now belongs to the next."""
        if not self._hand_over():
            raise ConnectorError(f"{self._doing}: rows wait for an earlier checkpoint", remedy="it is tried again")
        self._behind = checkpoint_id
        return {"delivery": "exactly_once"}

    def commit(self, checkpoint_id: int) -> None:
        """The checkpoint is committed: what was held back goes on."""
        self._hand_over()

    def close(self) -> None:
        """Let go; what is not committed is never seen."""
        self._held.clear()
