"""What a worker shows while it runs: rows as they are committed, and every ten seconds a table of its tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from streamdsl.cli.log import refused, rows_in
from streamdsl.cli.printing import one_line
from streamdsl.runtime.sink_rows import CommittedRows

__all__ = ["Figures", "Rows"]

_log = logging.getLogger("streamdsl")

#: How often the figures are told.
EVERY_S: Final = 10.0
#: How often rows are shown, and how many of each sink then: more would only flicker by.
ROWS_EVERY_S: Final = 1.0
_LINES: Final = 5
#: Characters of a row.
_WIDTH: Final = 200
#: Partitions in the table; those with most lag come first.
_PARTITIONS: Final = 16
_END_OF_TIME: Final = (1 << 63) - 1
#: Rows with a column "severity" have its colour in a terminal.
_COLOURS: Final = {"critical": "31;1", "error": "31;1", "high": "33", "warning": "33"}


class Rows:
    """Logs some rows of each sink, at INFO, once they are committed."""

    def __init__(self, committed: CommittedRows, every_s: float = ROWS_EVERY_S) -> None:
        self._committed, self._every_s = committed, every_s
        self._told_at = time.monotonic() - every_s

    def tell(self, *, last: bool = False) -> None:
        """Log what has come, if it is time for it or nothing follows."""
        if not _log.isEnabledFor(logging.INFO):
            return
        now = time.monotonic()
        if now - self._told_at < self._every_s and not last:
            return
        self._told_at = now
        for name, (count, rows) in self._committed.take().items():
            shown = rows[:_LINES]
            for row in shown:
                _log.info("%s", _line(name, row), extra={"colour": _COLOURS.get(str(row.get("severity")).lower())})
            if count > len(shown):
                _log.info("%s  … and %s more committed", one_line(name), f"{count - len(shown):,}")


def _line(name: str, row: Mapping[str, Any]) -> str:
    """Return a row as a line: what is null is left out."""
    text = " ".join(f"{column}={_value(value)}" for column, value in row.items() if value is not None)
    line = one_line(f"{name}  {text}")
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value) if isinstance(value, bytes | list | dict) else str(value)


class Figures:
    """Tells every ten seconds, at INFO, what has come and gone since, and a table of the tasks.

    Parameters
    ----------
    metrics : callable
        Returns `Run.metrics()`.
    every_s : float
    table : bool
        Whether the table follows the line.
    bounded : bool
        Whether the input ends: then it is said how much of it has been read, where that is known.
    """

    def __init__(
        self,
        metrics: Callable[[], Mapping[str, Any]],
        every_s: float = EVERY_S,
        *,
        table: bool = True,
        bounded: bool = False,
    ) -> None:
        self._metrics, self._every_s, self._table, self._bounded = metrics, every_s, table, bounded
        self._told_at = time.monotonic()
        self._before = (0, 0)
        self._bytes_before: int | None = None
        self._processed: dict[str, int] = {}

    def tell(self) -> None:
        """Log the figures, if it is time for them."""
        seconds = time.monotonic() - self._told_at
        if seconds >= self._every_s:
            self.tell_now(seconds)

    def tell_now(self, seconds: float | None = None) -> None:
        """Log the figures of the time since they were told last."""
        now = time.monotonic()
        seconds = now - self._told_at if seconds is None else seconds
        if not _log.isEnabledFor(logging.INFO):
            return
        figures = self._metrics()
        seconds = max(seconds, 1e-3)
        self._tell_whole(figures, seconds)
        if self._table:
            for line in self._lines(figures, seconds):
                _log.info("%s", one_line(line))
        self._processed = {task["id"]: task["processed"] for task in figures["tasks"] if "processed" in task}
        self._told_at, self._before = now, (rows_in(figures), sum(figures["sinks"].values()))

    def _tell_whole(self, figures: Mapping[str, Any], seconds: float) -> None:
        read, written = rows_in(figures), sum(figures["sinks"].values())
        lags = [lag for task in figures["tasks"] for lag in task.get("lag", {}).values() if lag is not None]
        checkpoints = figures["checkpoints"]
        failed = f", {checkpoints['failed']} failed" if checkpoints["failed"] else ""
        last = "none yet" if checkpoints["last_id"] is None else f"{checkpoints['last_id']} in {checkpoints['last_duration_ms']} ms"
        _log.info(
            "%s records/s in, %s/s out%s%s%s; checkpoint %s%s",
            f"{(read - self._before[0]) / seconds:,.0f}",
            f"{(written - self._before[1]) / seconds:,.0f}",
            f", lag {sum(lags):,}" if lags else "",
            self._backfill(figures, read, lags, seconds) if self._bounded else "",
            refused(figures),
            last,
            failed,
        )

    def _backfill(self, figures: Mapping[str, Any], read: int, lags: Sequence[int], seconds: float) -> str:
        """Return how much of an input with a known end has been read, and how long the rest takes, by bytes or by records."""
        known = [found for task in figures["tasks"] for found in task.get("bytes", {}).values() if found is not None]
        done, whole = (sum(column) for column in zip(*known, strict=True)) if known else (0, 0)
        before, self._bytes_before = self._bytes_before, done
        # Of one kind alone: records and bytes say nothing of each other.
        if lags and not known:
            return _share(read, read + sum(lags), (read - self._before[0]) / seconds)
        if known and not lags:
            return _share(done, whole, 0.0 if before is None else (done - before) / seconds)
        return ""

    def _lines(self, figures: Mapping[str, Any], seconds: float) -> Iterator[str]:
        yield f"  {'task':<44} {'records':>13} {'records/s':>11} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'watermark lag':>14}"
        for task in figures["tasks"]:
            done = task["processed"]
            rate = (done - self._processed.get(task["id"], 0)) / seconds
            latency = task.get("latency_ms", {})
            times = " ".join(f"{_ms(latency.get(name)):>8}" for name in ("p50", "p95", "p99"))
            title = f"{task['id']} {task['name']}"
            yield f"  {_cut(title, 44):<44} {done:>13,} {rate:>11,.0f} {times} {_lag(task['watermark']):>14}"
        checkpoints = figures["checkpoints"]
        yield (
            f"  checkpoints: {checkpoints['completed']:,} completed, {checkpoints['failed']:,} failed, "
            f"the longest {checkpoints['longest_ms']:,} ms"
        )
        yield from _partitions(figures)
        yield from _listed("written", figures["sinks"])
        yield from _listed("counted", figures["counters"])


def _share(done: int, whole: int, rate: float) -> str:
    left = f", about {(whole - done) / rate:,.0f} s left" if whole > done and rate > 0 else ""
    return f", {done / max(whole, 1):.0%} read{left}"


def _listed(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    if counts:
        yield f"  {title}: {', '.join(f'{name} {count:,}' for name, count in counts.items())}"


def _partitions(figures: Mapping[str, Any]) -> Iterator[str]:
    lags = [(lag, str(split)) for task in figures["tasks"] for split, lag in task.get("lag", {}).items() if lag is not None]
    if not lags:
        return
    shown = sorted(lags, key=lambda one: (-one[0], one[1])) if len(lags) > _PARTITIONS else lags
    more = f" … and {len(lags) - _PARTITIONS} more" if len(lags) > _PARTITIONS else ""
    yield f"  lag by partition: {', '.join(f'{split} {lag:,}' for lag, split in shown[:_PARTITIONS])}{more}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"


def _lag(watermark: int | None) -> str:
    """Return by how much a watermark is behind the clock on the wall."""
    if watermark is None or watermark == _END_OF_TIME:
        return "–"
    seconds = time.time() - watermark / 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} s"
