import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(pathlib.Path(__file__).parent)]

import oracle  # noqa: E402

from examples.fraud import data  # noqa: E402


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Return a small sample."""
    return data.generate(tmp_path_factory.mktemp("small"), 8_000, 800, 7)


@pytest.fixture(scope="session")
def expected(small):
    """Return the alerts of the small sample."""
    return oracle.expected(small.transactions)
