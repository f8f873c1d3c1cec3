"""One Flink for all tests of the folder, started when the first test asks for it.

Without Java and Maven, tests that need it are skipped; with `STREAMDSL_REQUIRE_BROKER=1`, or `CI` set, they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.flink.cluster import Cluster, NoFlink


@pytest.fixture(scope="session")
def flink() -> Iterator[Cluster]:
    """A JobManager, two TaskManagers and the SQL gateway."""
    try:
        cluster = Cluster()
    except NoFlink as error:
        required = os.environ.get("STREAMDSL_REQUIRE_BROKER") == "1" or os.environ.get("CI", "") not in ("", "0", "false")
        if required:
            pytest.fail(f"Flink is required here, and there is none: {error}")
        pytest.skip(str(error))
    with cluster:
        yield cluster
