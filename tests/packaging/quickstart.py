"""Does what docs/quickstart.md says, word for word: each command runs, and what the page shows below it comes out.

    python tests/packaging/quickstart.py DIRECTORY

The command `streamdsl` and `python` are those of PATH. What installs is left out: it has happened.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "quickstart.md"
#: Commands that make the environment.
INSTALLS = ("python -m venv", ". .venv/", "pip install")
TIMEOUT_S = 120


class Step(NamedTuple):
    """A command line, and what the page shows of its output: all of it as JSON, a part of it as text."""

    command: str
    shown: str
    whole: bool


def steps() -> list[Step]:
    """Return the page's commands in order, each block's output with its last one."""
    made: list[Step] = []
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S):
        if language == "sh":
            made += [Step(line, "", False) for line in body.splitlines() if not line.startswith(INSTALLS)]
        elif language in ("json", "text"):
            made[-1] = Step(made[-1].command, body, language == "json")
    return made


def follow(directory: Path) -> None:
    """Run all in one directory, as one shell would."""
    for command, shown, whole in steps():
        if command.startswith("cd "):
            directory /= command.removeprefix("cd ")
            continue
        ran = subprocess.run(command, shell=True, cwd=directory, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        assert (ran.stdout == shown) if whole else (shown.strip() in ran.stdout), f"{command}\n{ran.stdout}{ran.stderr}"
    (shown,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S)
    assert (directory / "shop.py").read_text() == shown


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
