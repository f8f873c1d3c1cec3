"""Text from outside on its way to a terminal."""

from __future__ import annotations

import re
from typing import Final

import click

__all__ = ["echo", "printable"]

#: Controls of ASCII and Latin-1 but tab and line end, and the marks that turn the direction of writing.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return `text` with its control characters escaped, as a file, a topic or a manifest may hold some.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 0x100 else f"\\u{ord(found[0]):04x}", text)


def echo(text: str, *, err: bool = False) -> None:
    """Print a line that may hold text from outside."""
    click.echo(printable(text), err=err)
