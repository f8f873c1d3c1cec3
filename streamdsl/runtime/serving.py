"""/metrics and /health over HTTP: two pages that are read, nothing else, at the loopback address unless somebody says another."""

from __future__ import annotations

import http.server
import ipaddress
import json
import logging
import socket
import socketserver
import threading
from typing import Any, Final

from streamdsl.errors import ConfigError
from streamdsl.runtime.exposition import exposition
from streamdsl.runtime.health import STALLED_AFTER_S, Health, Watched

__all__ = ["MetricsServer", "metrics_server"]

_log = logging.getLogger("streamdsl")

#: How often the run is looked at, whoever asks.
_LOOK_S: Final = 1.0
#: Who sends his request slower than this is not waited for.
_PATIENCE_S: Final = 5.0
#: So many requests at a time; more are turned away.
_AT_A_TIME: Final = 8


def metrics_server(run: Watched, *, port: int = 0, host: str = "127.0.0.1", stalled_after_s: float = STALLED_AFTER_S) -> MetricsServer:
    """Serve the figures of a run at ``/metrics`` (Prometheus) and its health at ``/health`` (JSON, status 200 or 503).

    Parameters
    ----------
    run : Run
    port : int
        0: any free one, see `MetricsServer.address`.
    host : str
        Address to listen at. What is served is open to everybody who can reach it.
    stalled_after_s : float
        A partition with records waiting that makes no progress for so long is unhealthy.

    Returns
    -------
    MetricsServer
        To be closed at the end; a context manager.

    Raises
    ------
    ConfigError
        It cannot listen there.
    """
    return MetricsServer(host, port, Health(run, stalled_after_s=stalled_after_s))


class MetricsServer:
    """What `metrics_server` returns. `address` is its URL."""

    def __init__(self, host: str, port: int, health: Health) -> None:
        self._health = health
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
        if not _is_loopback(str(bound[0])):
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

    def page(self, path: str) -> tuple[int, str, str]:
        """Return status, content type and text of a page."""
        if path not in ("/metrics", "/health"):
            return 404, "text/plain; charset=utf-8", "there are /metrics and /health\n"
        self._look()
        health = self._health
        if path == "/metrics" and not health.metrics:
            return 503, "text/plain; charset=utf-8", "there are no figures yet\n"
        if path == "/metrics":
            text = exposition(health.metrics, healthy=not health.problems, checkpoint_age_s=health.checkpoint_age_s)
            return 200, "text/plain; version=0.0.4; charset=utf-8", text
        return (503 if health.problems else 200), "application/json", json.dumps(health.report()) + "\n"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, metrics: MetricsServer) -> None:
        self.metrics = metrics
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._room = threading.Semaphore(_AT_A_TIME)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that asks the name service who we are.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a request for metrics failed", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _PATIENCE_S
    server: _Server

    def version_string(self) -> str:
        return "streamdsl"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        status, kind, text = self.server.metrics.page(self.path.partition("?")[0])
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
