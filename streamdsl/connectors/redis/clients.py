"""The client of Redis: how it is connected, and what its errors mean."""

from __future__ import annotations

from typing import Any, Final

from streamdsl.errors import ConnectorError
from streamdsl.secret import Secret

# The one place that imports the client, for the one who has not installed it.
try:
    import redis as client
    from redis import asyncio as async_client
    from redis import exceptions
except ImportError as missing:  # pragma: no cover - seen by those who installed the library alone
    raise ConnectorError("redis(...) needs the package redis", remedy="pip install 'streamdsl[redis]'") from missing

__all__ = ["RedisError", "async_connected", "connected", "place_of", "translated"]

RedisError = exceptions.RedisError

_WAIT_S: Final = 10.0
_OPTIONS: Final[dict[str, Any]] = {
    "socket_timeout": _WAIT_S,
    "socket_connect_timeout": _WAIT_S,
    "decode_responses": False,
    "client_name": "streamdsl",
}
_PASSING: Final = ("OOM", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MISCONF")


def connected(url: Secret) -> Any:
    """Return a client; it connects when it is used."""
    return client.Redis.from_url(url.reveal(), **_OPTIONS)


def async_connected(url: Secret) -> Any:
    """Return an asynchronous client; it connects when it is used, in the event loop that uses it."""
    return async_client.Redis.from_url(url.reveal(), **_OPTIONS)


def place_of(server: Any) -> str:
    """Return host and port of a client's server."""
    place = server.connection_pool.connection_kwargs
    return str(place["path"]) if "path" in place else f"{place.get('host', 'localhost')}:{place.get('port', 6379)}"


def translated(error: Exception, doing: str, commands: str) -> ConnectorError:
    """Return what to raise; `commands` are those that the user of the server must be allowed."""
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return ConnectorError(f"{doing}: the server refuses the user or the password", remedy="look at the url")
    if isinstance(error, exceptions.NoPermissionError):
        return ConnectorError(f"{doing}: {error}", remedy=f"allow the user the commands {commands} PING")
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
        return ConnectorError(f"{doing}: {error}", remedy="it is tried again; what was committed stays", recoverable=True)
    text = str(error)
    remedy = "another program keeps something else under that key" if "WRONGTYPE" in text else None
    return ConnectorError(f"{doing}: {text}", remedy=remedy, recoverable=text.startswith(_PASSING))
