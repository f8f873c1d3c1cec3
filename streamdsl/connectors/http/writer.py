"""Sends rows: several requests at a time, and one that failed again."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.http.clients import AGAIN, REFUSED, SHOWN, httpx
from streamdsl.daemon_threads import DaemonThreads
from streamdsl.errors import ConnectorError, DataError
from streamdsl.schema import Schema

if TYPE_CHECKING:
    from streamdsl.connectors.http.description import Http

__all__ = ["HttpWriter"]

_FIRST_S: Final = 0.1
_MOST_S: Final = 10.0


class HttpWriter(SinkWriter):
    """A call returns when all of its rows have been taken."""

    def __init__(self, sink: Http, schema: Schema) -> None:
        self._sink = sink
        self._columns = schema.names
        headers = {"Content-Type": "application/json", "User-Agent": "streamdsl"}
        headers |= {name: value.reveal() for name, value in sink.headers.items()}
        limits = httpx.Limits(max_connections=sink.concurrency)
        self._client = httpx.Client(headers=headers, timeout=sink.timeout_ms / 1000, limits=limits, follow_redirects=False)
        self._senders = DaemonThreads(sink.concurrency, "streamdsl-http")
        self._closed = threading.Event()
        # What was taken of a call that failed: it comes again in parts.
        self._taken: set[str] = set()

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Send rows and wait for the answers."""
        if not rows.num_rows:
            return
        bodies = json_lines(rows.select(self._columns)).split(b"\n")[: rows.num_rows]
        keys = self._keys(rows, bodies, timestamps)
        sent = [self._senders.submit(self._send, body, key, row) for row, (body, key) in enumerate(zip(bodies, keys, strict=True))]
        wait(sent)
        failures = [one.result() for one in sent]
        failed = [failure for failure in failures if failure is not None]
        if failed:
            self._taken.update(key for key, failure in zip(keys, failures, strict=True) if failure is None)
            raise next((failure for failure in failed if isinstance(failure, ConnectorError)), failed[0])

    def _keys(self, rows: pa.RecordBatch, bodies: list[bytes], timestamps: pa.Int64Array) -> list[str]:
        if self._sink.key:
            parts = json_lines(rows.select(list(self._sink.key))).split(b"\n")[: rows.num_rows]
        else:
            parts = [body + b"@%d" % (at or 0) for body, at in zip(bodies, timestamps.to_pylist(), strict=True)]
        return [hashlib.blake2b(part, digest_size=16, person=b"streamdsl").hexdigest() for part in parts]

    def _send(self, body: bytes, key: str, row: int) -> DataError | ConnectorError | None:
        if key in self._taken:
            self._taken.discard(key)
            return None
        until = time.monotonic() + self._sink.retry_ms / 1000
        wait = _FIRST_S
        while True:
            try:
                answer = self._client.request(
                    self._sink.method, self._sink.url.reveal(), content=body, headers={"Idempotency-Key": f'"{key}"'}
                )
            except httpx.HTTPError as error:
                why, least = f"{type(error).__name__}: {error}", 0.0
            else:
                if answer.is_success:
                    return None
                why, least = f"the answer is {answer.status_code}", _retry_after(answer)
                if answer.status_code in REFUSED:
                    return ConnectorError(
                        f"{self._sink.place} refuses the sender: {why} {answer.text[:SHOWN]!r}",
                        remedy="look at headers=: the receiver wants another token, or more rights",
                    )
                if answer.status_code not in AGAIN and not answer.is_server_error:
                    return DataError(
                        f"{self._sink.place} refuses row {row} of its batch: {why} {answer.text[:SHOWN]!r}",
                        remedy="mend the row or the receiver; to(..., errors=dead_letter(...)) keeps such rows",
                    )
            wait = max(wait, least)
            if self._closed.is_set() or time.monotonic() + wait > until:
                return ConnectorError(
                    f"{self._sink.place} takes no row: {why}", remedy="it is tried again; what was committed stays", recoverable=True
                )
            self._closed.wait(wait)
            wait = min(2 * wait, _MOST_S)

    def snapshot(self, checkpoint_id: int) -> Json:
        """Everything that was written has been answered."""
        return {"delivery": "at_least_once"}

    def close(self) -> None:
        """Let the connections go; what waits to be sent again comes again."""
        self._closed.set()
        self._senders.shutdown()
        self._client.close()


def _retry_after(answer: httpx.Response) -> float:
    value = answer.headers.get("Retry-After", "")
    return min(float(value), 3600.0) if value.isdigit() else 0.0
