"""What a worker logs for its operators: lines of JSON for machines, and its figures now and then."""

from __future__ import annotations

import datetime
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["Figures", "JsonLines", "rows_in", "totals"]

_log = logging.getLogger("streamdsl")

#: How often the figures are told.
EVERY_S: Final = 10.0


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
        return json.dumps(told, ensure_ascii=False)


def rows_in(figures: Mapping[str, Any]) -> int:
    """Return how many records all sources have read."""
    return sum(sum(task.get("splits", {}).values()) for task in figures["tasks"])


def _refused(figures: Mapping[str, Any]) -> str:
    rejected = sum(task.get("rejected", 0) for task in figures["tasks"])
    late = sum(operator.get("late", 0) for operator in figures["operators"].values())
    return "".join(f", {count:,} {what}" for count, what in ((late, "late"), (rejected, "bad")) if count)


def totals(figures: Mapping[str, Any]) -> str:
    """Return how many records a run has read and written, and how many it refused."""
    return f"{rows_in(figures):,} records in, {sum(figures['sinks'].values()):,} out{_refused(figures)}"


class Figures:
    """Tells every ten seconds, at INFO, what has come and gone since; `metrics` returns the figures of the run."""

    def __init__(self, metrics: Callable[[], Mapping[str, Any]], every_s: float = EVERY_S) -> None:
        self._metrics, self._every_s = metrics, every_s
        self._told_at = time.monotonic()
        self._before = (0, 0)

    def tell(self) -> None:
        """Log a line, if it is time for one."""
        now = time.monotonic()
        seconds = now - self._told_at
        if seconds < self._every_s or not _log.isEnabledFor(logging.INFO):
            return
        figures = self._metrics()
        read, written = rows_in(figures), sum(figures["sinks"].values())
        lags = [lag for task in figures["tasks"] for lag in task.get("lag", {}).values() if lag is not None]
        checkpoints = figures["checkpoints"]
        failed = f", {checkpoints['failed']} failed" if checkpoints["failed"] else ""
        last = "none yet" if checkpoints["last_id"] is None else f"{checkpoints['last_id']} in {checkpoints['last_duration_ms']} ms"
        _log.info(
            "%s records/s in, %s/s out%s%s; checkpoint %s%s",
            f"{(read - self._before[0]) / seconds:,.0f}",
            f"{(written - self._before[1]) / seconds:,.0f}",
            f", lag {sum(lags):,}" if lags else "",
            _refused(figures),
            last,
            failed,
        )
        self._told_at, self._before = now, (read, written)
