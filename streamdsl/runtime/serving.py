"""/metrics, /health and /tables over HTTP: pages that are read, nothing else, at the loopback address unless somebody says another."""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import json
import logging
import re
import socket
import socketserver
import threading
import time
from collections.abc import Collection
from typing import Any, Final, Protocol

from streamdsl.errors import ConfigError
from streamdsl.runtime.exposition import exposition
from streamdsl.runtime.health import STALLED_AFTER_S, Health, Watched
from streamdsl.runtime.state_pages import Readable, table_page

__all__ = ["MetricsServer", "is_loopback", "may_be_asked", "metrics_server", "public_names"]

_log = logging.getLogger("streamdsl")

#: How often the run is looked at, whoever asks.
_LOOK_S: Final = 1.0
#: A connection lives no longer than this, whatever it sends or reads.
_DEADLINE_S: Final = 5.0
#: So many connections at a time; one more closes the oldest.
_AT_A_TIME: Final = 8
#: What follows the last dot of a name that only a private network resolves.
_PRIVATE_DOMAINS: Final = frozenset({"localhost", "local", "internal", "lan", "home", "arpa", "test"})
#: What a ``Host`` header has: an IPv6 address in brackets, where it may have a zone, or a name or another address; then a port.
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)(?:%[0-9a-z._~%-]+)?\]|([^\s:\[\]@/\\?#]+))(?::\d{1,5})?")


def metrics_server(
    run: _Served,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    allowed_hosts: Collection[str] = (),
    stalled_after_s: float = STALLED_AFTER_S,
    tables: bool | None = None,
) -> MetricsServer:
    """Serve the figures of a run at ``/metrics`` (Prometheus) and its health at ``/health`` (JSON, status 200 or 503).

    The rows of its tables are at ``/tables`` (JSON): ``/tables/NAME/KEY``, ``/tables/NAME?prefix=…&limit=…&live=1``.

    Parameters
    ----------
    run : Run
    port : int
        0: any free one, see `MetricsServer.address`.
    host : str
        Address to listen at. What is served is open to everybody who can reach it.
    allowed_hosts : collection of str
        Public names under which clients reach it. An address, a name without a dot and a name of a private domain
        (``.local``, ``.internal``) need no entry. Any other ``Host`` header gets status 403, against DNS rebinding.
    stalled_after_s : float
        A partition with records waiting that makes no progress for so long is unhealthy.
    tables : bool, optional
        Whether ``/tables`` is served, which shows what the job holds. By default only at a loopback address.

    Returns
    -------
    MetricsServer
        To be closed at the end; a context manager.

    Raises
    ------
    ConfigError
        It cannot listen there.
    """
    names = public_names(allowed_hosts, host)
    return MetricsServer(host, port, Health(run, stalled_after_s=stalled_after_s), names, run, tables)


class _Served(Watched, Readable, Protocol):
    """What of a `Run` is served."""


class MetricsServer:
    """What `metrics_server` returns. `address` is its URL."""

    def __init__(
        self, host: str, port: int, health: Health, allowed_hosts: frozenset[str], run: Readable, tables: bool | None = None
    ) -> None:
        self._health, self._run = health, run
        self._allowed_hosts = allowed_hosts
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._look()
        try:
            self._server = _Server(host, port, self)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"metrics cannot be served at {host}:{port}: {getattr(error, 'strerror', None) or error}",
                remedy="take another port, or 0 for any free one",
            ) from error
        bound = self._server.server_address
        self.address = f"http://{f'[{bound[0]!s}]' if ':' in str(bound[0]) else bound[0]!s}:{bound[1]}"
        self._tables = is_loopback(str(bound[0])) if tables is None else tables
        if not is_loopback(str(bound[0])):
            _log.warning("metrics are served at %s: everybody who can reach it can read them", self.address)
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="streamdsl-metrics", daemon=True),
            threading.Thread(target=self._watch, name="streamdsl-health", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        """Look at the run again and again: that something stands still can only be seen by who looks twice."""
        while not self._closed.wait(_LOOK_S):
            self._look()

    def _look(self) -> None:
        with self._lock:
            try:
                self._health.look()
            except Exception as error:  # noqa: BLE001 - the edge of these threads: who cannot look does not say that all is well
                self._health.cannot_look(error)

    def page(self, path: str, host: str | None, query: str = "") -> tuple[int, str, str]:
        """Return status, content type and text of a page, for a client that asks `host` for it."""
        if not may_be_asked(host, self._allowed_hosts):
            return 403, "text/plain; charset=utf-8", "this Host is not allowed: see allowed_hosts (--metrics-allow-host)\n"
        if path == "/tables" or path.startswith("/tables/"):
            if not self._tables:
                return 403, "text/plain; charset=utf-8", "tables are not served here: see tables=True (--metrics-tables)\n"
            status, text = table_page(self._run, path, query)
            return status, "application/json", text
        if path not in ("/metrics", "/health"):
            return 404, "text/plain; charset=utf-8", "there are /metrics, /health and /tables\n"
        self._look()
        health = self._health
        if path == "/metrics" and not health.metrics:
            return 503, "text/plain; charset=utf-8", "there are no figures yet\n"
        if path == "/metrics":
            text = exposition(health.metrics, healthy=not health.problems, checkpoint_age_s=health.checkpoint_age_s)
            return 200, "text/plain; version=0.0.4; charset=utf-8", text
        return (503 if health.problems else 200), "application/json", json.dumps(health.report()) + "\n"


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def may_be_asked(host: str | None, allowed: frozenset[str]) -> bool:
    """Whether a ``Host`` header is one that no page of a stranger can make a browser send."""
    if host is None:
        return True  # HTTP/1.0: no browser
    name = _name_in(host)
    if name is None:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in allowed or "." not in name or name.rpartition(".")[2] in _PRIVATE_DOMAINS
    return True


def public_names(allowed: Collection[str], host: str) -> frozenset[str]:
    """Return the names under which clients may reach what listens at `host`, as `may_be_asked` takes them.

    Raises
    ------
    ConfigError
        One of them is no name of a host.
    """
    if isinstance(allowed, str):
        raise ConfigError("allowed_hosts is a collection of names", remedy=f"write [{allowed!r}]")
    found = {host.lower()}
    for given in allowed:
        name = _name_in(given)
        if name is None:
            raise ConfigError(
                f"allowed_hosts: {given!r} is no name of a host",
                remedy='write what stands in the address behind http://: "metrics.example.com"',
            )
        found.add(name)
    return frozenset(found)


def _name_in(host: str) -> str | None:
    """Return the name or address in a ``Host`` header, None where it is none."""
    found = _HOST.fullmatch(host.strip().lower())
    return None if found is None else found[1] or found[2].removesuffix(".") or None


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, metrics: MetricsServer) -> None:
        self.metrics = metrics
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._guard = threading.Lock()
        self._open: dict[socket.socket, float] = {}  # oldest first, with the time of its end
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that asks the name service who we are.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def service_actions(self) -> None:
        """Hang up on those whose time is over; called by the loop several times a second."""
        now = time.monotonic()
        with self._guard:
            for connection in [one for one, end in self._open.items() if end <= now]:
                self._hang_up(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            if len(self._open) >= _AT_A_TIME:
                self._hang_up(next(iter(self._open)))
            self._open[request] = time.monotonic() + _DEADLINE_S
        super().process_request(request, client_address)

    def _hang_up(self, connection: socket.socket) -> None:
        """End a connection from outside; its thread finds it closed and lets it go."""
        del self._open[connection]
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a request for metrics failed", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _DEADLINE_S
    server: _Server

    def version_string(self) -> str:
        return "streamdsl"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path, _, query = self.path.partition("?")
        hosts = self.headers.get_all("Host", [])
        if len(hosts) > 1:
            return self.send_error(400, "two Host headers")
        status, kind, text = self.server.metrics.page(path, hosts[0] if hosts else None, query)
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what a stranger asks for is no news of the job."""
