"""``streamdsl tail``: the last records of a Kafka topic, and those that come."""

from __future__ import annotations

import json
from typing import Any

import click

from streamdsl.cli.options import connection_options, settings_of
from streamdsl.cli.printing import echo, one_line
from streamdsl.cli.topic_clients import options_of, read

__all__ = ["command"]


@click.command("tail")
@click.argument("topic")
@click.option("-n", "last", type=click.IntRange(0), default=10, show_default=True, help="So many of the last ones of each partition.")
@click.option("--all", "everything", is_flag=True, help="All from the beginning.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after so many.")
@click.option("--keys", is_flag=True, help="Show partition, offset and key in front of each value.")
@connection_options
def command(topic: str, last: int, everything: bool, follow: bool, limit: int | None, keys: bool, **flags: Any) -> int:
    """Show the last records of TOPIC that are committed, a line each. Nobody's position changes."""

    def show(message: Any) -> None:
        value = "" if message.value() is None else _line(message.value())
        key = "–" if message.key() is None else one_line(message.key().decode("utf-8", "backslashreplace"))
        echo(f"{message.partition()}:{message.offset()}\t{key}\t{value}" if keys else value)

    options = options_of(topic, settings_of(flags).config)
    read(topic, options, last=None if everything else last, follow=follow, show=show, limit=limit)
    return 0


def _line(value: bytes) -> str:
    """Return a value in one line; JSON stays JSON."""
    text = value.decode("utf-8", "backslashreplace")
    if "\n" in text and text.lstrip().startswith(("{", "[")):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            return text.replace("\n", " ")  # between tokens: no text of JSON has a line end
    # A tab ends a column where keys are shown.
    return one_line(text)
