"""Connections to PostgreSQL, and its errors in our words."""

from __future__ import annotations

from typing import Any, Final

from streamdsl.errors import ConnectorError, DataError, StreamError
from streamdsl.secret import Secret

# The one place that imports the client, for the one who has not installed it.
try:
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict
except ImportError as missing:  # pragma: no cover - seen by those who installed the library alone
    raise ConnectorError("postgres(...) needs the package psycopg", remedy="pip install 'streamdsl[postgres]'") from missing

__all__ = ["Connection", "PostgresError", "connect_options", "connected", "place_of", "sql", "translated"]

Connection = psycopg.Connection[tuple[Any, ...]]
PostgresError = psycopg.Error

#: How long to wait for a server that does not answer: to connect, for an acknowledgement, for a statement.
_CONNECT_S: Final = 10
_SILENT_MS: Final = 10_000
_STATEMENT_MS: Final = 30_000
#: Classes of SQLSTATE that a new attempt may mend: connection, resources, shutdown, system, conflict of transactions.
_PASSING: Final = ("08", "53", "57", "58", "40", "55")
_REFUSED: Final = ("authentication", "pg_hba.conf", "does not exist", "no password")


def place_of(dsn: Secret) -> str:
    """Return server and database, without the password."""
    try:
        known = conninfo_to_dict(dsn.reveal())
    except PostgresError:
        # Its text may show the password.
        raise ConnectorError(
            "postgres(...): the connection string cannot be read", remedy='write "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"'
        ) from None
    return f"{known.get('host') or 'localhost'}:{known.get('port') or 5432}/{known.get('dbname') or known.get('user') or ''}"


def connect_options() -> dict[str, Any]:
    """Return what every connection is opened with: bounds for a server that does not answer, and values as texts that lose nothing."""
    return {
        "connect_timeout": _CONNECT_S,
        "tcp_user_timeout": _SILENT_MS,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "streamdsl",
        "options": f"-c statement_timeout={_STATEMENT_MS} -c timezone=UTC -c client_encoding=UTF8 -c datestyle=ISO "
        "-c extra_float_digits=1 -c bytea_output=hex",
    }


def connected(dsn: Secret, doing: str, *, autocommit: bool = False) -> Connection:
    """Open a connection.

    Raises
    ------
    ConnectorError
        The server cannot be reached (``context["recoverable"]``), or it refuses.
    """
    try:
        return psycopg.connect(dsn.reveal(), autocommit=autocommit, **connect_options())
    except PostgresError as error:
        raise translated(error, doing) from None


def translated(error: PostgresError, doing: str) -> StreamError:
    """Return what to raise: a bad row, a server that is away, or something that somebody has to mend."""
    state = error.sqlstate or ""
    text = " ".join(str(error).split())
    # Two rows of one statement may have keys that are the same to the table alone: in smaller parts they follow one another.
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError | psycopg.errors.CardinalityViolation):
        lines = (error.diag.context or "").splitlines()
        # The one that names the column, where there is one.
        told = next((line for line in lines if line.startswith("COPY")), lines[0] if lines else "")
        return DataError(
            f"{doing}: {error.diag.message_primary or text}{f' ({told})' if told else ''}",
            remedy="make the rows fit the table: its types, sizes and constraints",
        )
    if state.startswith("28") or (not state and any(word in text for word in _REFUSED)):
        return ConnectorError(f"{doing}: {text}", remedy="look at user, password, database and pg_hba.conf of the server")
    if state == "42501":
        return ConnectorError(f"{doing}: {text}", remedy="grant the user SELECT, INSERT, UPDATE and DELETE on the tables it uses")
    if state.startswith("42") or state.startswith("3F"):
        return ConnectorError(f"{doing}: {text}", remedy="make the table what the topology needs, or name another one")
    if (not state and isinstance(error, psycopg.OperationalError)) or (state and state.startswith(_PASSING)):
        return ConnectorError(f"{doing}: {text}", remedy="it is tried again; what was committed stays", recoverable=True)
    return ConnectorError(f"{doing}: {text}")
