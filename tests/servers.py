"""The servers that tests of several folders use, each started when the first test of a process asks for it.

A test without its server is skipped; with `CI` set it fails.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.receiver import Receiver, receiving
from tests.postgres import server as postgres
from tests.redis import server as redis


def _missing(what: str, why: Exception) -> None:
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(f"{what} is required here: {why}")
    pytest.skip(str(why))


@pytest.fixture(scope="session")
def database() -> Iterator[postgres.Server]:
    """PostgreSQL, with what earlier tests left in it."""
    # Not in pytest's own folder, which only its user may enter: the server runs as another one.
    with tempfile.TemporaryDirectory(prefix="streamdsl-postgres-") as folder:
        try:
            server = postgres.Server(Path(folder))
        except postgres.NoServer as missing:
            _missing("PostgreSQL", missing)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[redis.Server]:
    """Redis, with what earlier tests left in it."""
    try:
        server = redis.Server()
    except redis.NoServer as missing:
        _missing("Redis", missing)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A web server that takes rows, of this test alone."""
    with receiving() as kept:
        yield kept
