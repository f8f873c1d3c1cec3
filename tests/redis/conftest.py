"""What the tests of Redis share."""

from __future__ import annotations

import pytest

from tests.redis.server import Server


@pytest.fixture
def server(redis_server: Server) -> Server:
    """A running server that holds nothing."""
    redis_server.client().flushall()
    return redis_server
