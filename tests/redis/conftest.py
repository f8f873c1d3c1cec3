"""A server for the tests: one for all tests of a process. Without Redis they are skipped; with `CI` set they fail."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.redis.server import NoServer, Server


@pytest.fixture(scope="session")
def shared() -> Iterator[Server]:
    try:
        server = Server()
    except NoServer as missing:
        if os.environ.get("CI", "") not in ("", "0", "false"):
            pytest.fail(f"Redis is required here: {missing}")
        pytest.skip(str(missing))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(shared: Server) -> Server:
    """A running server that holds nothing."""
    shared.client().flushall()
    return shared
