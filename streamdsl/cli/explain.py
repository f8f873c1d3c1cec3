"""``streamdsl -A … explain``: the plan of a topology in its four forms."""

from __future__ import annotations

import click

from streamdsl.cli.printing import echo
from streamdsl.cli.target import load

__all__ = ["command"]


@click.command("explain")
@click.option("-c", "--concurrency", type=click.IntRange(1, 128), default=1, metavar="N", help="Tasks of each stage [default: 1].")
@click.pass_obj
def command(target: str | None, concurrency: int) -> None:
    """Print the plan: as typed, what it means, optimised, and how it runs."""
    echo(load(target).explain(parallelism=concurrency))
