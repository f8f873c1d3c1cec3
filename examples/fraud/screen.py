"""What a person sees: alerts as they are found, a panel of figures, the totals."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl import Schema
from streamdsl.connectors.base import Json, Sink, SinkWriter

if TYPE_CHECKING:
    from streamdsl.runtime.run import Run

_REFRESH_S: Final = 0.25
_REPORT_S: Final = 10.0
#: Alert lines in one refresh; more than these would only flicker by.
_LINES: Final = 5
_KEPT_ROWS: Final = 64
_COLOURS: Final = {"critical": "\x1b[1;31m", "high": "\x1b[33m"}
_PLAIN: Final = "\x1b[0m"


class Board:
    """What the sink has seen; written by its task, read by the screen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_rule: Counter[str] = Counter()
        self._latest: deque[pa.RecordBatch] = deque(maxlen=_KEPT_ROWS)
        self._fresh = 0
        self.transactions: set[int] = set()
        self.whole = True

    def reset(self, by_rule: Mapping[str, int]) -> None:
        """Begin with the alerts of earlier runs."""
        with self._lock:
            self._by_rule = Counter(by_rule)
            self.transactions.clear()
            self.whole = not by_rule

    def note(self, rows: pa.RecordBatch, remember: bool) -> None:
        """Count rows and keep some to be shown."""
        counted = pc.value_counts(rows.column("rule")).to_pylist()
        ids = rows.column("transaction_id").to_pylist() if remember else ()
        with self._lock:
            self._by_rule.update({item["values"]: item["counts"] for item in counted})
            self._latest.append(rows.slice(0, _LINES))
            self._fresh += rows.num_rows
            self.transactions.update(ids)

    def by_rule(self) -> dict[str, int]:
        """Return the number of alerts of each rule, earlier runs included."""
        with self._lock:
            return dict(sorted(self._by_rule.items()))

    def fresh(self) -> tuple[list[dict[str, Any]], int]:
        """Return some of the alerts since the last call, and how many there were."""
        with self._lock:
            batches, count = list(self._latest), self._fresh
            self._latest.clear()
            self._fresh = 0
        rows: list[dict[str, Any]] = []
        for batch in batches:
            rows.extend(batch.slice(0, _LINES - len(rows)).to_pylist())
            if len(rows) == _LINES:
                break
        return rows, count


class ScreenSink(Sink):
    """Notes the alerts for the screen and hands them to the real sink, if there is one."""

    name = "alerts"

    def __init__(self, inner: Sink | None, *, remember: bool) -> None:
        self.board = Board()
        self.gathers = True
        self._inner = inner
        self._remember = remember

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Open the real sink behind what was committed."""
        known = cast(Mapping[str, Any], state or {"inner": None, "alerts": {}})
        self.board.reset(known["alerts"])
        inner = self._inner.open_writer(schema, keys, task, tasks, known["inner"]) if self._inner else None
        return ScreenWriter(inner, self.board, self._remember)


class ScreenWriter(SinkWriter):
    """Writes through; its state holds the real writer's and the number of alerts by rule."""

    def __init__(self, inner: SinkWriter | None, board: Board, remember: bool) -> None:
        self._inner = inner
        self._board = board
        self._remember = remember

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Hand rows on and note them."""
        if self._inner is not None:
            self._inner.write(rows, timestamps)
        if rows.num_rows:
            self._board.note(rows, self._remember)

    def flush(self) -> None:
        """Make visible."""
        if self._inner is not None:
            self._inner.flush()

    def snapshot(self, checkpoint_id: int) -> Json:
        """Make durable."""
        inner = None if self._inner is None else self._inner.snapshot(checkpoint_id)
        return {"inner": inner, "alerts": self._board.by_rule()}

    def commit(self, checkpoint_id: int) -> None:
        """Pass it on."""
        if self._inner is not None:
            self._inner.commit(checkpoint_id)

    def close(self) -> None:
        """Close the real writer."""
        if self._inner is not None:
            self._inner.close()


class Screen:
    """Follows a run. On a terminal a panel updates in place; elsewhere there are plain lines."""

    def __init__(self, run: Run, board: Board, *, quiet: bool = False, out: TextIO | None = None) -> None:
        self._run = run
        self._board = board
        self._quiet = quiet
        self._out = out or sys.stdout
        self._live = self._out.isatty() and not quiet
        self._began = time.monotonic()
        self._panel_lines = 0
        self._before: tuple[float, dict[str, int]] = (self._began, {})

    def follow(self) -> bool:
        """Show the run until it ends (True) or is interrupted (False)."""
        next_report = self._began + _REPORT_S
        try:
            while not self._run.wait(timeout=_REFRESH_S):
                self._show(report=time.monotonic() >= next_report)
                if time.monotonic() >= next_report:
                    next_report += _REPORT_S
        except KeyboardInterrupt:
            self._show(report=False)
            self._print("stopping: a last checkpoint is taken")
            self._run.stop()
            self._run.wait()
            return False
        self._show(report=False)
        return True

    def _show(self, *, report: bool) -> None:
        if self._quiet:
            return
        self._clear_panel()
        rows, count = self._board.fresh()
        for row in rows:
            self._print(self._alert_line(row))
        if count > len(rows):
            self._print(f"… and {count - len(rows)} more alerts")
        if report:
            for line in self._figures():
                self._print(line)
        elif self._live:
            lines = self._figures()
            self._print("\n".join(lines))
            self._panel_lines = len(lines)
        self._out.flush()

    def _clear_panel(self) -> None:
        if self._panel_lines:
            self._out.write(f"\x1b[{self._panel_lines}F\x1b[J")
            self._panel_lines = 0

    def _print(self, line: str) -> None:
        self._out.write(line + "\n")

    def _alert_line(self, row: Mapping[str, Any]) -> str:
        severity = row["severity"]
        # The account comes from outside: nothing in it may steer the terminal.
        text = f"{severity.upper():8} {row['rule']:14} {_printable(row['account_number'])}  {_printable(row['detail'])}"
        return f"{_COLOURS.get(severity, '')}{text}{_PLAIN}" if self._live else text

    def _figures(self) -> list[str]:
        """Return the figures of each task since the last time, and of the whole run."""
        metrics = self._run.metrics()
        now = time.monotonic()
        then, before = self._before
        lines = [f"— {now - self._began:.0f} s —"]
        counts: dict[str, int] = {}
        furthest = max((task["watermark"] or 0 for task in metrics["tasks"]), default=0)
        for task in metrics["tasks"]:
            key, done = task["id"], task["processed"]
            counts[key] = done
            rate = (done - before.get(key, 0)) / max(now - then, 1e-9)
            lines.append(f"{task['name']:40.40} {done:>12,} records {rate:>12,.0f}/s{_lag(task['watermark'], furthest)}")
        self._before = (now, counts)
        return [*lines, *self._summary(metrics)]

    def _summary(self, metrics: Mapping[str, Any]) -> list[str]:
        checkpoints = metrics["checkpoints"]
        latency = " ".join(f"{name} {_ms(value)}" for name, value in metrics["latency_ms"].items())
        rules = ", ".join(f"{rule} {count:,}" for rule, count in self._board.by_rule().items()) or "none"
        return [
            f"latency read → sink: {latency}",
            f"checkpoints: {checkpoints['completed']} completed, {checkpoints['failed']} failed, "
            f"the last took {_ms(checkpoints['last_duration_ms'])}",
            f"alerts: {rules}",
        ]

    def totals(self) -> None:
        """Show the totals of the run."""
        metrics = self._run.metrics()
        took = time.monotonic() - self._began
        read = sum(task["processed"] for task in metrics["tasks"] if "splits" in task)
        self._clear_panel()
        if not self._quiet:
            for line in self._figures()[:-3]:
                self._print(line)
        self._print(f"{read:,} transactions in {took:.2f} s ({read / max(took, 1e-9):,.0f}/s)")
        for line in self._summary(metrics):
            self._print(line)
        self._out.flush()

    def score(self, truth: Mapping[int, Any], output: Path | None) -> None:
        """Show precision and recall against the planted fraud.

        Precision: alerted transactions that are fraud. Recall: incidents with at least one alert.
        """
        alerted = self._board.transactions
        if output is not None:
            with output.open(encoding="utf-8") as file:
                alerted = {json.loads(line)["transaction_id"] for line in file}
        elif not self._board.whole:
            return
        right = sum(number in truth for number in alerted)
        planted: dict[str, set[int]] = {}
        found: dict[str, set[int]] = {}
        for number, one in truth.items():
            planted.setdefault(one.kind, set()).add(one.incident)
            if number in alerted:
                found.setdefault(one.kind, set()).add(one.incident)
        incidents, met = (sum(map(len, kinds.values())) for kinds in (planted, found))
        precision, recall = right / max(len(alerted), 1), met / max(incidents, 1)
        self._print(f"against the planted fraud: precision {precision:.1%}, recall {recall:.1%} of {incidents:,} incidents")
        for kind, all_ in sorted(planted.items()):
            self._print(f"  {kind:14} {len(found.get(kind, ())):>6,} of {len(all_):>6,} incidents")
        self._out.flush()


def _lag(watermark: int | None, furthest: int) -> str:
    """Return how far a task is behind the furthest one, in event time."""
    return "" if watermark is None else f"  watermark lag {(furthest - watermark) / 1000:,.1f} s"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} ms"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)
