"""uvicorn's connection, with a bound on how many there are and on how long a request may take to come."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BoundedProtocol"]


class BoundedProtocol(H11Protocol):
    """One connection. One more than `most` is closed at once; one whose request is not whole after `request_s` is closed then."""

    def __init__(self, *arguments: Any, most: int, request_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most, self._request_s = most, request_s
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take a connection."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            transport.abort()
        else:
            self._wait()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self._request_s, self._late)

    def _late(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Wait for the next request, as long as for the first."""
        super().on_response_complete()
        if not self.transport.is_closing():
            if self._deadline is not None:
                self._deadline.cancel()
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)
