"""Text from outside on its way to a terminal."""

from __future__ import annotations

import re
from typing import Final

import click

__all__ = ["echo", "one_line", "printable"]

#: What steers a terminal, is not seen, or cannot be encoded: controls but tab and line end, marks of the direction of writing, ends of
#: lines and paragraphs, what has no width (but the joiners, which scripts and emoji need), tags, halves of surrogate pairs.
_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    r"""Return `text` with its control characters escaped, as a file, a topic or a manifest may hold some.

    JSON stays JSON: what may stand there as it is becomes an escape of JSON.

    >>> printable("a\x1b[2Jb\x9b\u202e")
    'a\\x1b[2Jb\\u009b\\u202e'
    """
    return _CONTROLS.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return f"\\x{code:02x}"
    # Beyond four digits JSON has pairs.
    return f"\\u{code:04x}" if code < 0x10000 else f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def one_line(text: str) -> str:
    r"""Return `text` in one line, as `printable` does: no name that it holds can look like a line of ours.

    >>> one_line("a\nok 5 partitions")
    'a\\nok 5 partitions'
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def echo(text: str, *, err: bool = False) -> None:
    """Print a line that may hold text from outside."""
    click.echo(printable(text), err=err)
