"""These tests sync thousands of files: they do so in memory where there is some."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="trust-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield made
    shutil.rmtree(made, ignore_errors=True)
