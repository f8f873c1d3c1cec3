"""How a worker logs: lines of JSON for machines, lines with colours for a terminal; and its figures in words."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
from collections.abc import Mapping
from typing import Any, Final, TextIO

from streamdsl.cli.printing import printable

__all__ = ["FORMAT", "ColouredLines", "JsonLines", "Lines", "has_colours", "refused", "rows_in", "totals"]

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Where a line that is not the first begins at the margin.
_AT_MARGIN: Final = re.compile(r"\n(?=[^\s])")
#: By level; a record may say another one as its `colour`.
_COLOURS: Final = {logging.WARNING: "33", logging.ERROR: "31;1", logging.CRITICAL: "31;1"}


def has_colours(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether lines on a stream may have colours: it is a terminal that knows them, and nobody has said NO_COLOR."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Lines(logging.Formatter):
    """Lines of text. What brokers, registries and records say in them steers no terminal, and looks like no line of its own."""

    def __init__(self, form: str = FORMAT) -> None:
        super().__init__(form)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what follows it is indented."""
        return printable(_AT_MARGIN.sub("\n  ", super().format(record)))


class ColouredLines(Lines):
    """Lines with the colour of their level, or that of the record's `colour`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = super().format(record)
        colour = getattr(record, "colour", None) or _COLOURS.get(record.levelno)
        return line if colour is None else f"\x1b[{colour}m{line}\x1b[0m"


class JsonLines(logging.Formatter):
    """One JSON object a record: ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``, and ``error`` with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        told = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return printable(json.dumps(told, ensure_ascii=False))


def rows_in(figures: Mapping[str, Any]) -> int:
    """Return how many records all sources have read."""
    return sum(sum(task.get("splits", {}).values()) for task in figures["tasks"])


def refused(figures: Mapping[str, Any]) -> str:
    """Return how many records were late or bad, as the end of a sentence."""
    rejected = sum(task.get("rejected", 0) for task in figures["tasks"])
    late = sum(operator.get("late", 0) for operator in figures["operators"].values())
    return "".join(f", {count:,} {what}" for count, what in ((late, "late"), (rejected, "bad")) if count)


def totals(figures: Mapping[str, Any]) -> str:
    """Return how many records a run has read and written, and how many it refused."""
    return f"{rows_in(figures):,} records in, {sum(figures['sinks'].values()):,} out{refused(figures)}"
