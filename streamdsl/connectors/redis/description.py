"""`redis(...)`: keys of a Redis server, as a sink and as a look-up."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from streamdsl.connectors.base import Json, Lookup, Sink, SinkWriter, check_texts
from streamdsl.durations import Duration, parse_duration
from streamdsl.errors import TopologyError
from streamdsl.schema import Schema
from streamdsl.secret import Secret

__all__ = ["Redis", "redis"]

_KINDS: Final = ("hash", "string", "stream")


@dataclass(frozen=True, eq=False, repr=False)
class Redis(Sink):
    """Keys of a Redis server; made by `redis`."""

    url: Secret
    key: str
    kind: Literal["hash", "string", "stream"]
    ttl_ms: int | None
    name: str
    schema: Schema

    gathers = False
    delivery = "at_least_once"
    packages = ("redis",)

    def __repr__(self) -> str:
        return f"Redis(key={self.key!r}, kind={self.kind!r})"

    def lookup(self, keys: Sequence[str]) -> Lookup:
        """Return what `join_lookup` asks: the columns of the template are those of the stream, by name or by their order."""
        from streamdsl.connectors.redis.lookup import RedisLookup

        if not len(self.schema):
            raise TopologyError(f"redis({self.key!r}) needs schema=, the columns that are looked up")
        if self.kind == "stream":
            raise TopologyError("redis(kind='stream') holds no row of a key", remedy="use kind='hash' or 'string'")
        return RedisLookup(self.url, self.key, self.kind, self.schema, template_order(columns_of(self.key), keys, f"redis({self.key!r})"))

    def check(self, schema: Schema, keys: Sequence[str]) -> None:
        """Refuse a key that names a column that is not there."""
        named = columns_of(self.key)
        for column in named:
            schema.field(column)
        if keys and not set(named) <= set(keys):
            raise TopologyError(
                f"redis(key={self.key!r}) names columns that are not the key of the table: {', '.join(keys)}",
                remedy="use the table's key columns alone: of a withdrawn row only they are left",
            )
        if keys and self.kind == "stream":
            raise TopologyError("redis(kind='stream') has no last row of a key", remedy="write table.to_stream(), or use kind='hash'")

    def probe(self, written: Schema | None = None, keys: Sequence[str] = ()) -> Iterator[str]:
        """Look whether the server answers."""
        from streamdsl.connectors.redis.clients import RedisError, connected, place_of, translated

        server = connected(self.url)
        doing = f"Redis at {place_of(server)}"
        try:
            server.ping()
        except RedisError as error:
            raise translated(error, doing, "PING") from None
        finally:
            server.close()
        yield f"{doing}: it answers"

    def collides(self, other: Sink) -> str:
        """Refuse two sinks on the same keys."""
        return self.key if isinstance(other, Redis) and (other.url, other.key) == (self.url, self.key) else ""

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Connect."""
        from streamdsl.connectors.redis.writer import RedisWriter

        return RedisWriter(self, schema.visible(), tuple(keys))


def columns_of(key: str) -> list[str]:
    """Return the columns that a template names."""
    return [name for _, name, _, _ in string.Formatter().parse(key) if name is not None]


def template_order(named: Sequence[str], keys: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the columns of a template in the order of the columns of a stream.

    Raises
    ------
    TopologyError
        They are others, and not as many.
    """
    named = tuple(dict.fromkeys(named))
    if set(named) == set(keys):
        return tuple(keys)
    if len(named) != len(keys):
        raise TopologyError(
            f"join_lookup: on= names {', '.join(keys)}, and {what} {', '.join(named) or 'no column'}",
            remedy="name as many, in the same order",
        )
    return named


def redis(
    url: str | Secret,
    key: str,
    *,
    kind: Literal["hash", "string", "stream"] = "hash",
    schema: Any = None,
    ttl: Duration | None = None,
    name: str | None = None,
) -> Redis:
    """Write rows to a Redis server, at least once, or look them up there (`join_lookup`).

    A row that comes again after a crash replaces itself, except in a stream.

    Parameters
    ----------
    url : str or Secret
        ``"redis://USER:PASSWORD@HOST:PORT/DB"`` (``rediss://`` with TLS); what it holds is never shown.
    key : str
        Template of the key; columns stand in braces: ``"account:{account}"``.
    kind : "hash" | "string" | "stream"
        What a key holds: the columns of its last row (a null removes a field); its last row as JSON; or each row, as an entry.
    schema : schema, optional
        Columns that are looked up: fields of a hash, or of a JSON object.
    ttl : duration, optional
        A key is gone so long after its last row.
    name : str, optional
        Default: the key.

    Examples
    --------
    >>> from streamdsl import redis
    >>> redis("redis://localhost", "fraud:account:{account_number}", ttl="1d")
    Redis(key='fraud:account:{account_number}', kind='hash')
    """
    check_texts("redis", 'write redis("redis://host", "account:{account}")', url=url, key=key, name=name)
    if kind not in _KINDS:
        raise TopologyError(f"redis: kind={kind!r} is unknown", remedy=f"known: {', '.join(_KINDS)}")
    try:
        named = columns_of(key)
    except ValueError as error:
        raise TopologyError(f"redis: the key {key!r} is no template: {error}", remedy='write "account:{account}"') from None
    if any(not column.isidentifier() for column in named):
        raise TopologyError(f"redis: the key {key!r} is no template of columns", remedy='write "account:{account}"')
    if not named and kind != "stream":
        raise TopologyError(f"redis: the key {key!r} names no column: all rows would be one", remedy='write "account:{account}"')
    ttl_ms = None if ttl is None else parse_duration(ttl, "ttl")
    if ttl_ms == 0:
        raise TopologyError("redis: ttl= must be longer than 0")
    return Redis(
        url if isinstance(url, Secret) else Secret(url), key, kind, ttl_ms, name or key, Schema.of({} if schema is None else schema)
    )


def described(value: Any) -> str:
    """Return a column's value as Redis keeps it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
