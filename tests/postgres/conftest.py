"""What the tests of PostgreSQL share."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.postgres.server import Server


@pytest.fixture
def server(database: Server) -> Server:
    """A running server."""
    return database


@pytest.fixture
def table() -> str:
    """The name of a table that no other test has."""
    return f"t_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"
