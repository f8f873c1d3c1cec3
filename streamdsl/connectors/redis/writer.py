"""Writes rows in pipelines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.redis.clients import RedisError, connected, place_of, translated
from streamdsl.connectors.redis.description import columns_of, described
from streamdsl.errors import DataError
from streamdsl.schema import Schema

if TYPE_CHECKING:
    from streamdsl.connectors.redis.description import Redis

__all__ = ["RedisWriter"]

_COMMANDS: Final = "HSET HDEL SET XADD DEL PEXPIRE"


class RedisWriter(SinkWriter):
    """Each call is one pipeline, and one answer is waited for."""

    def __init__(self, sink: Redis, schema: Schema, keys: tuple[str, ...]) -> None:
        self._sink = sink
        self._named = columns_of(sink.key)
        self._columns = schema.names
        self._others = [name for name in schema.names if name not in keys] if keys else []
        self._server: Any = connected(sink.url)
        self._doing = f"writing {sink.key!r} to Redis at {place_of(self._server)}"
        try:
            self._server.ping()
        except RedisError as error:
            self._server.close()
            raise translated(error, self._doing, _COMMANDS) from None

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
        except RedisError as error:
            raise translated(error, self._doing, _COMMANDS) from None

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
