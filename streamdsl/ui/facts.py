"""What the page shows of a run: its shape, once, and its figures, again and again. Plain JSON values."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from streamdsl._native.flow.convert import python_rows
from streamdsl._native.operators.sink import SinkOperator
from streamdsl.config import Config
from streamdsl.logical.drawing import Kind, arranged, path_of
from streamdsl.physical import node
from streamdsl.runtime.health import Health
from streamdsl.runtime.run import Run
from streamdsl.runtime.sink_rows import Watcher
from streamdsl.runtime.state_text import plain
from streamdsl.secret import redacted

__all__ = ["Errors", "Facts", "Samples"]

#: A look at the run is shared by all who ask within this time.
LOOK_S: Final = 0.5
_ROWS: Final = 20
_ERRORS: Final = 50
#: Rows are taken from a sink at most this often.
_SAMPLE_S: Final = 0.25


class Errors(logging.Handler):
    """The last warnings and errors of the library's log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last: deque[dict[str, Any]] = deque(maxlen=_ERRORS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self._last.append({"at_ms": int(record.created * 1000), "level": record.levelname, "text": record.getMessage()[:2000]})

    def as_list(self) -> list[dict[str, Any]]:
        """Return them, oldest first."""
        return list(self._last)


class Samples:
    """The last rows of each sink, taken as they are written."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def follow(self, run: Run) -> None:
        """Look at the sinks of the run that is on, which may have been started again."""
        for operator in run.operators():
            if isinstance(operator, SinkOperator) and not any(isinstance(other, _Sample) for other in operator.watchers):
                operator.watchers += (_Sample(self, operator.name),)

    def take(self, name: str, table: Any) -> None:
        """Keep the last rows of a table."""
        rows = python_rows(table.slice(max(0, table.num_rows - _ROWS)))
        with self._lock:
            self._rows.setdefault(name, deque(maxlen=_ROWS)).extend(rows)

    def as_dict(self) -> dict[str, Any]:
        """Return {sink: rows, the latest first}."""
        with self._lock:
            return {name: plain(list(reversed(rows))) for name, rows in self._rows.items()}


class _Sample(Watcher):
    def __init__(self, samples: Samples, name: str) -> None:
        self._samples, self._name, self._next = samples, name, 0.0

    def on_rows(self, table: Any) -> None:
        """Keep some rows, now and then."""
        now = time.monotonic()
        if now >= self._next and table.num_rows:
            self._next = now + _SAMPLE_S
            self._samples.take(self._name, table)


class Facts:
    """What a run is and does.

    Parameters
    ----------
    run : Run
    plans : mapping
        The forms of the plan, as text, by their titles.
    config : Config
    rows : bool
        Whether rows of sinks are shown.
    """

    def __init__(self, run: Run, plans: Mapping[str, str], config: Config, *, rows: bool) -> None:
        self.run, self._plans, self._config = run, plans, config
        self.samples = Samples() if rows else None
        self.errors = Errors()
        self._health = Health(run)
        self._lock = threading.Lock()
        self._looked_at, self._figures = 0.0, dict[str, Any]()
        logging.getLogger("streamdsl").addHandler(self.errors)

    def close(self) -> None:
        """Look no more."""
        logging.getLogger("streamdsl").removeHandler(self.errors)

    def shape(self) -> dict[str, Any]:
        """Return what does not change while the run is on."""
        plan = self.run.plan
        return {
            "job": plan.name,
            "parallelism": plan.parallelism,
            "graph": graph(plan),
            "plans": dict(self._plans),
            "config": settings(self._config),
            "tables": list(self.run.tables()),
            "rows": self.samples is not None,
        }

    def figures(self) -> dict[str, Any]:
        """Return how the run is now: `Run.metrics`, its health, its last errors, rows of its sinks."""
        with self._lock:
            now = time.monotonic()
            if not self._figures or now - self._looked_at >= LOOK_S:
                self._looked_at = now
                try:
                    self._health.look()
                except Exception as error:  # noqa: BLE001 - the edge of the page: who cannot look does not say that all is well
                    self._health.cannot_look(error)
                if self.samples is not None:
                    self.samples.follow(self.run)
                self._figures = {
                    "at_ms": int(time.time() * 1000),
                    "metrics": plain(_named(self._health.metrics)),
                    "health": self._health.report(),
                    "errors": self.errors.as_list(),
                    "rows": {} if self.samples is None else self.samples.as_dict(),
                }
            return self._figures


def _named(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures without what is made for Prometheus alone, and with the end of time as a word."""
    found = {name: value for name, value in metrics.items() if name != "latency"}
    found["tasks"] = [
        {
            **task,
            "watermark": _moment(task["watermark"]),
            "watermarks": {split: _moment(at) for split, at in task.get("watermarks", {}).items()},
        }
        for task in metrics.get("tasks", [])
    ]
    return found


def _moment(at: int | None) -> int | str | None:
    """Return a time in ms; what JavaScript cannot hold as a number is the end of all."""
    return at if at is None or abs(at) < 1 << 53 else "end"


def settings(config: Config) -> dict[str, str]:
    """Return a configuration for people to see, without secrets."""
    found = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    found["kafka"] = redacted(config.kafka)
    return {name: str(value) for name, value in found.items() if value not in (None, (), {}, "")}


def graph(plan: node.PhysicalPlan) -> dict[str, Any]:
    """Return the stages of a plan as boxes and the exchanges between them as lines, laid out."""
    nodes: list[tuple[Kind, str, tuple[str, ...]]] = []
    joined, tags = [], []
    for stage in plan.stages:
        names = [operator.name for operator in stage.operators if not isinstance(operator, node.PhysicalKeyEncode | node.PhysicalKeyLookup)]
        kinds = [type(operator) for operator in stage.operators]
        kind: Kind = "source" if node.PhysicalSource in kinds else "state" if node.PhysicalKeyLookup in kinds else "step"
        kind = "sink" if kinds == [node.PhysicalSink] else kind
        shown = [_short(name) for name in dict.fromkeys(names)]
        more = [f"… and {len(shown) - 6} more"] if len(shown) > 7 else []
        # Room for the figures, which the page writes into the box.
        nodes.append((kind, f"stage {stage.id}", (f"stage {stage.id} × {stage.parallelism}", *shown[: 6 if more else 7], *more, " " * 36)))
        for edge in stage.edges:
            joined.append((edge.stage, stage.id))
            tags.append(f"{edge.partition}{f' {edge.tag}' if edge.tag else ''}")
    made = arranged(nodes, joined)
    return {
        "width": made.width,
        "height": made.height,
        "boxes": [dataclasses.asdict(box) for box in made.boxes],
        "lines": [
            {"source": line.source, "target": line.target, "path": path_of(line), "at": _middle(line.points), "text": text}
            for line, text in zip(made.lines, tags, strict=True)
        ],
    }


def _middle(points: tuple[tuple[float, float], ...]) -> tuple[float, float]:
    (ax, ay), (bx, by) = points[0], points[1]
    return (ax + bx) / 2, (ay + by) / 2


def _short(name: str) -> str:
    return name if len(name) <= 44 else name[:43] + "…"
