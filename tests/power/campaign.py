"""Looks for every bug of the bank, and for none where none is planted: ``python tests/power/campaign.py [name …]`` (checked build).

Each bug is looked for in a process of its own, because a check that fails ends the process. Fails if one is not found within its
bound, or if a finder finds something where nothing is planted.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from streamdsl._native.includes.faults import CHECKED  # noqa: E402
from tests.power.bank import BANK, Planted  # noqa: E402
from tests.power.finders import find, quiet  # noqa: E402

_NOT_FOUND = 3
#: Of one bug: the largest bound, on a machine that does something else beside.
SEARCH_S = 1800.0


def search(bug: Planted) -> str:
    """Look for one bug in another process; return "" or what is wrong."""
    began = time.monotonic()
    try:
        done = subprocess.run([sys.executable, __file__, "--one", bug.name], check=False, capture_output=True, text=True, timeout=SEARCH_S)
        said, code = done.stdout.strip(), done.returncode
        if code not in (0, _NOT_FOUND):
            checks = [line for line in done.stderr.splitlines() if "check failed" in line]
            if code > 0 or not checks:
                return f"{bug.name}: the search has failed with exit code {code}: {done.stderr[-2000:]}"
            said = checks[0].partition("check failed: ")[2]
    except subprocess.TimeoutExpired:
        return f"{bug.name}: {bug.finder} has not ended within {SEARCH_S:.0f} s"
    print(f"{bug.name:34} {said:60.60} of {bug.bound:5} {time.monotonic() - began:6.1f} s  {bug.finder}", flush=True)
    return "" if code != _NOT_FOUND else f"{bug.name} is not found by {bug.finder} within {bug.bound}"


def one(name: str) -> int:
    """Look for one bug in this process."""
    logging.disable(logging.CRITICAL)
    bug = next(bug for bug in BANK if bug.name == name)
    found = find(bug)
    print("not found" if found is None else f"found: {found}")
    return _NOT_FOUND if found is None else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not CHECKED:
        sys.exit("this is a release build, which has no planted bugs: make power")
    if asked.one:
        return one(asked.one)
    bugs = [bug for bug in BANK if not asked.names or bug.name in asked.names]
    wrong = [problem for bug in bugs if (problem := search(bug))]
    logging.disable(logging.CRITICAL)
    bounds: dict[str, int] = {}
    for bug in bugs:
        bounds[bug.finder] = max(bug.bound, bounds.get(bug.finder, 0))
    for finder, bound in bounds.items():
        if not quiet(finder, bound):
            wrong.append(f"{finder} finds something where nothing is planted")
    print(f"{len(bugs) - len(wrong)} of {len(bugs)} planted bugs found; quiet where nothing is planted: {', '.join(bounds)}")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
