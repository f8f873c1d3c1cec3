"""One seed of the simulation campaign as a judge of planted bugs.

What must come out, oracles in plain Python say: no planted bug reaches them, so one that has no need of a crash shows too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tests.simulation import campaign
from tests.simulation.campaign import Outcome

__all__ = ["VARIABLE", "planted", "run_seed"]

VARIABLE = "STREAMDSL_PLANT"


@contextlib.contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Switch a planted bug on, or all off, for this thread's process."""
    before = os.environ.pop(VARIABLE, None)
    if name is not None:
        os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def run_seed(seed: int, bug: str | None = None) -> Outcome:
    """Run one seed, with a planted bug or none."""
    with planted(bug):
        return campaign.run_seed(seed)
