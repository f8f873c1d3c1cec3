"""What holds for this folder."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Null keys and late records are drawn on purpose: what is logged of them would hide the failure."""
    logger = logging.getLogger("streamdsl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)
