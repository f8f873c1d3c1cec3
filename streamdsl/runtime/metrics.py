"""The figures of a job, as plain dicts."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamdsl.physical.node import PhysicalCounter, PhysicalPlan

if TYPE_CHECKING:
    from streamdsl._native.task.task import Task
    from streamdsl.runtime.job import Job

__all__ = ["LATENCY_BOUNDS_S", "CheckpointFigures", "StartFigures", "histogram", "of_job", "percentiles"]

#: Checkpoints that are remembered.
HISTORY = 100
#: Of the histogram that is shown.
LATENCY_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(slots=True)
class StartFigures:
    """How the run began. Times in ms, since 1970 on the wall; durations in ms."""

    at_ms: int = 0
    duration_ms: float | None = None
    #: The checkpoint that was restored, when, and how long that took.
    restored: int | None = None
    restore_at_ms: int | None = None
    restore_ms: float | None = None

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Measure the start."""
        self.at_ms, began = int(time.time() * 1000), time.monotonic()
        yield
        self.duration_ms = (time.monotonic() - began) * 1000

    @contextlib.contextmanager
    def restoring(self, checkpoint_id: int | None) -> Iterator[None]:
        """Measure what is restored; None: nothing is."""
        at_ms, began = int(time.time() * 1000), time.monotonic()
        yield
        if checkpoint_id is not None:
            self.restored, self.restore_at_ms, self.restore_ms = checkpoint_id, at_ms, (time.monotonic() - began) * 1000


@dataclass(slots=True)
class CheckpointFigures:
    """What became of the checkpoints so far. Durations in ms."""

    completed: int = 0
    failed: int = 0
    last_id: int | None = None
    last_duration_ms: int | None = None
    last_bytes: int | None = None
    longest_ms: int = 0
    #: The last ones, oldest first: {"id", "at_ms" (of its end, on the wall), "duration_ms", "bytes", "error"}.
    history: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def complete(self, checkpoint_id: int, duration_ms: int, size: int) -> None:
        """Note a completed checkpoint; `size` in bytes, of all its files."""
        self._note(checkpoint_id, duration_ms, size, None)
        self.completed += 1
        self.last_id, self.last_duration_ms, self.last_bytes = checkpoint_id, duration_ms, size
        self.longest_ms = max(self.longest_ms, duration_ms)

    def fail(self, checkpoint_id: int, duration_ms: int, reason: str) -> None:
        """Note a failed one."""
        self._note(checkpoint_id, duration_ms, 0, reason)
        self.failed += 1

    def _note(self, checkpoint_id: int, duration_ms: int, size: int, error: str | None) -> None:
        at_ms = int(time.time() * 1000)
        self.history.append({"id": checkpoint_id, "at_ms": at_ms, "duration_ms": duration_ms, "bytes": size, "error": error})

    def as_dict(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "completed": self.completed,
            "failed": self.failed,
            "last_id": self.last_id,
            "last_duration_ms": self.last_duration_ms,
            "last_bytes": self.last_bytes,
            "longest_ms": self.longest_ms,
            "history": list(self.history),
        }


def percentiles(buckets: dict[int, int], wanted: tuple[float, ...] = (0.50, 0.95, 0.99)) -> dict[str, float | None]:
    """Return percentiles in ms of a latency histogram ({upper bound in ns: rows}); None when it is empty."""
    total = sum(buckets.values())
    found: dict[str, float | None] = {f"p{round(p * 100)}": None for p in wanted}
    for p in wanted:
        seen = 0
        for bucket in sorted(buckets):
            seen += buckets[bucket]
            if total and seen >= p * total:
                found[f"p{round(p * 100)}"] = bucket / 1e6
                break
    return found


def histogram(buckets: dict[int, int]) -> dict[str, Any]:
    """Return {"buckets": {upper bound in s: rows}, "sum_s"} of a latency histogram ({upper bound in ns: rows}); the last bound is None.

    The fine buckets are 6 % wide at most: a row may be counted in the next coarse one by as much, and the sum is so much too high.
    """
    found: dict[float | None, int] = dict.fromkeys((*LATENCY_BOUNDS_S, None), 0)
    for upper_ns, rows in buckets.items():
        found[next((bound for bound in LATENCY_BOUNDS_S if upper_ns <= 1.07e9 * bound), None)] += rows
    return {"buckets": found, "sum_s": sum(upper * rows for upper, rows in buckets.items()) / 1e9}


def of_job(job: Job) -> dict[str, Any]:
    """Return {"job", "tasks", "operators", "counters", "checkpoints", "latency_ms", "latency", "sinks", "state", "phase"}.

    A task's figures are its own, and "latency_ms" is there where it has sinks; "operators" adds them up over the tasks of a stage.
    """
    natives = job.tasks  # asked once: another thread may be deploying them
    tasks = [task.metrics() for task in natives]
    operators: dict[str, dict[str, Any]] = {}
    latency: dict[int, int] = {}
    for native, task in zip(natives, tasks, strict=True):
        buckets = native.latency_buckets()
        for bucket, rows in buckets.items():
            latency[bucket] = latency.get(bucket, 0) + rows
        if any("written" in figures for figures in task["operators"].values()):
            task["latency_ms"] = percentiles(buckets)
        for name, figures in task["operators"].items():
            total = operators.setdefault(name, {})
            for figure, value in figures.items():
                total[figure] = total.get(figure, 0) + value if isinstance(value, int | float) else value
    return {
        "job": job.plan.name,
        "tasks": tasks,
        "operators": operators,
        "start": dataclasses.asdict(job.start),
        "counters": _counters(job.plan, operators),
        "checkpoints": {
            **job.checkpoints.as_dict(),
            "interval_ms": job.config.checkpoint_interval_ms,
            "timeout_ms": job.config.checkpoint_timeout_ms,
        },
        "latency_ms": percentiles(latency),
        "latency": histogram(latency),
        "sinks": {name: figures["written"] for name, figures in operators.items() if "written" in figures},
        "state": _state(natives),
        "phase": job.phase.value,
    }


def _counters(plan: PhysicalPlan, operators: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return what each `Stream.counter` has counted since the start, by the name of its metric."""
    found: dict[str, int] = {}
    for stage in plan.stages:
        for operator in stage.operators:
            if isinstance(operator, PhysicalCounter):
                found[operator.metric] = found.get(operator.metric, 0) + operators.get(operator.name, {}).get(operator.metric, 0)
    return found


def _state(tasks: Sequence[Task]) -> dict[str, int]:
    total = {"bytes": 0, "keys": 0, "cold_keys": 0, "evicted": 0, "reads": 0}
    for task in tasks:
        if task.store is not None:
            for name, value in task.store.figures().items():
                total[name] += value
    return total
