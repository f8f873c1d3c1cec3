"""The quickstart, word for word."""

from __future__ import annotations

import os
import sys

from tests.packaging import quickstart


def test_each_command_shows_what_the_page_shows(tmp_path, monkeypatch):
    # As after an installation: a command of that name, and a Python that finds the library.
    place = tmp_path / "bin"
    place.mkdir()
    for name, words in {"streamdsl": "-m streamdsl", "python": ""}.items():
        (place / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(quickstart.PAGE.parents[1]))
    assert len(quickstart.steps()) == 8
    quickstart.follow(tmp_path)
