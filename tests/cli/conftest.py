"""What the tests of the command line share."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamdsl.cli.app import run

Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """Run the command line in this process, in `tmp_path`; what it imports and how it logs ends with the test."""
    for name in [name for name in os.environ if name.startswith("STREAMDSL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules, handlers, level = set(sys.modules), list(logging.root.handlers), logging.root.level

    def command(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    yield command
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.getLogger("streamdsl").setLevel(logging.NOTSET)
