"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

# How long an example takes depends on who else uses the machine: it is no property of the code.
# `make test` draws the same examples each time: what has passed passes again. `make property` draws others.
settings.register_profile("streamdsl", deadline=None, derandomize="STREAMDSL_EXAMPLES" not in os.environ)
settings.load_profile("streamdsl")

# The servers that tests of several folders use.
pytest_plugins = ["tests.servers"]

#: So long a thread that has been told to end may take.
LEAVE_S = 10.0


def library_threads() -> list[threading.Thread]:
    """Return the library's threads that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("streamdsl")]


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """Whatever a module's tests did, crashes among it, no thread of the library outlives them."""
    before = set(library_threads())
    yield
    if set(library_threads()) - before:
        gc.collect()
    until = time.monotonic() + LEAVE_S
    while (left := set(library_threads()) - before) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left, f"threads that stay behind: {sorted(thread.name for thread in left)}"
