"""The command line: ``streamdsl --help``. One command a file; what they share stands beside them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 when what was asked for failed, 2 when it was asked for wrongly."""
    from streamdsl.cli.app import run

    return run(argv)
