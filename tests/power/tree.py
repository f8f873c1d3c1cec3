"""Copies the project to another directory, to be built there in another way: ``python tests/power/tree.py build/checked``.

The copy is a whole project with its tests, so that nothing of one build can be imported by the other. Only what has changed is
copied, with its time, so that building again there is as quick as here.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("streamdsl", "tests", "examples", "benchmarks", "docs", "setup.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")
PARTS += ("Makefile", "CONTRIBUTING.md", ".ci", "compose.yml", "deploy", ".dockerignore")
#: Made by building and running, on either side.
MADE = {"__pycache__", ".pytest_cache", ".hypothesis"}


def files(root: Path) -> Iterator[Path]:
    """Return the files of the project below `root`, relative to it."""
    for part in PARTS:
        top = root / part
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            relative = path.relative_to(root)
            if path.is_file() and path.suffix != ".so" and MADE.isdisjoint(relative.parts):
                yield relative


def copy(target: Path) -> int:
    """Make `target` the same as the project; return how many files were copied or removed."""
    wanted = set(files(ROOT))
    changed = 0
    for path in sorted(wanted):
        source, copied = ROOT / path, target / path
        if copied.exists() and _known(source) == _known(copied):
            continue
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copied)
        changed += 1
    for path in set(files(target)) - wanted:
        (target / path).unlink()
        # A module that is gone must not go on living as what was built of it.
        for built in (target / path).parent.glob(f"{path.stem}.*.so"):
            built.unlink()
        changed += 1
    return changed


def _known(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


if __name__ == "__main__":
    copy(Path(sys.argv[1]).absolute())
