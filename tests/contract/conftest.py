"""The servers of the contract, each started once in a process, and a place of its own for each test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs

from tests.contract import places
from tests.contract.store import Store


class Receiver:
    """What a webhook got: the row of each idempotency key."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()

    def by_key(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            return dict(self._rows)

    def take(self, path: str, key: str, row: dict[str, Any]) -> tuple[int, bytes]:
        if path == "/secret":
            return 401, b"who are you"
        if path == "/strict":
            return (422, b"no name") if row["name"] is None else (204, b"")
        if path != "/hook":
            return 404, b""
        with self._lock:
            before = self._rows.setdefault(key, row)
        return (204, b"") if before == row else (409, b"another row has this key")


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = kept.take(self.path, self.headers["Idempotency-Key"], row)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            body = json.dumps({"name": f"name of {self.path.rpartition('/')[2]}"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            """Connections are cut on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    kept.port = server.server_port  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    made = Store()
    before, retries = dict(fsspec.config.conf), s3fs.S3FileSystem.retries
    s3fs.S3FileSystem.retries = 1
    fsspec.config.conf["s3"] = made.fsspec
    fsspec.filesystem("s3", **made.fsspec).mkdir("bucket")
    yield made
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)
    s3fs.S3FileSystem.retries = retries
    made.close()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[places.Place]:
    """The place that the test's parameter names."""
    made = _place(request, tmp_path)
    yield made
    if made.link is not None:
        if "S3" not in request.param:
            made.link.close()
        else:
            made.link.slow(0)
            made.link.refuse(False)
            made.link.come_back()


def _place(request: pytest.FixtureRequest, tmp_path: Path) -> places.Place:
    name = request.param
    match name.split()[0]:
        case "postgres":
            kind = places.DatabaseByKey if "by key" in name else places.Database
            return kind(request.getfixturevalue("database"))
        case "redis":
            kind_of = places.Texts if "texts" in name else places.Keys
            return kind_of(request.getfixturevalue("redis_server"))
        case "http":
            return places.Hook(request.getfixturevalue("receiver"))
    store = request.getfixturevalue("store") if "S3" in name else None
    folder = str(tmp_path) if store is None else "s3://bucket"
    kind_of_files = places.Parts if name.startswith("parquet") else places.Lake
    return kind_of_files(folder) if store is None else kind_of_files(folder, store.options, store.link)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "place" in metafunc.fixturenames and ("place", "point") not in given:
        metafunc.parametrize("place", places.PLACES, indirect=True)
