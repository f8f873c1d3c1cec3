"""Looks keys of a Redis server up, many in one pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from streamdsl.connectors.base import Lookup
from streamdsl.connectors.redis.clients import RedisError, async_connected, place_of, translated
from streamdsl.connectors.redis.description import described
from streamdsl.errors import DataError
from streamdsl.formats.object_row import row_of_json, row_of_texts
from streamdsl.schema import Schema
from streamdsl.secret import Secret

__all__ = ["RedisLookup"]

_COMMANDS: Final = "HGETALL GET"


class RedisLookup(Lookup):
    """What a key holds: the fields of a hash, or a JSON object. `named` are the columns of the template, in the order of the key."""

    packages = ("redis",)

    def __init__(self, url: Secret, template: str, kind: str, schema: Schema, named: tuple[str, ...]) -> None:
        self.name, self.schema = template, schema
        self._url, self._kind, self._named = url, kind, named
        self._server: Any = None
        self._doing = ""

    def copy(self) -> RedisLookup:
        """Return one that has no connection yet."""
        return RedisLookup(self._url, self.name, self._kind, self.schema, self._named)

    def with_schema(self, schema: Schema) -> RedisLookup:
        """Return the look-up of these columns."""
        return RedisLookup(self._url, self.name, self._kind, schema, self._named)

    async def open(self) -> None:
        """Connect once, so that a wrong password is found when the job starts."""
        self._server = async_connected(self._url)
        self._doing = f"looking up {self.name!r} in Redis at {place_of(self._server)}"
        try:
            await self._server.ping()
        except RedisError as error:
            await self._server.aclose()
            raise translated(error, self._doing, _COMMANDS) from None

    async def get(self, key: Any) -> Any:
        """Return what one key holds."""
        found = (await self.get_many([key]))[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def get_many(self, keys: Sequence[Any]) -> Sequence[Any]:
        """Return what several keys hold, asked for in one pipeline."""
        pipeline = self._server.pipeline(transaction=False)
        named = [self._key(key) for key in keys]
        for key in named:
            (pipeline.hgetall if self._kind == "hash" else pipeline.get)(key)
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except RedisError as error:
            raise translated(error, self._doing, _COMMANDS) from None
        return [self._row(key, answer) for key, answer in zip(named, answers, strict=True)]

    def _key(self, key: Any) -> str:
        values = key if len(self._named) > 1 else (key,)
        return self.name.format(**{name: described(value) for name, value in zip(self._named, values, strict=True)})

    def _row(self, key: str, answer: Any) -> Any:
        if isinstance(answer, RedisError):
            return translated(answer, self._doing, _COMMANDS)
        if not answer:
            return None
        try:
            return row_of_texts(answer, self.schema) if self._kind == "hash" else row_of_json(answer, self.schema)
        except ValueError as error:
            return DataError(f"{self._doing}: what {key!r} holds is no row: {error}", remedy="mend it, or make the schema fit")

    async def close(self) -> None:
        """Let the connections go."""
        if self._server is not None:
            await self._server.aclose()
