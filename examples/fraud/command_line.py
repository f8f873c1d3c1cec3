"""The options of the fraud example, checked against one another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import click

from .routing import PLACES

Rules = Literal["declared", "processors", "all"]

#: What `--with` takes.
PARTS: Final = ("model", "customers", "customer-changes", "statistics", *PLACES)


@dataclass(frozen=True)
class Asked:
    """What a command line asks for."""

    input: tuple[str, ...]
    output: str | None
    rate: float | None
    broker: str | None
    parallelism: int
    checkpoint_interval: str
    state_dir: str | None
    state_memory: str
    rules: Rules
    parts: tuple[str, ...]
    customers: str | None
    statistics: str | None
    ui: int | None
    quiet: bool


class _Rate(click.ParamType):
    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value == "max":
            return None
        try:
            rate = float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor max", param, ctx)
        if not 0 < rate < float("inf"):
            self.fail("a rate is a number above 0, or max", param, ctx)
        return rate


class _Parts(click.ParamType):
    name = "parts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        named = tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value
        if strange := set(named) - set(PARTS):
            self.fail(f"there is no {', '.join(sorted(strange))}; there are {', '.join(PARTS)}", param, ctx)
        return named


def check(asked: Asked) -> None:
    """Refuse options that do not go together.

    Raises
    ------
    click.UsageError
        One of them needs another, or excludes it.
    """
    if "critical" in asked.parts and not asked.broker:
        raise click.UsageError("--with critical parts the topic of alerts: it needs --broker")
    if asked.broker and (asked.input or asked.output or asked.statistics or asked.customers):
        raise click.UsageError("--broker reads and writes topics: leave --input, --output, --statistics and --customers out")
    if not asked.broker and ("statistics" in asked.parts) != bool(asked.statistics):
        raise click.UsageError("--with statistics needs --broker, or --statistics FILE; and --statistics needs --with statistics")
    if not asked.broker and ("customer-changes" in asked.parts) != bool(asked.customers):
        raise click.UsageError("--with customer-changes needs --broker, or --customers FILE; and --customers needs --with customer-changes")
    if {"customers", "customer-changes"} <= set(asked.parts):
        raise click.UsageError("--with customers and --with customer-changes are the same rule in two ways: take one")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("more", nargs=-1, metavar="")
@click.option("--input", "inputs", multiple=True, metavar="FILE...", help="CSV, JSON lines, Parquet or Arrow.  [default: sample data]")
@click.option("--output", metavar="FILE", help="Alerts as JSON lines.")
@click.option("--rate", type=_Rate(), default="max", metavar="N|max", show_default=True, help="Records read per second, in all.")
@click.option("--broker", metavar="HOST:PORT", help="Read the Kafka topic bank-transactions and write fraud-alerts.")
@click.option("--parallelism", type=click.IntRange(min=1), default=1, metavar="N", show_default=True, help="Tasks of each stage.")
@click.option("--checkpoint-interval", default="5s", metavar="D", show_default=True, help="For instance 500ms.")
@click.option("--state-dir", metavar="DIR", help="Go on where a run with this directory was.  [default: a fresh run]")
@click.option("--state-memory", default="256MiB", metavar="BYTES", show_default=True, help="Memory for keyed state.")
@click.option(
    "--rules",
    type=click.Choice(("declared", "processors", "all")),
    default="declared",
    show_default=True,
    help="The three rules as verbs or in Python; or all eight, on another sample.",
)
@click.option(
    "--with", "parts", type=_Parts(), default=(), metavar="PART,...", help=f"What needs more than the library: {', '.join(PARTS)}."
)
@click.option("--customers", metavar="FILE", help="Change events, as customers.py --changes makes them; with --with customer-changes.")
@click.option("--statistics", metavar="FILE", help="Of accounts and cities, as JSON lines; with --with statistics.")
@click.option(
    "--ui", is_flag=False, flag_value=8081, type=click.IntRange(0, 65535), metavar="[PORT]", help="Serve the live page.  [port: 8081]"
)
@click.option("--quiet", is_flag=True, help="The totals only.")
def _command(inputs: tuple[str, ...], more: tuple[str, ...], **values: Any) -> Asked:
    """Find fraud in bank transactions."""
    if more and not inputs:
        raise click.UsageError(f"unexpected {' '.join(more)}: files to read stand behind --input")
    asked = Asked(input=inputs + more, **values)
    check(asked)
    return asked


def arguments(argv: Sequence[str] | None, prog: str | None = None) -> Asked:
    """Return what the command line says.

    Raises
    ------
    SystemExit
        It asks for help (0), or cannot be done as it stands (2).
    """
    try:
        asked = _command.main(args=None if argv is None else list(argv), prog_name=prog or Path(sys.argv[0]).name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    if not isinstance(asked, Asked):  # what --help leaves with
        raise SystemExit(asked)
    return asked
