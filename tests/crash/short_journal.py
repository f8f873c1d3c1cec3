"""Runs a program whose stores get a new base behind a journal of so many bytes: ``short_journal.py BYTES program.py …``.

A job would have to write 32 MiB before its first one is due: longer than any process of a campaign lives.
"""

from __future__ import annotations

import pathlib
import runpy
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from streamdsl.runtime.environment import JobEnvironment

    JobEnvironment.journal_bytes = int(sys.argv[1])
    sys.argv[:2] = []
    sys.path[0] = str(pathlib.Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
