"""Looks rows up by requests: one for each key, as many at a time as the verb allows."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from streamdsl.connectors.base import Lookup
from streamdsl.connectors.http.clients import AGAIN, REFUSED, SHOWN, httpx
from streamdsl.connectors.http.description import reached
from streamdsl.errors import ConnectorError, DataError
from streamdsl.formats.object_row import row_of_json
from streamdsl.schema import Schema

if TYPE_CHECKING:
    from streamdsl.connectors.http.description import Http

__all__ = ["HttpLookup", "columns_of"]

_NOTHING: Final = frozenset({204, 404, 410})


def columns_of(url: str) -> tuple[str, ...]:
    """Return the columns that a template names, each once.

    Raises
    ------
    ValueError
        It is no template.
    """
    return tuple(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(url) if name is not None))


class HttpLookup(Lookup):
    """A URL with the key in it, which answers a JSON object; 204, 404 and 410 say that there is none."""

    packages = ("httpx",)

    def __init__(self, described: Http, schema: Schema, named: tuple[str, ...]) -> None:
        self.name, self.schema = described.name, schema
        self._described, self._named = described, named
        self._client: Any = None

    def copy(self) -> HttpLookup:
        """Return one that has no client yet."""
        return HttpLookup(self._described, self.schema, self._named)

    def with_schema(self, schema: Schema) -> HttpLookup:
        """Return the look-up of these columns."""
        return HttpLookup(self._described, schema, self._named)

    def probe(self) -> Iterator[str]:
        """Look whether somebody listens there; no request is made."""
        yield from reached(self._described.url)

    async def open(self) -> None:
        """Make a client; no request is made before there is a row."""
        described = self._described
        headers = {"Accept": "application/json", "User-Agent": "streamdsl"}
        headers |= {name: value.reveal() for name, value in described.headers.items()}
        # How many calls there are at a time is the verb's.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=described.concurrency)
        self._client = httpx.AsyncClient(headers=headers, timeout=described.timeout_ms / 1000, limits=limits, follow_redirects=False)

    async def get(self, key: Any) -> Any:
        """Ask for one key.

        Raises
        ------
        ConnectorError
            There was no answer, or one that another attempt may mend.
        DataError
            The answer is no row.
        """
        values = key if len(self._named) > 1 else (key,)
        parts = {name: quote(_text(value), safe="") for name, value in zip(self._named, values, strict=True)}
        place = self._described.place
        try:
            answer = await self._client.get(self._described.url.reveal().format(**parts))
        except httpx.HTTPError as error:
            raise ConnectorError(f"{place} does not answer: {type(error).__name__}: {error}", recoverable=True) from None
        if answer.status_code in _NOTHING:
            return None
        if not answer.is_success:
            shown = f"{place} answers {answer.status_code} for the key {key!r}: {answer.text[:SHOWN]!r}"
            if answer.status_code in REFUSED:
                raise ConnectorError(shown, remedy="look at headers=: the server wants another token, or more rights")
            if answer.status_code in AGAIN or answer.is_server_error:
                raise ConnectorError(shown, remedy="it is tried again", recoverable=True)
            raise DataError(shown, remedy="mend the row or the url; 404 says that there is nothing for a key")
        try:
            return row_of_json(answer.content, self.schema)
        except ValueError as error:
            raise DataError(f"{place}: the answer for the key {key!r} is no row: {error}", remedy="make schema= fit the answer") from None

    async def close(self) -> None:
        """Let the connections go."""
        if self._client is not None:
            await self._client.aclose()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
