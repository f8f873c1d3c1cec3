"""``streamdsl send``: lines of text into a Kafka topic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from streamdsl.cli.options import connection_options, settings_of
from streamdsl.cli.printing import echo
from streamdsl.cli.topic_clients import keyed, options_of, write
from streamdsl.errors import ConfigError

__all__ = ["command"]


@click.command("send")
@click.argument("topic")
@click.argument("file", required=False)
@click.option("--key", metavar="FIELD", help="The field of each JSON line that is the record's key.")
@connection_options
def command(topic: str, file: str | None, key: str | None, **flags: Any) -> int:
    """Write each line of FILE (default: of standard input) as a record of TOPIC; empty lines are passed over."""
    options = options_of(topic, settings_of(flags).config)
    try:
        with sys.stdin.buffer if file is None else Path(file).open("rb") as lines:
            count = write(topic, options, keyed(lines, key))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}", remedy="check its name") from error
    echo(f"{count} records to {topic}", err=True)
    return 0
