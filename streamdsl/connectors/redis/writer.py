"""Writes rows in pipelines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.redis.description import columns_of, described
from streamdsl.errors import ConnectorError, DataError
from streamdsl.schema import Schema

# The one place that imports the client, for the one who has not installed it.
try:
    import redis as client
    from redis import exceptions
except ImportError as missing:  # pragma: no cover - seen by those who installed the library alone
    raise ConnectorError("redis(...) needs the package redis", remedy="pip install 'streamdsl[redis]'") from missing

if TYPE_CHECKING:
    from streamdsl.connectors.redis.description import Redis

__all__ = ["RedisWriter"]

_WAIT_S = 10.0


class RedisWriter(SinkWriter):
    """Each call is one pipeline, and one answer is waited for."""

    def __init__(self, sink: Redis, schema: Schema, keys: tuple[str, ...]) -> None:
        self._sink = sink
        self._named = columns_of(sink.key)
        self._columns = schema.names
        self._others = [name for name in schema.names if name not in keys] if keys else []
        self._server: Any = client.Redis.from_url(
            sink.url.reveal(), socket_timeout=_WAIT_S, socket_connect_timeout=_WAIT_S, decode_responses=False, client_name="streamdsl"
        )
        place = self._server.connection_pool.connection_kwargs
        self._doing = f"writing {sink.key!r} to Redis at {place.get('host', place.get('path', '?'))}:{place.get('port', '')}"
        try:
            self._server.ping()
        except exceptions.RedisError as error:
            self._server.close()
            raise self._translated(error) from None

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Write rows."""
        if not rows.num_rows:
            return
        keys = self._keys(rows)
        listed = rows.select(self._columns).to_pylist()
        texts = json_lines(rows.select(self._columns)).split(b"\n") if self._sink.kind == "string" else []
        pipeline = self._server.pipeline(transaction=False)
        for row, (key, values) in enumerate(zip(keys, listed, strict=True)):
            if self._others and all(values[name] is None for name in self._others):
                pipeline.delete(key)
                continue
            self._put(pipeline, key, values, texts[row] if texts else b"")
            if self._sink.ttl_ms is not None:
                pipeline.pexpire(key, self._sink.ttl_ms)
        try:
            pipeline.execute()
        except exceptions.RedisError as error:
            raise self._translated(error) from None

    def _put(self, pipeline: Any, key: str, values: dict[str, Any], text: bytes) -> None:
        if self._sink.kind == "string":
            pipeline.set(key, text)
            return
        present = {name: _text(value) for name, value in values.items() if value is not None}
        if self._sink.kind == "stream":
            pipeline.xadd(key, present or {"": ""})
            return
        gone = [name for name, value in values.items() if value is None]
        if gone:
            pipeline.hdel(key, *gone)
        if present:
            pipeline.hset(key, mapping=present)

    def _keys(self, rows: pa.RecordBatch) -> list[str]:
        parts = {name: rows.column(name).to_pylist() for name in self._named}
        for name, values in parts.items():
            if None in values:
                raise DataError(
                    f"{self._doing}: column {name!r}, a part of the key, is null in row {values.index(None)} of its batch",
                    remedy=f"filter(col({name!r}).is_not_null()) before the sink",
                )
        template = self._sink.key
        return [template.format(**{name: described(values[row]) for name, values in parts.items()}) for row in range(rows.num_rows)]

    def _translated(self, error: Exception) -> ConnectorError:
        if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
            return ConnectorError(f"{self._doing}: the server refuses the user or the password", remedy="look at the url")
        if isinstance(error, exceptions.NoPermissionError):
            return ConnectorError(f"{self._doing}: {error}", remedy="allow the user the commands HSET HDEL SET XADD DEL PEXPIRE PING")
        if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
            return ConnectorError(f"{self._doing}: {error}", remedy="it is tried again; what was committed stays", recoverable=True)
        text = str(error)
        passing = text.startswith(("OOM", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MISCONF"))
        remedy = "another program keeps something else under that key" if "WRONGTYPE" in text else None
        return ConnectorError(f"{self._doing}: {text}", remedy=remedy, recoverable=passing)

    def snapshot(self, checkpoint_id: int) -> Json:
        """Everything that was written has been answered."""
        return {"delivery": "at_least_once"}

    def close(self) -> None:
        """Let the connection go."""
        self._server.close()


def _text(value: Any) -> str | bytes:
    if isinstance(value, bytes):
        return value
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list | dict) else described(value)
