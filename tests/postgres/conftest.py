"""A server for the tests: one for all tests of a process, started when the first test asks for it.

Without PostgreSQL they are skipped; with `CI` set they fail.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres.server import NoServer, Server


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    # Not in pytest's own folder, which only its user may enter: the server runs as another one.
    with tempfile.TemporaryDirectory(prefix="streamdsl-postgres-") as folder:
        try:
            server = Server(Path(folder))
        except NoServer as missing:
            if os.environ.get("CI", "") not in ("", "0", "false"):
                pytest.fail(f"PostgreSQL is required here: {missing}")
            pytest.skip(str(missing))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def server(_server: Server) -> Server:
    """A running server."""
    return _server


@pytest.fixture
def table() -> str:
    """The name of a table that no other test has."""
    return f"t_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"
