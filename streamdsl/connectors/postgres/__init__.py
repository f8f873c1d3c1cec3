"""PostgreSQL: a table as a sink, exactly once or by key, and as a bounded source."""

from streamdsl.connectors.postgres.description import Postgres, postgres

__all__ = ["Postgres", "postgres"]
