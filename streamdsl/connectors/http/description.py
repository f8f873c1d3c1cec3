"""`http(...)`: a webhook, as a sink, and a service that is asked by key."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from streamdsl.connectors.base import Json, Lookup, Sink, SinkWriter, check_texts
from streamdsl.durations import Duration, parse_duration
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.schema import Schema
from streamdsl.secret import Secret

__all__ = ["Http", "http"]

#: How long a look whether somebody listens may take.
_REACH_S: Final = 5.0
_METHODS: Final = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, eq=False, repr=False)
class Http(Sink):
    """A URL that takes rows; made by `http`."""

    url: Secret
    place: str
    method: Literal["POST", "PUT", "PATCH"]
    headers: Mapping[str, Secret]
    key: tuple[str, ...]
    concurrency: int
    timeout_ms: int
    retry_ms: int
    name: str
    schema: Schema

    gathers = False
    delivery = "at_least_once"
    packages = ("httpx",)

    def __repr__(self) -> str:
        return f"Http({self.place!r})"

    def lookup(self, keys: Sequence[str]) -> Lookup:
        """Return what `join_lookup` asks: the columns of the template are those of the stream, by name or by their order."""
        from streamdsl.connectors.http.lookup import HttpLookup, columns_of

        if not len(self.schema):
            raise TopologyError(f"{self!r} needs schema=, the columns that are looked up")
        try:
            named = columns_of(self.url.reveal())
        except ValueError:
            named = ()
        if not named or not all(name.isidentifier() for name in named):
            raise TopologyError(f"{self!r}: the url names no column", remedy='write "https://HOST/customers/{customer}"')
        if set(named) != set(keys) and len(named) != len(keys):
            raise TopologyError(
                f"join_lookup: on= names {', '.join(keys)}, and the url of {self!r} {', '.join(named)}",
                remedy="name as many, in the same order",
            )
        return HttpLookup(self, self.schema, tuple(keys) if set(named) == set(keys) else named)

    def check(self, schema: Schema, keys: Sequence[str]) -> None:
        """Refuse keys that the rows do not have."""
        if len(self.schema):
            raise TopologyError(f"{self!r} has a schema, and is a look-up", remedy="leave schema= out, or use join_lookup")
        for column in self.key:
            schema.field(column)

    def probe(self, written: Schema | None = None, keys: Sequence[str] = ()) -> Iterator[str]:
        """Look whether somebody listens there; no request is made."""
        yield from reached(self.url)

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Open a client; no request is made before there is a row."""
        from streamdsl.connectors.http.writer import HttpWriter

        return HttpWriter(self, schema.visible())


def reached(url: Secret) -> Iterator[str]:
    """Connect to the host of a URL, and say that it listens.

    Raises
    ------
    ConnectorError
        It does not.
    """
    # The path may have columns in braces, and is of no matter.
    parts = urlsplit(url.reveal())
    port = parts.port or (443 if parts.scheme == "https" else 80)
    place = f"{parts.scheme}://{parts.hostname}:{port}"
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_REACH_S).close()
    except OSError as error:
        raise ConnectorError(
            f"{place} cannot be reached: {error.strerror or error}", remedy="check the address, and whether it runs"
        ) from None
    yield f"{place}: somebody listens"


def http(
    url: str | Secret,
    *,
    method: Literal["POST", "PUT", "PATCH"] = "POST",
    headers: Mapping[str, str | Secret] | None = None,
    key: str | Sequence[str] | None = None,
    concurrency: int = 8,
    timeout: Duration = "10s",
    retry: Duration = "1m",
    schema: Any = None,
    name: str | None = None,
) -> Http:
    """Send each row as a request with a JSON body, at least once, or ask for rows by key (`join_lookup`, with `schema`).

    Each request has the header ``Idempotency-Key``, which is the same when a row is sent again. Answers of 2xx count. Answers of
    408, 425, 429 and 5xx and connections that fail are tried again, later and later (``Retry-After`` is kept to). All other
    answers make the row a bad one, which `to(..., errors=)` handles.

    Parameters
    ----------
    url : str or Secret
        ``"https://HOST/PATH"``; only scheme, host and port are shown. For a look-up it has the key in it, in braces:
        ``"https://HOST/customers/{customer}"``. It is asked by GET and answers a JSON object; 204, 404 and 410 say that there is none.
    method : "POST" | "PUT" | "PATCH"
    headers : mapping, optional
        Sent with each request; their values are never shown.
    key : str or sequence of str, optional
        Columns that tell rows apart: the idempotency key is made of them (default: of the whole row and its time).
    concurrency : int
        Requests at a time.
    timeout : duration
        Of one request.
    retry : duration
        How long one row is tried before the run starts again from its last checkpoint.
    schema : schema, optional
        Columns that are looked up.
    name : str, optional
        Default: the host.

    Examples
    --------
    >>> from streamdsl import http
    >>> http("https://hooks.example.org/alerts?token=abc", headers={"Authorization": "Bearer abc"}, key="alert_id")
    Http('https://hooks.example.org')
    """
    check_texts("http", 'write http("https://host/path")', url=url, name=name)
    secret = url if isinstance(url, Secret) else Secret(url)
    try:
        parts = urlsplit(secret.reveal())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TopologyError("http(...): the url is none", remedy='write "https://HOST/PATH"')
    if method not in _METHODS:
        raise TopologyError(f"http: method={method!r} is unknown", remedy=f"known: {', '.join(_METHODS)}")
    if concurrency < 1:
        raise TopologyError(f"http: concurrency={concurrency} is less than 1")
    hidden = {word: value if isinstance(value, Secret) else Secret(value) for word, value in (headers or {}).items()}
    return Http(
        secret,
        f"{parts.scheme}://{parts.hostname}{f':{port}' if port else ''}",
        method,
        hidden,
        () if key is None else (key,) if isinstance(key, str) else tuple(key),
        concurrency,
        parse_duration(timeout, "timeout"),
        parse_duration(retry, "retry"),
        name or parts.hostname,
        Schema.of({} if schema is None else schema),
    )
